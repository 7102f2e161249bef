/* What changes while one looks: quantities that move, and counters. */
#include <time.h>

#include "nvml_private.h"

enum { PERIOD = 60000 }; /* milliseconds from the least to the most and back */

long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* GPUs are not all at the same point of their way. */
long long current(handle device, enum device_key key) {
    struct value *value = &device->value[key];
    if (!value->most) return value->number;
    long long at = (milliseconds() + gpu_of(device)->index * 7000LL) % PERIOD;
    long long way = at < PERIOD / 2 ? at : PERIOD - at;
    return value->number + (value->most - value->number) * way / (PERIOD / 2);
}

/* What a rate, a second, has come to since the machine was started. */
static int grown(handle device, enum device_key rate, long long unit, ullong *count) {
    if (!device->value[rate].given) return NOT_SUPPORTED;
    *count = (ullong)(device->value[rate].number / 1000.0 * milliseconds() / unit);
    return SUCCESS;
}

int read_counter(handle device, uint field, ullong *count) {
    struct value *value = device->value;
    switch (field) {
    case 82: /* NVML_FI_DEV_MEMORY_TEMP, degrees */
        *count = (ullong)value[F_temperature_memory].number;
        return value[F_temperature_memory].given ? SUCCESS : NOT_SUPPORTED;
    case 83: /* NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, mJ */
        if (!value[F_energy_counter].number) return NOT_SUPPORTED;
        return grown(device, F_power_usage, 1, count);
    case 94: /* NVML_FI_DEV_PCIE_REPLAY_COUNTER */
        *count = (ullong)value[F_pcie_replays].number;
        return value[F_pcie_replays].given ? SUCCESS : NOT_SUPPORTED;
    case 138: /* NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, KiB */
        return grown(device, F_link_sent, 1024, count);
    case 139: /* NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, KiB */
        return grown(device, F_link_received, 1024, count);
    case 197: /* NVML_FI_DEV_PCIE_COUNT_TX_BYTES */
        return grown(device, F_pcie_sent, 1, count);
    case 198: /* NVML_FI_DEV_PCIE_COUNT_RX_BYTES */
        return grown(device, F_pcie_received, 1, count);
    default: return NOT_SUPPORTED;
    }
}
