/* What the files of the simulated libnvidia-ml share.  Not NVIDIA's nvml.h: only names, layouts and
 * codes that are its ABI are the same. */
#ifndef NVSIM_NVML_PRIVATE_H
#define NVSIM_NVML_PRIVATE_H

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
    TIMEOUT = 10,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

typedef unsigned int uint;
typedef unsigned long long ullong;
typedef struct device *handle;

struct pci_info {
    char bus_id_legacy[16];
    uint domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

extern struct machine machine;

/* Begin a call: suffer its faults, then refuse what the real library refuses. */
int enter(const char *function);
int enter_device(const char *function, handle device);

/* Begin a call that answers with one key of the device; NOT_SUPPORTED where it is not given. */
int read_number(const char *function, handle device, enum device_key key, const void *out,
                long long *number);

long long milliseconds(void); /* of CLOCK_MONOTONIC */
/* What a key says now: a quantity may move between two. */
long long current(handle device, enum device_key key);
/* A counter of nvmlDeviceGetFieldValues; NOT_SUPPORTED where the description has none. */
int read_counter(handle device, uint field, ullong *count);

bool is_handle(handle device);
handle gpu_of(handle device); /* the GPU itself, or the one a MIG instance is of */
int copy_text(const char *text, char *buffer, uint size);
bool split_bus_id(const char *text, uint part[4]);
void fill_pci(struct pci_info *info, const char *bus_id);

#endif
