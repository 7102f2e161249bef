/* libnvidia-ml.so.1 for a machine that is only described: sessions, the system, handles, MIG.
 *
 * The ABI (names, layouts, return codes) is that of NVML API 13, as nvidia-ml-py binds it. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "nvml_private.h"

struct machine machine;
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

int enter(const char *function) {
    if (!sessions) return UNINITIALIZED;
    int code = machine_suffer(&machine, function, -1);
    return code == UNKNOWN ? SUCCESS : code;
}

bool is_handle(handle device) {
    return (device >= machine.gpu && device < machine.gpu + machine.gpus) ||
           (device >= &machine.mig[0][0] && device < &machine.mig[0][0] + MAX_GPUS * MAX_MIG &&
            device->parent);
}

handle gpu_of(handle device) { return device->parent ? device->parent : device; }

int enter_device(const char *function, handle device) {
    if (!sessions) return UNINITIALIZED;
    if (!is_handle(device)) return INVALID_ARGUMENT;
    int code = machine_suffer(&machine, function, gpu_of(device)->index);
    if (code != UNKNOWN) return code;
    long long state = gpu_of(device)->value[F_state].number;
    return state == STATE_LOST || state == STATE_LOST_AFTER_HANDLE ? GPU_IS_LOST : SUCCESS;
}

int read_number(const char *function, handle device, enum device_key key, const void *out,
                long long *number) {
    int code = enter_device(function, device);
    if (code) return code;
    if (!out) return INVALID_ARGUMENT;
    if (!device->value[key].given) return NOT_SUPPORTED;
    *number = current(device, key);
    return SUCCESS;
}

int copy_text(const char *text, char *buffer, uint size) {
    if (!buffer) return INVALID_ARGUMENT;
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

/* ---- the library and the system ---- */

API nvmlInit(void) { return open_session(__func__); }
API nvmlInit_v2(void) { return open_session(__func__); }
API nvmlInitWithFlags(uint flags) { return (void)flags, open_session(__func__); }

API nvmlShutdown(void) {
    pthread_mutex_lock(&session_lock);
    int code = sessions ? machine_suffer(&machine, __func__, -1) : UNINITIALIZED;
    if (sessions) sessions--;
    pthread_mutex_unlock(&session_lock);
    return code == UNKNOWN ? SUCCESS : code;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    static const struct {
        int code;
        const char *text;
    } ERRORS[] = {
        {0, "Success"},
        {1, "Uninitialized"},
        {2, "Invalid Argument"},
        {3, "Not Supported"},
        {4, "Insufficient Permissions"},
        {6, "Not Found"},
        {7, "Insufficient Size"},
        {8, "Insufficient External Power"},
        {9, "Driver Not Loaded"},
        {10, "Timeout"},
        {11, "Interrupt Request Issue"},
        {12, "NVML Shared Library Not Found"},
        {13, "Function Not Found"},
        {14, "Corrupted infoROM"},
        {15, "GPU is lost"},
        {16, "GPU requires reset"},
        {17, "GPU access blocked by the operating system"},
        {18, "Driver/library version mismatch"},
        {25, "Argument version mismatch"},
        {999, "Unknown Error"},
    };
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].text;
    return "Unknown Error";
}

static int system_text(const char *function, enum machine_key key, char *buffer, uint size) {
    int code = enter(function);
    if (code) return code;
    return machine.value[key].given ? copy_text(text_of(&machine.value[key]), buffer, size)
                                    : NOT_SUPPORTED;
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
        if (!strcmp(text_of(&machine.gpu[gpu].value[F_uuid]), uuid) && *uuid)
            return give_handle(__func__, &machine.gpu[gpu], out);
        for (int mig = 0; mig < machine.migs[gpu]; mig++)
            if (!strcmp(text_of(&machine.mig[gpu][mig].value[F_uuid]), uuid) && *uuid)
                return give_handle(__func__, &machine.mig[gpu][mig], out);
    }
    return NOT_FOUND;
}

bool split_bus_id(const char *text, uint part[4]) {
    int end = 0;
    return sscanf(text, "%x:%x:%x.%x%n", &part[0], &part[1], &part[2], &part[3], &end) == 4 &&
           !text[end];
}

/* The domain may have four digits or eight, and letters either case. */
API nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle *out) {
    if (!sessions) return UNINITIALIZED;
    uint wanted[4], own[4];
    if (!bus_id || !out || !split_bus_id(bus_id, wanted)) return INVALID_ARGUMENT;
    for (int gpu = 0; gpu < machine.gpus; gpu++)
        if (split_bus_id(text_of(&machine.gpu[gpu].value[F_pci_bus_id]), own) &&
            !memcmp(own, wanted, sizeof own))
            return give_handle(__func__, &machine.gpu[gpu], out);
    return NOT_FOUND;
}

API nvmlDeviceGetCount(uint *count) { return nvmlDeviceGetCount_v2(count); }
API nvmlDeviceGetHandleByIndex(uint index, handle *out) {
    return nvmlDeviceGetHandleByIndex_v2(index, out);
}
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
