/* libcuda.so.1 for a machine that is only described.
 *
 * It enumerates devices and opens contexts as the real driver does.  There is nothing to compute
 * on, so whatever would allocate, copy or launch fails with CUDA_ERROR_NOT_SUPPORTED. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cuda_visible.h"
#include "machine.h"

#define API __attribute__((visibility("default"))) int

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_INITIALIZED = 3,
    DEVICE_UNAVAILABLE = 46,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    VALIDITY_NOT_ESTABLISHED = 103, /* cudaErrorSoftwareValidityNotEstablished */
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    NOT_SUPPORTED = 801,
};

static struct machine machine;
static struct device *visible[MAX_VISIBLE];
static int devices;
static bool loaded, initialized;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- entering a call ---- */

static bool load(void) {
    pthread_mutex_lock(&lock);
    if (!loaded) loaded = machine_load(&machine);
    pthread_mutex_unlock(&lock);
    return loaded;
}

static int gpu_index(int device) {
    if (device < 0 || device >= devices) return -1;
    return visible[device]->parent ? visible[device]->parent->index : visible[device]->index;
}

static int enter(const char *function) {
    int code = load() ? machine_suffer(&machine, function, -1) : UNKNOWN;
    if (code != UNKNOWN) return code;
    return initialized ? SUCCESS : NOT_INITIALIZED;
}

static int enter_device(const char *function, int device, const void *out) {
    int code = load() ? machine_suffer(&machine, function, gpu_index(device)) : UNKNOWN;
    if (code != UNKNOWN) return code;
    if (!initialized) return NOT_INITIALIZED;
    if (!out) return INVALID_VALUE;
    return gpu_index(device) < 0 ? INVALID_DEVICE : SUCCESS;
}

/* ---- the library ---- */

/* The masks are read here, once: changing the environment later has no effect, as in real life. */
API cuInit(unsigned flags) {
    if (!load()) return NO_DEVICE;
    int code = machine_suffer(&machine, __func__, -1);
    if (code != UNKNOWN) return code;
    if (flags) return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    if (!initialized) devices = visible_devices(&machine, visible);
    initialized = devices > 0;
    pthread_mutex_unlock(&lock);
    return initialized ? SUCCESS : NO_DEVICE;
}

API cuDriverGetVersion(int *version) {
    int code = load() ? machine_suffer(&machine, __func__, -1) : UNKNOWN;
    if (code != UNKNOWN) return code;
    if (!version) return INVALID_VALUE;
    *version = (int)machine.value[F_cuda_version].number;
    return SUCCESS;
}

static const struct error {
    int code;
    const char *name, *text;
} ERRORS[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {102, "CUDA_ERROR_DEVICE_NOT_LICENSED", "device doesn't have valid Grid license"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
     "forward compatibility was attempted on non supported HW"},
    {805, "CUDA_ERROR_MPS_CONNECTION_FAILED",
     "MPS client failed to connect to the MPS control daemon or the MPS server"},
    {806, "CUDA_ERROR_MPS_RPC_FAILURE",
     "the remote procedural call between the MPS server and the MPS client failed"},
    {807, "CUDA_ERROR_MPS_SERVER_NOT_READY",
     "the MPS server is not ready to accept new MPS client requests"},
    {808, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
     "the hardware resources required to create MPS client have been exhausted"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static const struct error *find_error(int code) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return &ERRORS[i];
    return NULL;
}

API cuGetErrorName(int code, const char **name) {
    const struct error *error = find_error(code);
    *name = error ? error->name : NULL;
    return error ? SUCCESS : INVALID_VALUE;
}

API cuGetErrorString(int code, const char **text) {
    const struct error *error = find_error(code);
    *text = error ? error->text : NULL;
    return error ? SUCCESS : INVALID_VALUE;
}

/* ---- devices ---- */

API cuDeviceGetCount(int *count) {
    int code = enter(__func__);
    if (code) return code;
    if (!count) return INVALID_VALUE;
    *count = devices;
    return SUCCESS;
}

API cuDeviceGet(int *device, int ordinal) {
    int code = enter_device(__func__, ordinal, device);
    if (!code) *device = ordinal;
    return code;
}

static struct value *own(int device) { return visible[device]->value; }
static struct value *gpu(int device) { return machine.gpu[gpu_index(device)].value; }

API cuDeviceGetName(char *name, int size, int device) {
    int code = enter_device(__func__, device, name);
    if (code) return code;
    if (size < 1) return INVALID_VALUE;
    snprintf(name, (size_t)size, "%s", text_of(&own(device)[F_name]));
    return SUCCESS;
}

API cuDeviceGetUuid(unsigned char uuid[16], int device) {
    int code = enter_device(__func__, device, uuid);
    if (!code) parse_uuid(text_of(&gpu(device)[F_uuid]), uuid);
    return code;
}

/* The second version gives a MIG instance its own UUID. */
API cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
    int code = enter_device(__func__, device, uuid);
    if (!code) parse_uuid(text_of(&own(device)[F_uuid]), uuid);
    return code;
}

API cuDeviceTotalMem_v2(size_t *bytes, int device) {
    int code = enter_device(__func__, device, bytes);
    if (!code) *bytes = (size_t)own(device)[F_memory_total].number;
    return code;
}

API cuDeviceComputeCapability(int *major, int *minor, int device) {
    int code = enter_device(__func__, device, major);
    if (code) return code;
    long long version = gpu(device)[F_compute_capability].number;
    *major = (int)(version / 1000), *minor = (int)(version % 1000 / 10);
    return SUCCESS;
}

API cuDeviceGetPCIBusId(char *bus_id, int size, int device) {
    int code = enter_device(__func__, device, bus_id);
    if (code) return code;
    const char *text = text_of(&gpu(device)[F_pci_bus_id]);
    if (!*text) return NOT_SUPPORTED;
    return snprintf(bus_id, (size_t)size, "%s", text + 4) < size ? SUCCESS : INVALID_VALUE;
}

API cuDeviceGetByPCIBusId(int *device, const char *bus_id) {
    int code = enter(__func__);
    if (code) return code;
    if (!device || !bus_id) return INVALID_VALUE;
    size_t length = strlen(bus_id);
    for (int i = 0; i < devices; i++) {
        const char *text = text_of(&gpu(i)[F_pci_bus_id]);
        if (length >= 12 && length <= strlen(text) &&
            !strcasecmp(text + strlen(text) - length, bus_id))
            return *device = i, SUCCESS;
    }
    return INVALID_DEVICE;
}

/* What is the same on every GPU since Volta, by CU_DEVICE_ATTRIBUTE number. */
static const struct {
    int attribute, value;
} CONSTANTS[] = {
    {1, 1024},        /* MAX_THREADS_PER_BLOCK */
    {2, 1024},        /* MAX_BLOCK_DIM_X */
    {3, 1024},        /* MAX_BLOCK_DIM_Y */
    {4, 64},          /* MAX_BLOCK_DIM_Z */
    {5, 2147483647},  /* MAX_GRID_DIM_X */
    {6, 65535},       /* MAX_GRID_DIM_Y */
    {7, 65535},       /* MAX_GRID_DIM_Z */
    {8, 49152},       /* MAX_SHARED_MEMORY_PER_BLOCK */
    {9, 65536},       /* TOTAL_CONSTANT_MEMORY */
    {10, 32},         /* WARP_SIZE */
    {11, 2147483647}, /* MAX_PITCH */
    {12, 65536},      /* MAX_REGISTERS_PER_BLOCK */
    {14, 512},        /* TEXTURE_ALIGNMENT */
    {19, 1},          /* CAN_MAP_HOST_MEMORY */
    {31, 1},          /* CONCURRENT_KERNELS */
    {39, 2048},       /* MAX_THREADS_PER_MULTIPROCESSOR */
    {41, 1},          /* UNIFIED_ADDRESSING */
    {82, 65536},      /* MAX_REGISTERS_PER_MULTIPROCESSOR */
    {83, 1},          /* MANAGED_MEMORY */
};
enum {
    LAST_ATTRIBUTE = 200
};

static long long attribute_value(int attribute, int device) {
    unsigned domain = 0, bus = 0, slot = 0;
    sscanf(text_of(&gpu(device)[F_pci_bus_id]), "%x:%x:%x", &domain, &bus, &slot);
    switch (attribute) {
    case 13: return own(device)[F_clock_sm_max].number * 1000;       /* CLOCK_RATE, kHz */
    case 16: return own(device)[F_multiprocessors].number;           /* MULTIPROCESSOR_COUNT */
    case 20: return gpu(device)[F_compute_mode].number;              /* COMPUTE_MODE */
    case 32: return gpu(device)[F_ecc_mode].number;                  /* ECC_ENABLED */
    case 33: return bus;                                             /* PCI_BUS_ID */
    case 34: return slot;                                            /* PCI_DEVICE_ID */
    case 36: return gpu(device)[F_clock_memory_max].number * 1000;   /* MEMORY_CLOCK_RATE, kHz */
    case 50: return domain;                                          /* PCI_DOMAIN_ID */
    case 75: return gpu(device)[F_compute_capability].number / 1000; /* ..._MAJOR */
    case 76: return gpu(device)[F_compute_capability].number % 1000 / 10; /* ..._MINOR */
    case 116: return gpu(device)[F_gpu_direct_rdma].number;          /* ..._SUPPORTED */
    case 124: return gpu(device)[F_dma_buf].number;                  /* ..._SUPPORTED */
    }
    for (size_t i = 0; i < sizeof CONSTANTS / sizeof *CONSTANTS; i++)
        if (CONSTANTS[i].attribute == attribute) return CONSTANTS[i].value;
    return 0; /* an ability that nothing here has */
}

API cuDeviceGetAttribute(int *value, int attribute, int device) {
    int code = enter_device(__func__, device, value);
    if (code) return code;
    if (attribute < 1 || attribute > LAST_ATTRIBUTE) return INVALID_VALUE;
    *value = (int)attribute_value(attribute, device);
    return SUCCESS;
}

static int p2p(int kind, int one, int two) {
    return one == two || visible[one]->parent || visible[two]->parent
               ? UNKNOWN
               : machine.p2p[kind][gpu_index(one)][gpu_index(two)];
}

API cuDeviceCanAccessPeer(int *can, int one, int two) {
    int code = enter_device(__func__, one, can);
    if (!code) code = enter_device(__func__, two, can);
    if (!code) *can = p2p(0, one, two) == 0;
    return code;
}

API cuDeviceGetP2PAttribute(int *value, int attribute, int one, int two) {
    int code = enter_device(__func__, one, value);
    if (!code) code = enter_device(__func__, two, value);
    if (code) return code;
    switch (attribute) {
    case 2: *value = p2p(0, one, two) == 0; return SUCCESS; /* ACCESS_SUPPORTED */
    case 3: *value = p2p(3, one, two) == 0; return SUCCESS; /* NATIVE_ATOMIC_SUPPORTED */
    case 1:
    case 4: *value = 0; return SUCCESS; /* rank, array access */
    default: return INVALID_VALUE;
    }
}

/* ---- contexts: they can be opened and made current; nothing runs in them ---- */

typedef struct context {
    int references;
    unsigned flags;
} *context;
static struct context primary[MAX_VISIBLE];
static __thread context current;

static int open_context(const char *function, context *out, int device) {
    enum {
        PROHIBITED = 2
    };
    int code = enter_device(function, device, out);
    if (code) return code;
    if (gpu(device)[F_compute_mode].number == PROHIBITED) return DEVICE_UNAVAILABLE;
    __atomic_add_fetch(&primary[device].references, 1, __ATOMIC_SEQ_CST);
    *out = &primary[device];
    return SUCCESS;
}

static int close_context(const char *function, int device) {
    int code = enter_device(function, device, &current);
    if (code) return code;
    if (primary[device].references < 1) return INVALID_CONTEXT;
    __atomic_sub_fetch(&primary[device].references, 1, __ATOMIC_SEQ_CST);
    return SUCCESS;
}

API cuDevicePrimaryCtxRetain(context *out, int device) {
    return open_context(__func__, out, device);
}
API cuDevicePrimaryCtxRelease_v2(int device) { return close_context(__func__, device); }
API cuDevicePrimaryCtxReset_v2(int device) { return enter_device(__func__, device, &current); }

API cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    int code = enter_device(__func__, device, flags);
    if (code) return code;
    if (!active) return INVALID_VALUE;
    *flags = primary[device].flags, *active = primary[device].references > 0;
    return SUCCESS;
}

API cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    int code = enter_device(__func__, device, &current);
    if (!code) primary[device].flags = flags;
    return code;
}

API cuCtxCreate_v2(context *out, unsigned flags, int device) {
    (void)flags;
    int code = open_context(__func__, out, device);
    if (!code) current = *out;
    return code;
}

API cuCtxDestroy_v2(context closing) {
    if (closing < primary || closing >= primary + devices) return INVALID_CONTEXT;
    if (current == closing) current = NULL;
    return close_context(__func__, (int)(closing - primary));
}

API cuCtxSetCurrent(context chosen) {
    int code = enter(__func__);
    if (!code) current = chosen;
    return code;
}

API cuCtxPushCurrent_v2(context chosen) { return cuCtxSetCurrent(chosen); }

API cuCtxPopCurrent_v2(context *out) {
    int code = enter(__func__);
    if (code) return code;
    if (out) *out = current;
    current = NULL;
    return SUCCESS;
}

API cuCtxGetCurrent(context *out) {
    int code = enter(__func__);
    if (code) return code;
    if (!out) return INVALID_VALUE;
    *out = current;
    return SUCCESS;
}

API cuCtxGetDevice(int *device) {
    int code = enter(__func__);
    if (code) return code;
    if (!current) return INVALID_CONTEXT;
    *device = (int)(current - primary);
    return SUCCESS;
}

API cuCtxSynchronize(void) {
    int code = enter(__func__);
    return code || current ? code
                           : INVALID_CONTEXT; /* nothing can be queued, so nothing is pending */
}

API cuMemGetInfo_v2(size_t *available, size_t *total) {
    int device, code = cuCtxGetDevice(&device);
    if (code) return code;
    struct value *value = own(device);
    *total = (size_t)value[F_memory_total].number;
    *available = *total - (size_t)(value[F_memory_used].number + value[F_memory_reserved].number);
    return SUCCESS;
}

/* ---- what a GPU would be needed for ---- */

static int unsupported(void) {
    int code = enter(__func__);
    return code ? code : NOT_SUPPORTED;
}

#define UNSUPPORTED(function) \
    API function(void) { \
        int code = enter(__func__); \
        return code ? code : NOT_SUPPORTED; \
    }
UNSUPPORTED(cuMemAlloc_v2)
UNSUPPORTED(cuMemAllocManaged)
UNSUPPORTED(cuMemHostAlloc)
UNSUPPORTED(cuMemcpyHtoD_v2)
UNSUPPORTED(cuMemcpyDtoH_v2)
UNSUPPORTED(cuModuleLoadData)
UNSUPPORTED(cuModuleLoadDataEx)
UNSUPPORTED(cuLibraryLoadData)
UNSUPPORTED(cuLaunchKernel)
UNSUPPORTED(cuStreamCreate)
UNSUPPORTED(cuEventCreate)

/* ---- how the CUDA runtime finds all this ---- */

API cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags);
API cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status);

/* Functions whose first version has another signature, and the CUDA version of the second. */
static int second_version_since(const char *symbol) {
    if (!strcmp(symbol, "cuGetProcAddress")) return 12000;
    if (!strcmp(symbol, "cuDeviceGetUuid")) return 11040;
    return 0;
}

static void *find_function(const char *symbol, int version) {
    char second[TEXT_SIZE];
    Dl_info self;
    if (!dladdr((void *)find_function, &self)) return NULL;
    void *library = dlopen(self.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
    if (!library) return NULL;
    snprintf(second, sizeof second, "%s_v2", symbol);
    void *function = version >= second_version_since(symbol) ? dlsym(library, second) : NULL;
    if (!function) function = dlsym(library, symbol);
    dlclose(library);
    return function;
}

/* The runtime asks for hundreds of functions at start and gives up where one is missing; those
 * not here exist, and fail when called. */
API cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status) {
    (void)flags;
    if (!symbol || !function) return INVALID_VALUE;
    *function = find_function(symbol, version);
    if (!*function) *function = (void *)unsupported;
    if (status) *status = 0;
    return SUCCESS;
}

API cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/* The runtime's private tables, one of which is a self-test that establishes the validity of the
 * driver.  This is no driver of NVIDIA's and does not claim to be one: cudaGetDeviceCount fails
 * with the documented cudaErrorSoftwareValidityNotEstablished on a machine where all else is well.
 * Failures before that (no device, cuInit's codes, a driver too old) come out as on real ones. */
API cuGetExportTable(const void **table, const unsigned char id[16]) {
    if (!table || !id) return INVALID_VALUE;
    *table = NULL;
    return VALIDITY_NOT_ESTABLISHED;
}
