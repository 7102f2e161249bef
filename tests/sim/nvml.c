/* libnvidia-ml.so.1 for a machine that is only described.
 *
 * The ABI (names, struct layouts, return codes) is the one of NVML API 13 as nvidia-ml-py binds it.
 * Most functions read one key of the description, so most of this file is tables. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define API __attribute__((visibility("default"))) int

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

typedef unsigned int uint;
typedef unsigned long long ullong;
typedef struct device *handle;

static struct machine machine;
static int sessions; /* nvmlInit nests; the description is read when the first one opens */
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- entering a call: faults first, then what the real library checks ---- */

static int open_session(const char *function) {
    pthread_mutex_lock(&session_lock);
    int code = SUCCESS;
    if (!sessions && !machine_load(&machine)) code = DRIVER_NOT_LOADED;
    if (!code) sessions++;
    pthread_mutex_unlock(&session_lock);
    if (code) return code;
    code = machine_suffer(&machine, function, -1);
    if (code == UNKNOWN || code == SUCCESS) return SUCCESS;
    pthread_mutex_lock(&session_lock);
    sessions--;
    pthread_mutex_unlock(&session_lock);
    return code;
}

static int enter(const char *function) {
    if (!sessions) return UNINITIALIZED;
    int code = machine_suffer(&machine, function, -1);
    return code == UNKNOWN ? SUCCESS : code;
}

static bool is_handle(handle device) {
    return (device >= machine.gpu && device < machine.gpu + machine.gpus) ||
           (device >= &machine.mig[0][0] && device < &machine.mig[0][0] + MAX_GPUS * MAX_MIG &&
            device->parent);
}

static handle gpu_of(handle device) { return device->parent ? device->parent : device; }

static int enter_device(const char *function, handle device) {
    if (!sessions) return UNINITIALIZED;
    if (!is_handle(device)) return INVALID_ARGUMENT;
    int code = machine_suffer(&machine, function, gpu_of(device)->index);
    if (code != UNKNOWN) return code;
    long long state = gpu_of(device)->value[F_state].number;
    return state == STATE_LOST || state == STATE_LOST_AFTER_HANDLE ? GPU_IS_LOST : SUCCESS;
}

static int read_number(const char *function, handle device, enum device_key key, const void *out,
                       long long *number) {
    int code = enter_device(function, device);
    if (code) return code;
    if (!out) return INVALID_ARGUMENT;
    if (!device->value[key].given) return NOT_SUPPORTED;
    *number = device->value[key].number;
    return SUCCESS;
}

static int copy_text(const char *text, char *buffer, uint size) {
    if (!buffer) return INVALID_ARGUMENT;
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

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
        return code ? code : copy_text(device->value[F_##key].text, buffer, size); \
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

/* ---- the library and the system ---- */

API nvmlInit(void) { return open_session(__func__); }
API nvmlInit_v2(void) { return open_session(__func__); }
API nvmlInitWithFlags(uint flags) { return (void)flags, open_session(__func__); }

API nvmlShutdown(void) {
    pthread_mutex_lock(&session_lock);
    int code = sessions ? SUCCESS : UNINITIALIZED;
    if (sessions) sessions--;
    pthread_mutex_unlock(&session_lock);
    return code;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    static const struct { int code; const char *text; } ERRORS[] = {
        {0, "Success"}, {1, "Uninitialized"}, {2, "Invalid Argument"}, {3, "Not Supported"},
        {4, "Insufficient Permissions"}, {6, "Not Found"}, {7, "Insufficient Size"},
        {9, "Driver Not Loaded"}, {10, "Timeout"}, {12, "NVML Shared Library Not Found"},
        {13, "Function Not Found"}, {15, "GPU is lost"}, {16, "GPU requires reset"},
        {17, "GPU access blocked by the operating system"}, {18, "Driver/library version mismatch"},
        {25, "Argument version mismatch"}, {999, "Unknown Error"},
    };
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].text;
    return "Unknown Error";
}

static int system_text(const char *function, enum machine_key key, char *buffer, uint size) {
    int code = enter(function);
    if (code) return code;
    return machine.value[key].given ? copy_text(machine.value[key].text, buffer, size) : NOT_SUPPORTED;
}

API nvmlSystemGetDriverVersion(char *version, uint size) {
    return system_text(__func__, F_driver_version, version, size);
}

API nvmlSystemGetNVMLVersion(char *version, uint size) {
    return system_text(__func__, F_nvml_version, version, size);
}

static int cuda_version(const char *function, int *version) {
    int code = enter(function);
    if (code) return code;
    if (!version) return INVALID_ARGUMENT;
    if (!machine.value[F_cuda_version].given) return NOT_SUPPORTED;
    *version = (int)machine.value[F_cuda_version].number;
    return SUCCESS;
}

API nvmlSystemGetCudaDriverVersion(int *version) { return cuda_version(__func__, version); }
API nvmlSystemGetCudaDriverVersion_v2(int *version) { return cuda_version(__func__, version); }

/* ---- handles ---- */

static int give_handle(const char *function, handle device, handle *out) {
    int code = machine_suffer(&machine, function, gpu_of(device)->index);
    if (code != UNKNOWN) return code;
    switch (gpu_of(device)->value[F_state].number) {
    case STATE_LOST: return GPU_IS_LOST;
    case STATE_NO_PERMISSION: return NO_PERMISSION;
    default: *out = device; return SUCCESS;
    }
}

/* Lost GPUs, and those this process may not open, count too (nvml.h, nvmlDeviceGetCount_v2). */
API nvmlDeviceGetCount_v2(uint *count) {
    int code = enter(__func__);
    if (code) return code;
    if (!count) return INVALID_ARGUMENT;
    *count = (uint)machine.gpus;
    return SUCCESS;
}

API nvmlDeviceGetHandleByIndex_v2(uint index, handle *out) {
    if (!sessions) return UNINITIALIZED;
    if (!out || index >= (uint)machine.gpus) return INVALID_ARGUMENT;
    return give_handle(__func__, &machine.gpu[index], out);
}

API nvmlDeviceGetHandleByUUID(const char *uuid, handle *out) {
    if (!sessions) return UNINITIALIZED;
    if (!uuid || !out) return INVALID_ARGUMENT;
    for (int gpu = 0; gpu < machine.gpus; gpu++) {
        if (!strcmp(machine.gpu[gpu].value[F_uuid].text, uuid) && *uuid)
            return give_handle(__func__, &machine.gpu[gpu], out);
        for (int mig = 0; mig < machine.migs[gpu]; mig++)
            if (!strcmp(machine.mig[gpu][mig].value[F_uuid].text, uuid) && *uuid)
                return give_handle(__func__, &machine.mig[gpu][mig], out);
    }
    return NOT_FOUND;
}

static bool split_bus_id(const char *text, uint part[4]) {
    int end = 0;
    return sscanf(text, "%x:%x:%x.%x%n", &part[0], &part[1], &part[2], &part[3], &end) == 4 && !text[end];
}

/* The domain may have four digits or eight, and letters either case. */
API nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle *out) {
    if (!sessions) return UNINITIALIZED;
    uint wanted[4], own[4];
    if (!bus_id || !out || !split_bus_id(bus_id, wanted)) return INVALID_ARGUMENT;
    for (int gpu = 0; gpu < machine.gpus; gpu++)
        if (split_bus_id(machine.gpu[gpu].value[F_pci_bus_id].text, own) && !memcmp(own, wanted, sizeof own))
            return give_handle(__func__, &machine.gpu[gpu], out);
    return NOT_FOUND;
}

API nvmlDeviceGetCount(uint *count) { return nvmlDeviceGetCount_v2(count); }
API nvmlDeviceGetHandleByIndex(uint index, handle *out) { return nvmlDeviceGetHandleByIndex_v2(index, out); }
API nvmlDeviceGetHandleByPciBusId(const char *bus_id, handle *out) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, out);
}

API nvmlDeviceGetIndex(handle device, uint *index) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!index) return INVALID_ARGUMENT;
    *index = (uint)device->index;
    return SUCCESS;
}

/* ---- identity ---- */

struct pci_info {
    char bus_id_legacy[16];
    uint domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

static void fill_pci(struct pci_info *info, const char *bus_id) {
    uint part[4];
    if (!split_bus_id(bus_id, part)) return;
    info->domain = part[0], info->bus = part[1], info->device = part[2];
    snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.%X", part[0], part[1], part[2], part[3]);
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
    fill_pci(info, value[F_pci_bus_id].text);
    info->pci_device_id = (uint)value[F_pci_device_id].number;
    info->pci_subsystem_id = (uint)value[F_pci_subsystem_id].number;
    return SUCCESS;
}
API nvmlDeviceGetPciInfo_v2(handle device, struct pci_info *info) { return nvmlDeviceGetPciInfo_v3(device, info); }

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

struct memory { ullong total, free, used; };
struct memory_v2 { uint version; ullong total, reserved, free, used; };

/* `used` of the first version of this call counts what the driver keeps for itself. */
API nvmlDeviceGetMemoryInfo(handle device, struct memory *memory) {
    long long total;
    int code = read_number(__func__, device, F_memory_total, memory, &total);
    if (code) return code;
    long long used = device->value[F_memory_used].number + device->value[F_memory_reserved].number;
    *memory = (struct memory){(ullong)total, (ullong)(total - used), (ullong)used};
    return SUCCESS;
}

API nvmlDeviceGetMemoryInfo_v2(handle device, struct memory_v2 *memory) {
    long long total;
    int code = read_number(__func__, device, F_memory_total, memory, &total);
    if (code) return code;
    if (memory->version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    long long used = device->value[F_memory_used].number, reserved = device->value[F_memory_reserved].number;
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

struct utilization { uint gpu, memory; };

API nvmlDeviceGetUtilizationRates(handle device, struct utilization *rates) {
    long long gpu;
    int code = read_number(__func__, device, F_utilization_gpu, rates, &gpu);
    if (!code) *rates = (struct utilization){(uint)gpu, (uint)device->value[F_utilization_memory].number};
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

struct temperature { uint version; int sensor, temperature; };

API nvmlDeviceGetTemperatureV(handle device, struct temperature *temperature) {
    long long number;
    int code = read_number(__func__, device, F_temperature, temperature, &number);
    if (code) return code;
    if (temperature->version != (sizeof *temperature | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensor != 0) return INVALID_ARGUMENT;
    temperature->temperature = (int)number;
    return SUCCESS;
}

static int read_clock(const char *function, handle device, enum device_key first, uint type, uint *clock) {
    long long number;
    if (type > 3) return sessions ? INVALID_ARGUMENT : UNINITIALIZED;
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

struct process_v1 { uint pid; ullong memory; };
struct process_v2 { uint pid; ullong memory; uint gpu_instance, compute_instance; };

static int list_processes(const char *function, handle device, bool graphics, uint *count, void *out,
                          size_t entry) {
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
        info->compute_instance = device->parent ? (uint)device->value[F_compute_instance].number : (uint)-1;
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
    static const enum device_key KEYS[2][2] = { /* [0 volatile, 1 aggregate][0 corrected, 1 uncorrected] */
        {F_ecc_volatile_corrected, F_ecc_volatile_uncorrected},
        {F_ecc_aggregate_corrected, F_ecc_aggregate_uncorrected}};
    if (type > 1 || counter > 1) return sessions ? INVALID_ARGUMENT : UNINITIALIZED;
    long long number;
    int code = read_number(__func__, device, KEYS[counter][type], count, &number);
    if (!code) *count = (ullong)number;
    return code;
}

API nvmlDeviceGetRemappedRows(handle device, uint *corrected, uint *uncorrected, uint *pending, uint *failure) {
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

/* ---- MIG ---- */

API nvmlDeviceGetMaxMigDeviceCount(handle device, uint *count) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!count) return INVALID_ARGUMENT;
    *count = (uint)device->value[F_mig_max_devices].number; /* 0 where there is no MIG */
    return SUCCESS;
}

API nvmlDeviceGetMigDeviceHandleByIndex(handle device, uint index, handle *out) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!out || device->parent) return INVALID_ARGUMENT;
    if (!device->value[F_mig_mode].number) return NOT_SUPPORTED;
    if (index >= (uint)device->value[F_mig_max_devices].number) return INVALID_ARGUMENT;
    if (index >= (uint)machine.migs[device->index]) return NOT_FOUND;
    *out = &machine.mig[device->index][index];
    return SUCCESS;
}

API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle device, handle *out) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!out || !device->parent) return INVALID_ARGUMENT;
    *out = device->parent;
    return SUCCESS;
}

API nvmlDeviceIsMigDeviceHandle(handle device, uint *is_mig) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!is_mig) return INVALID_ARGUMENT;
    *is_mig = device->parent != NULL;
    return SUCCESS;
}

struct attributes {
    uint multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    ullong memory_mib;
};

API nvmlDeviceGetAttributes_v2(handle device, struct attributes *attributes) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!attributes) return INVALID_ARGUMENT;
    if (!device->parent) return NOT_SUPPORTED;
    struct value *value = device->value;
    *attributes = (struct attributes){
        .multiprocessors = (uint)value[F_multiprocessors].number,
        .gpu_slices = (uint)value[F_gpu_instance_slices].number,
        .compute_slices = (uint)value[F_compute_instance_slices].number,
        .memory_mib = (ullong)value[F_memory_total].number >> 20,
    };
    return SUCCESS;
}

/* ---- topology ---- */

static int enter_pair(const char *function, handle one, handle two) {
    int code = enter_device(function, one);
    if (!code) code = enter_device(function, two);
    return !code && (one->parent || two->parent) ? INVALID_ARGUMENT : code;
}

API nvmlDeviceGetTopologyCommonAncestor(handle one, handle two, int *level) {
    int code = enter_pair(__func__, one, two);
    if (code) return code;
    if (!level) return INVALID_ARGUMENT;
    *level = one == two ? 0 : machine.pcie_level[one->index][two->index];
    return *level == UNKNOWN ? NOT_SUPPORTED : SUCCESS;
}

API nvmlDeviceGetTopologyNearestGpus(handle device, int level, uint *count, handle *out) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (!count || (*count && !out) || device->parent) return INVALID_ARGUMENT;
    uint found = 0, room = *count;
    for (int peer = 0; peer < machine.gpus; peer++) {
        if (peer == device->index || machine.pcie_level[device->index][peer] != level) continue;
        if (found < room) out[found] = &machine.gpu[peer];
        found++;
    }
    *count = room && found > room ? room : found;
    return SUCCESS;
}

API nvmlDeviceGetP2PStatus(handle one, handle two, uint kind, int *status) {
    int code = enter_pair(__func__, one, two);
    if (code) return code;
    if (!status || kind >= P2P_KINDS) return INVALID_ARGUMENT;
    *status = one == two ? 0 : machine.p2p[kind][one->index][two->index];
    return *status == UNKNOWN ? NOT_SUPPORTED : SUCCESS;
}

static int read_set(const char *function, handle device, enum device_key key, uint words, unsigned long *bits) {
    long long unused;
    if (!sessions) return UNINITIALIZED;
    if (is_handle(device)) device = gpu_of(device);
    int code = read_number(function, device, key, words ? bits : NULL, &unused);
    if (!code) parse_set(device->value[key].text, bits, words);
    return code;
}

API nvmlDeviceGetCpuAffinity(handle device, uint words, unsigned long *bits) {
    return read_set(__func__, device, F_cpu_affinity, words, bits);
}

API nvmlDeviceGetCpuAffinityWithinScope(handle device, uint words, unsigned long *bits, uint scope) {
    if (scope > 1) return sessions ? INVALID_ARGUMENT : UNINITIALIZED;
    return read_set(__func__, device, F_cpu_affinity, words, bits);
}

API nvmlDeviceGetMemoryAffinity(handle device, uint words, unsigned long *bits, uint scope) {
    if (scope > 1) return sessions ? INVALID_ARGUMENT : UNINITIALIZED;
    return read_set(__func__, device, F_memory_affinity, words, bits);
}

/* ---- NVLink and fabric ---- */

/* A link the GPU does not have is INVALID_ARGUMENT; a GPU with none at all is NOT_SUPPORTED. */
static int find_link(handle device, uint number, struct link **link) {
    bool any = false;
    for (int i = 0; i < MAX_LINKS; i++) any = any || device->link[i].given;
    if (!any) return NOT_SUPPORTED;
    if (number >= MAX_LINKS || !device->link[number].given) return INVALID_ARGUMENT;
    *link = &device->link[number];
    return SUCCESS;
}

static int enter_link(const char *function, handle device, uint number, const void *out, struct link **link) {
    int code = enter_device(function, device);
    if (code) return code;
    return !out || device->parent ? INVALID_ARGUMENT : find_link(device, number, link);
}

API nvmlDeviceGetNvLinkState(handle device, uint number, uint *enabled) {
    struct link *link;
    int code = enter_link(__func__, device, number, enabled, &link);
    if (!code) *enabled = link->enabled;
    return code;
}

API nvmlDeviceGetNvLinkVersion(handle device, uint number, uint *version) {
    struct link *link;
    int code = enter_link(__func__, device, number, version, &link);
    if (code) return code;
    if (link->version == UNKNOWN) return NOT_SUPPORTED;
    *version = (uint)link->version;
    return SUCCESS;
}

API nvmlDeviceGetNvLinkCapability(handle device, uint number, uint capability, uint *result) {
    struct link *link;
    int code = enter_link(__func__, device, number, result, &link);
    if (code) return code;
    switch (capability) {
    case 0: *result = link->p2p; return SUCCESS;
    case 2: *result = link->atomics; return SUCCESS;
    case 5: *result = 1; return SUCCESS; /* "valid": the device has this link */
    case 1: case 3: case 4: *result = 0; return SUCCESS; /* system memory, its atomics, SLI */
    default: return INVALID_ARGUMENT;
    }
}

API nvmlDeviceGetNvLinkRemoteDeviceType(handle device, uint number, uint *type) {
    struct link *link;
    int code = enter_link(__func__, device, number, type, &link);
    if (code) return code;
    if (link->remote_type == UNKNOWN) return NOT_SUPPORTED;
    *type = (uint)link->remote_type;
    return SUCCESS;
}

/* A remote end that the machine hides (an NVSwitch seen from a VM) leaves the bus id empty. */
API nvmlDeviceGetNvLinkRemotePciInfo_v2(handle device, uint number, struct pci_info *info) {
    struct link *link;
    int code = enter_link(__func__, device, number, info, &link);
    if (code) return code;
    if (link->remote_type == UNKNOWN) return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    fill_pci(info, link->remote_bus_id);
    return SUCCESS;
}
API nvmlDeviceGetNvLinkRemotePciInfo(handle device, uint number, struct pci_info *info) {
    return nvmlDeviceGetNvLinkRemotePciInfo_v2(device, number, info);
}

struct fabric_v1 { unsigned char cluster_uuid[16]; int status; uint clique_id; unsigned char state; };
struct fabric_v3 {
    uint version;
    unsigned char cluster_uuid[16];
    int status;
    uint clique_id;
    unsigned char state;
    uint health_mask;
    unsigned char health_summary;
};

static int read_fabric(const char *function, handle device, const void *out, struct fabric_v3 *fabric) {
    long long state;
    int code = read_number(function, device, F_fabric_state, out, &state);
    if (code) return code;
    struct value *value = device->value;
    parse_uuid(value[F_fabric_cluster_uuid].text, fabric->cluster_uuid);
    fabric->status = (int)value[F_fabric_status].number;
    fabric->clique_id = (uint)value[F_fabric_clique_id].number;
    fabric->state = (unsigned char)state;
    fabric->health_mask = (uint)value[F_fabric_health_mask].number;
    fabric->health_summary = (unsigned char)value[F_fabric_health_summary].number;
    return SUCCESS;
}

API nvmlDeviceGetGpuFabricInfo(handle device, struct fabric_v1 *info) {
    struct fabric_v3 fabric = {0};
    int code = read_fabric(__func__, device, info, &fabric);
    if (code) return code;
    memcpy(info->cluster_uuid, fabric.cluster_uuid, 16);
    info->status = fabric.status, info->clique_id = fabric.clique_id, info->state = fabric.state;
    return SUCCESS;
}

API nvmlDeviceGetGpuFabricInfoV(handle device, struct fabric_v3 *info) {
    struct fabric_v3 fabric = {0};
    int code = read_fabric(__func__, device, info, &fabric);
    if (code) return code;
    fabric.version = info->version;
    size_t size = fabric.version & 0xffffff;
    uint number = fabric.version >> 24;
    if ((number != 2 || size != offsetof(struct fabric_v3, health_summary)) &&
        (number != 3 || size != sizeof fabric))
        return ARGUMENT_VERSION_MISMATCH;
    memcpy(info, &fabric, size);
    return SUCCESS;
}

struct field_value {
    uint field, scope;
    int64_t timestamp, latency;
    uint type; /* 1: unsigned int */
    int code;
    union { ullong wide; uint number; } value;
};

static int read_field(handle device, struct field_value *field, uint *number) {
    struct link *link;
    int code;
    switch (field->field) {
    case 91: /* NVML_FI_DEV_NVLINK_LINK_COUNT */
    case 147: /* NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT */
        *number = 0;
        for (int i = 0; i < MAX_LINKS; i++)
            *number += device->link[i].given && (field->field == 91 || (device->link[i].enabled && device->link[i].remote_type == 2));
        return *number || field->field == 147 ? SUCCESS : NOT_SUPPORTED;
    case 165: /* NVML_FI_DEV_NVLINK_GET_STATE */
        code = find_link(device, field->scope, &link);
        if (!code) *number = link->enabled;
        return code;
    case 166: /* NVML_FI_DEV_NVLINK_GET_VERSION */
        code = find_link(device, field->scope, &link);
        if (!code && link->version == UNKNOWN) return NOT_SUPPORTED;
        if (!code) *number = (uint)link->version;
        return code;
    case 170: /* NVML_FI_DEV_C2C_LINK_COUNT */
        if (!device->value[F_c2c_links].given) return NOT_SUPPORTED;
        *number = (uint)device->value[F_c2c_links].number;
        return SUCCESS;
    default:
        return NOT_SUPPORTED;
    }
}

API nvmlDeviceGetFieldValues(handle device, int count, struct field_value *fields) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (count < 1 || !fields) return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        uint number = 0;
        fields[i].code = read_field(device, &fields[i], &number);
        fields[i].type = 1, fields[i].timestamp = fields[i].latency = 0;
        fields[i].value.wide = number;
    }
    return SUCCESS;
}
