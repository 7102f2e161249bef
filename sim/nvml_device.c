/* What NVML says of one device.  Most functions read one key of the description, so most of this
 * file is tables. */
#include <stdio.h>
#include <string.h>

#include "nvml_private.h"

/* ---- functions that read one key ---- */

#define NUMBER_GETTER(function, type, key) \
    API function(handle device, type *out) { \
        long long number; \
        int code = read_number(__func__, device, F_##key, out, &number); \
        if (!code) *out = (type)number; \
        return code; \
    }
NUMBER_GETTER(nvmlDeviceGetMinorNumber, uint, minor_number)
NUMBER_GETTER(nvmlDeviceGetArchitecture, uint, architecture)
NUMBER_GETTER(nvmlDeviceGetComputeMode, uint, compute_mode)
NUMBER_GETTER(nvmlDeviceGetPersistenceMode, uint, persistence_mode)
NUMBER_GETTER(nvmlDeviceGetVirtualizationMode, uint, virtualization_mode)
NUMBER_GETTER(nvmlDeviceGetDisplayMode, uint, display_mode)
NUMBER_GETTER(nvmlDeviceGetDisplayActive, uint, display_active)
NUMBER_GETTER(nvmlDeviceGetPerformanceState, uint, performance_state)
NUMBER_GETTER(nvmlDeviceGetFanSpeed, uint, fan_speed)
NUMBER_GETTER(nvmlDeviceGetPowerUsage, uint, power_usage)
NUMBER_GETTER(nvmlDeviceGetEnforcedPowerLimit, uint, power_limit)
NUMBER_GETTER(nvmlDeviceGetPowerManagementLimit, uint, power_limit)
NUMBER_GETTER(nvmlDeviceGetCurrentClocksEventReasons, ullong, clocks_event_reasons)
NUMBER_GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, ullong, clocks_event_reasons)
NUMBER_GETTER(nvmlDeviceGetRetiredPagesPendingStatus, uint, retired_pages_pending)
NUMBER_GETTER(nvmlDeviceGetCurrPcieLinkWidth, uint, pcie_width)
NUMBER_GETTER(nvmlDeviceGetMaxPcieLinkWidth, uint, pcie_width_max)
NUMBER_GETTER(nvmlDeviceGetCurrPcieLinkGeneration, uint, pcie_generation)
NUMBER_GETTER(nvmlDeviceGetMaxPcieLinkGeneration, uint, pcie_generation_max)
NUMBER_GETTER(nvmlDeviceGetNumaNodeId, uint, gpu_numa_id)

/* Two keys at once, such as a mode that is and a mode that will be after a reset. */
#define TWO_NUMBERS_GETTER(function, first_key, second_key) \
    API function(handle device, uint *first, uint *second) { \
        long long one, two; \
        int code = read_number(__func__, device, F_##first_key, first, &one); \
        if (code) return code; \
        if (!second) return INVALID_ARGUMENT; \
        two = device->value[F_##second_key].given ? device->value[F_##second_key].number : one; \
        *first = (uint)one, *second = (uint)two; \
        return SUCCESS; \
    }
TWO_NUMBERS_GETTER(nvmlDeviceGetMigMode, mig_mode, mig_mode_pending)
TWO_NUMBERS_GETTER(nvmlDeviceGetEccMode, ecc_mode, ecc_mode_pending)

/* A utilization and the microseconds it was sampled over. */
#define SAMPLE_GETTER(function, key) \
    API function(handle device, uint *percent, uint *period) { \
        long long number; \
        int code = read_number(__func__, device, F_##key, percent, &number); \
        if (code) return code; \
        if (!period) return INVALID_ARGUMENT; \
        *percent = (uint)number, *period = 167000; \
        return SUCCESS; \
    }
SAMPLE_GETTER(nvmlDeviceGetEncoderUtilization, utilization_encoder)
SAMPLE_GETTER(nvmlDeviceGetDecoderUtilization, utilization_decoder)

#define TEXT_GETTER(function, key) \
    API function(handle device, char *buffer, uint size) { \
        long long unused; \
        int code = read_number(__func__, device, F_##key, buffer, &unused); \
        return code ? code : copy_text(text_of(&device->value[F_##key]), buffer, size); \
    }
TEXT_GETTER(nvmlDeviceGetName, name)
TEXT_GETTER(nvmlDeviceGetUUID, uuid)
TEXT_GETTER(nvmlDeviceGetSerial, serial)
TEXT_GETTER(nvmlDeviceGetVbiosVersion, vbios_version)

/* Only MIG instances have these; asked of a GPU the driver says INVALID_ARGUMENT. */
#define MIG_NUMBER_GETTER(function, key) \
    API function(handle device, uint *out) { \
        long long number; \
        int code = read_number(__func__, device, F_##key, out, &number); \
        if (!code) *out = (uint)number; \
        return code == NOT_SUPPORTED && !device->parent ? INVALID_ARGUMENT : code; \
    }
MIG_NUMBER_GETTER(nvmlDeviceGetGpuInstanceId, gpu_instance)
MIG_NUMBER_GETTER(nvmlDeviceGetComputeInstanceId, compute_instance)

/* ---- identity ---- */

void fill_pci(struct pci_info *info, const char *bus_id) {
    uint part[4];
    if (!split_bus_id(bus_id, part)) return;
    info->domain = part[0], info->bus = part[1], info->device = part[2];
    snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.%X", part[0], part[1], part[2],
             part[3]);
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.%X", part[0] & 0xffff,
             part[1], part[2], part[3]);
}

API nvmlDeviceGetPciInfo_v3(handle device, struct pci_info *info) {
    int code = enter_device(__func__, device);
    if (code) return code;
    struct value *value = gpu_of(device)->value;
    if (!info) return INVALID_ARGUMENT;
    if (!value[F_pci_bus_id].given) return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    fill_pci(info, text_of(&value[F_pci_bus_id]));
    info->pci_device_id = (uint)value[F_pci_device_id].number;
    info->pci_subsystem_id = (uint)value[F_pci_subsystem_id].number;
    return SUCCESS;
}
API nvmlDeviceGetPciInfo_v2(handle device, struct pci_info *info) {
    return nvmlDeviceGetPciInfo_v3(device, info);
}

API nvmlDeviceGetCudaComputeCapability(handle device, int *major, int *minor) {
    int code = enter_device(__func__, device);
    if (code) return code;
    struct value *value = &gpu_of(device)->value[F_compute_capability];
    if (!major || !minor) return INVALID_ARGUMENT;
    if (!value->given) return NOT_SUPPORTED;
    *major = (int)(value->number / 1000), *minor = (int)(value->number % 1000 / 10);
    return SUCCESS;
}

/* ---- memory, load, temperature, clocks ---- */

struct memory {
    ullong total, free, used;
};
struct memory_v2 {
    uint version;
    ullong total, reserved, free, used;
};

/* `used` of the first version of this call counts what the driver keeps for itself. */
API nvmlDeviceGetMemoryInfo(handle device, struct memory *memory) {
    long long total;
    int code = read_number(__func__, device, F_memory_total, memory, &total);
    if (code) return code;
    long long used = current(device, F_memory_used) + device->value[F_memory_reserved].number;
    *memory = (struct memory){(ullong)total, (ullong)(total - used), (ullong)used};
    return SUCCESS;
}

API nvmlDeviceGetMemoryInfo_v2(handle device, struct memory_v2 *memory) {
    long long total;
    int code = read_number(__func__, device, F_memory_total, memory, &total);
    if (code) return code;
    /* A driver before 510 has no such function, and says nowhere what it keeps to itself. */
    if (!device->value[F_memory_reserved].given) return FUNCTION_NOT_FOUND;
    if (memory->version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    long long used = current(device, F_memory_used),
              reserved = device->value[F_memory_reserved].number;
    memory->total = (ullong)total, memory->reserved = (ullong)reserved;
    memory->used = (ullong)used, memory->free = (ullong)(total - used - reserved);
    return SUCCESS;
}

API nvmlDeviceGetBAR1MemoryInfo(handle device, struct memory *memory) {
    long long total;
    int code = read_number(__func__, device, F_bar1_total, memory, &total);
    if (code) return code;
    long long used = device->value[F_bar1_used].number;
    *memory = (struct memory){(ullong)total, (ullong)(total - used), (ullong)used};
    return SUCCESS;
}

struct utilization {
    uint gpu, memory;
};

API nvmlDeviceGetUtilizationRates(handle device, struct utilization *rates) {
    long long gpu;
    int code = read_number(__func__, device, F_utilization_gpu, rates, &gpu);
    if (!code)
        *rates = (struct utilization){(uint)gpu, (uint)current(device, F_utilization_memory)};
    return code;
}

API nvmlDeviceGetTemperature(handle device, int sensor, uint *temperature) {
    long long number;
    int code = read_number(__func__, device, F_temperature, temperature, &number);
    if (code) return code;
    if (sensor != 0) return INVALID_ARGUMENT;
    *temperature = (uint)number;
    return SUCCESS;
}

struct temperature {
    uint version;
    int sensor, temperature;
};

API nvmlDeviceGetTemperatureV(handle device, struct temperature *temperature) {
    long long number;
    int code = read_number(__func__, device, F_temperature, temperature, &number);
    if (code) return code;
    if (temperature->version != (sizeof *temperature | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensor != 0) return INVALID_ARGUMENT;
    temperature->temperature = (int)number;
    return SUCCESS;
}

static int read_clock(const char *function, handle device, enum device_key first, uint type,
                      uint *clock) {
    long long number;
    if (type > 3) return INVALID_ARGUMENT;
    int code = read_number(function, device, first + type, clock, &number);
    if (!code) *clock = (uint)number;
    return code;
}

/* NVML's clock types 0 to 3 are in the order of the keys: graphics, SM, memory, video. */
API nvmlDeviceGetClockInfo(handle device, uint type, uint *clock) {
    return read_clock(__func__, device, F_clock_graphics, type, clock);
}

API nvmlDeviceGetMaxClockInfo(handle device, uint type, uint *clock) {
    return read_clock(__func__, device, F_clock_graphics_max, type, clock);
}

/* ---- processes ---- */

struct process_v1 {
    uint pid;
    ullong memory;
};
struct process_v2 {
    uint pid;
    ullong memory;
    uint gpu_instance, compute_instance;
};

static int list_processes(const char *function, handle device, bool graphics, uint *count,
                          void *out, size_t entry) {
    int code = enter_device(function, device);
    if (code) return code;
    if (!count || (*count && !out)) return INVALID_ARGUMENT;
    uint found = 0, room = out ? *count : 0;
    for (int i = 0; i < device->processes; i++) {
        struct process *process = &device->process[i];
        if (process->graphics != graphics) continue;
        if (found++ >= room) continue;
        struct process_v2 *info = (void *)((char *)out + (found - 1) * entry);
        info->pid = process->pid;
        info->memory = process->memory == UNKNOWN ? (ullong)-1 : (ullong)process->memory;
        if (entry < sizeof *info) continue;
        info->gpu_instance = device->parent ? (uint)device->value[F_gpu_instance].number : (uint)-1;
        info->compute_instance =
            device->parent ? (uint)device->value[F_compute_instance].number : (uint)-1;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

#define PROCESSES_GETTER(function, graphics, type) \
    API function(handle device, uint *count, struct type *out) { \
        return list_processes(__func__, device, graphics, count, out, sizeof(struct type)); \
    }
PROCESSES_GETTER(nvmlDeviceGetComputeRunningProcesses, false, process_v1)
PROCESSES_GETTER(nvmlDeviceGetComputeRunningProcesses_v2, false, process_v2)
PROCESSES_GETTER(nvmlDeviceGetComputeRunningProcesses_v3, false, process_v2)
PROCESSES_GETTER(nvmlDeviceGetGraphicsRunningProcesses, true, process_v1)
PROCESSES_GETTER(nvmlDeviceGetGraphicsRunningProcesses_v2, true, process_v2)
PROCESSES_GETTER(nvmlDeviceGetGraphicsRunningProcesses_v3, true, process_v2)

/* ---- errors of the memory ---- */

API nvmlDeviceGetTotalEccErrors(handle device, uint type, uint counter, ullong *count) {
    static const enum device_key KEYS[2][2] = {
        /* [0 volatile, 1 aggregate][0 corrected, 1 uncorrected] */
        {F_ecc_volatile_corrected, F_ecc_volatile_uncorrected},
        {F_ecc_aggregate_corrected, F_ecc_aggregate_uncorrected}};
    if (type > 1 || counter > 1) return INVALID_ARGUMENT;
    long long number;
    int code = read_number(__func__, device, KEYS[counter][type], count, &number);
    if (!code) *count = (ullong)number;
    return code;
}

API nvmlDeviceGetRemappedRows(handle device, uint *corrected, uint *uncorrected, uint *pending,
                              uint *failure) {
    long long number;
    int code = read_number(__func__, device, F_remapped_rows_corrected, corrected, &number);
    if (code) return code;
    if (!uncorrected || !pending || !failure) return INVALID_ARGUMENT;
    *corrected = (uint)number;
    *uncorrected = (uint)device->value[F_remapped_rows_uncorrected].number;
    *pending = (uint)device->value[F_remapped_rows_pending].number;
    *failure = (uint)device->value[F_remapped_rows_failure].number;
    return SUCCESS;
}

/* ---- the licence of a vGPU ---- */

enum { FEATURE_COMPUTE = 4, MAX_FEATURES = 3, LICENSE_BUFFER = 128 };
struct license_expiry {
    uint year;
    unsigned short month, day, hour, minute, second;
    unsigned char status;
};
struct license_feature {
    uint code, state;
    char info[LICENSE_BUFFER], product[LICENSE_BUFFER];
    uint enabled;
    struct license_expiry expiry;
};
struct license {
    int supported;
    uint count;
    struct license_feature feature[MAX_FEATURES];
};

API nvmlDeviceGetGridLicensableFeatures_v4(handle device, struct license *license) {
    long long licensed;
    int code = read_number(__func__, device, F_grid_license, license, &licensed);
    if (code) return code;
    memset(license, 0, sizeof *license);
    license->supported = 1, license->count = 1;
    struct license_feature *feature = &license->feature[0];
    feature->code = FEATURE_COMPUTE, feature->state = feature->enabled = (uint)licensed;
    strcpy(feature->product, "NVIDIA Virtual Compute Server");
    return SUCCESS;
}

/* ---- what no described machine has, though the library has the function ---- */

#define ABSENT(function) \
    API function(handle device) { \
        int code = enter_device(__func__, device); \
        return code ? code : NOT_SUPPORTED; \
    }
ABSENT(nvmlDeviceGetDriverModel)
ABSENT(nvmlDeviceGetDriverModel_v2)
ABSENT(nvmlDeviceGetMPSComputeRunningProcesses)
ABSENT(nvmlDeviceGetMPSComputeRunningProcesses_v2)
ABSENT(nvmlDeviceGetMPSComputeRunningProcesses_v3)
ABSENT(nvmlDeviceGetProcessUtilization)
ABSENT(nvmlDeviceGetRunningProcessDetailList)
ABSENT(nvmlDeviceGetPcieThroughput)
ABSENT(nvmlDeviceGetConfComputeMemSizeInfo)
