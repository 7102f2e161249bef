/* A machine with NVIDIA GPUs, as read from a description file (format: README.md).
 * Both libraries answer from it; what the file does not say, the machine cannot answer. */
#ifndef NVSIM_MACHINE_H
#define NVSIM_MACHINE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    MAX_GPUS = 16,
    MAX_MIG = 8,
    MAX_LINKS = 36, /* NVML_NVLINK_MAX_LINKS of API 13 */
    MAX_PROCESSES = 64,
    MAX_FAULTS = 64,
    MAX_EVENTS = 1024,
    MAX_SET_BITS = 1024, /* CPUs or NUMA nodes in an affinity list */
    P2P_KINDS = 5,       /* read, write, nvlink, atomics, pci: the NVML capability indices */
    TEXT_SIZE = 256,
    UNKNOWN = INT_MIN, /* a cell, link or code that the file leaves out */
};

/* The values of the `state` key. */
enum {
    STATE_OK,
    STATE_LOST,
    STATE_LOST_AFTER_HANDLE,
    STATE_NO_PERMISSION,
    STATE_NO_CUDA
};

/* Key, type, and for WORD the accepted words: their positions are the numbers NVML uses. */
#define MACHINE_KEYS(X) \
    X(driver_version, TEXT, NULL) \
    X(kernel_module_version, TEXT, NULL) \
    X(nvml_version, TEXT, NULL) \
    X(cuda_version, VERSION, NULL) \
    X(mig_enumeration, WORD, "one|per-gpu-instance")

#define DEVICE_KEYS(X) \
    X(state, WORD, "ok|lost|lost-after-handle|no-permission|no-cuda") \
    X(name, TEXT, NULL) \
    X(uuid, TEXT, NULL) \
    X(serial, TEXT, NULL) \
    X(vbios_version, TEXT, NULL) \
    X(pci_bus_id, BUS_ID, NULL) \
    X(pci_device_id, NUMBER, NULL) \
    X(pci_subsystem_id, NUMBER, NULL) \
    X(minor_number, NUMBER, NULL) \
    X(architecture, WORD, ARCHITECTURES) \
    X(compute_capability, VERSION, NULL) \
    X(multiprocessors, NUMBER, NULL) \
    X(memory_total, BYTES, NULL) \
    X(memory_used, BYTES, NULL) \
    X(memory_reserved, BYTES, NULL) \
    X(bar1_total, BYTES, NULL) \
    X(bar1_used, BYTES, NULL) \
    X(mig_mode, WORD, OFF_ON) \
    X(mig_mode_pending, WORD, OFF_ON) \
    X(mig_max_devices, NUMBER, NULL) \
    X(gpu_instance, NUMBER, NULL) \
    X(compute_instance, NUMBER, NULL) \
    X(gpu_instance_slices, NUMBER, NULL) \
    X(compute_instance_slices, NUMBER, NULL) \
    X(compute_mode, WORD, "default|exclusive-thread|prohibited|exclusive-process") \
    X(persistence_mode, WORD, OFF_ON) \
    X(virtualization_mode, WORD, "none|passthrough|vgpu|host-vgpu|host-vsga") \
    X(grid_license, WORD, "unlicensed|licensed") \
    X(display_mode, WORD, OFF_ON) \
    X(display_active, WORD, OFF_ON) \
    X(performance_state, NUMBER, NULL) \
    X(utilization_gpu, PERCENT, NULL) \
    X(utilization_memory, PERCENT, NULL) \
    X(utilization_encoder, PERCENT, NULL) \
    X(utilization_decoder, PERCENT, NULL) \
    X(fan_speed, PERCENT, NULL) \
    X(temperature, CELSIUS, NULL) \
    X(temperature_memory, CELSIUS, NULL) \
    X(xid, NUMBER, NULL) \
    X(power_usage, MILLIWATTS, NULL) \
    X(power_limit, MILLIWATTS, NULL) \
    X(energy_counter, WORD, NO_YES) \
    X(clock_graphics, MEGAHERTZ, NULL) \
    X(clock_sm, MEGAHERTZ, NULL) \
    X(clock_memory, MEGAHERTZ, NULL) \
    X(clock_video, MEGAHERTZ, NULL) \
    X(clock_graphics_max, MEGAHERTZ, NULL) \
    X(clock_sm_max, MEGAHERTZ, NULL) \
    X(clock_memory_max, MEGAHERTZ, NULL) \
    X(clock_video_max, MEGAHERTZ, NULL) \
    X(clocks_event_reasons, NUMBER, NULL) \
    X(ecc_mode, WORD, OFF_ON) \
    X(ecc_mode_pending, WORD, OFF_ON) \
    X(ecc_volatile_corrected, NUMBER, NULL) \
    X(ecc_volatile_uncorrected, NUMBER, NULL) \
    X(ecc_aggregate_corrected, NUMBER, NULL) \
    X(ecc_aggregate_uncorrected, NUMBER, NULL) \
    X(remapped_rows_corrected, NUMBER, NULL) \
    X(remapped_rows_uncorrected, NUMBER, NULL) \
    X(remapped_rows_pending, WORD, NO_YES) \
    X(remapped_rows_failure, WORD, NO_YES) \
    X(retired_pages_pending, WORD, NO_YES) \
    X(pcie_width, NUMBER, NULL) \
    X(pcie_width_max, NUMBER, NULL) \
    X(pcie_generation, NUMBER, NULL) \
    X(pcie_generation_max, NUMBER, NULL) \
    X(pcie_replays, NUMBER, NULL) \
    X(pcie_sent, BYTES, NULL) \
    X(pcie_received, BYTES, NULL) \
    X(link_sent, BYTES, NULL) \
    X(link_received, BYTES, NULL) \
    X(numa_node, NUMBER, NULL) \
    X(gpu_numa_id, NUMBER, NULL) \
    X(cpu_affinity, SET, NULL) \
    X(memory_affinity, SET, NULL) \
    X(fabric_state, WORD, "not-supported|not-started|in-progress|completed") \
    X(fabric_status, NUMBER, NULL) \
    X(fabric_cluster_uuid, TEXT, NULL) \
    X(fabric_clique_id, NUMBER, NULL) \
    X(fabric_health_mask, NUMBER, NULL) \
    X(fabric_health_summary, NUMBER, NULL) \
    X(link_recovery_errors, NUMBER, NULL) \
    X(link_replay_errors, NUMBER, NULL) \
    X(link_crc_errors, NUMBER, NULL) \
    X(c2c_links, NUMBER, NULL) \
    X(gpu_direct_rdma, WORD, NO_YES) \
    X(dma_buf, WORD, NO_YES) \
    X(event_types, NUMBER, NULL) \
    X(recovery_action, WORD, RECOVERY_ACTIONS)

#define OFF_ON "disabled|enabled"
#define NO_YES "no|yes"
#define RECOVERY_ACTIONS \
    "none|gpu-reset|node-reboot|drain-p2p|drain-and-reset|recover-imex-domain|bus-reset|" \
    "system-reboot"
#define ARCHITECTURES "-|-|kepler|maxwell|pascal|volta|turing|ampere|ada|hopper|blackwell"

#define NAME_KEY(key, type, words) F_##key,
enum machine_key {
    MACHINE_KEYS(NAME_KEY) MACHINE_KEY_COUNT
};
enum device_key {
    DEVICE_KEYS(NAME_KEY) DEVICE_KEY_COUNT
};
#undef NAME_KEY

struct value {
    bool given, inherited; /* inherited: from [gpu *], so a GPU may say otherwise */
    long long number; /* NUMBER and what reduces to one; VERSION is 1000 * major + 10 * minor */
    long long most;   /* of a quantity that moves between `number` and this; 0 where it stays */
    const char *text; /* as it is written, in `source`; NULL where it is not given */
};

struct link {
    bool given, inherited, enabled, p2p, atomics;
    int version;     /* NVML_NVLINK_VERSION_* */
    int remote_type; /* NVML_NVLINK_DEVICE_TYPE_*: 0 GPU, 1 IBM NPU, 2 switch, 255 unknown */
    char remote_bus_id[17]; /* "": it is hidden */
};

struct process {
    unsigned pid;
    bool graphics;
    long long memory; /* UNKNOWN: the driver does not say */
};

struct device { /* a GPU, or a MIG instance of one */
    int index;
    struct device *parent; /* of a MIG instance; NULL for a GPU */
    struct value value[DEVICE_KEY_COUNT];
    struct link link[MAX_LINKS];
    struct process process[MAX_PROCESSES];
    int processes;
};

struct fault { /* what happens when `function` is called (on GPU `gpu`, or on any when < 0) */
    char function[TEXT_SIZE];
    int gpu, line, code, delay_ms;
    bool crash, hang;
    char variable[TEXT_SIZE]; /* only where this is set in the environment; "" = always */
};

struct event { /* what whoever waits for `type` on that GPU hears */
    int gpu, gpu_instance, compute_instance; /* instances: -1 where it is no MIG instance's */
    unsigned long long type, data;
};

struct machine {
    char *source; /* the description, cut up: what the texts point into */
    struct value value[MACHINE_KEY_COUNT];
    struct device gpu[MAX_GPUS], mig[MAX_GPUS][MAX_MIG];
    int gpus, migs[MAX_GPUS];
    int pcie_level[MAX_GPUS][MAX_GPUS];     /* NVML_TOPOLOGY_* */
    int p2p[P2P_KINDS][MAX_GPUS][MAX_GPUS]; /* NVML_P2P_STATUS_* */
    struct fault fault[MAX_FAULTS];
    int faults;
    struct event event[MAX_EVENTS];
    int events;
};

/* What a key says as text; "" where it says none. */
static inline const char *text_of(const struct value *value) {
    return value->text ? value->text : "";
}

/* Read PATH into `machine`, which is zeroed or was read before; on failure return false with
 * "PATH:LINE: what is wrong" in `error`. */
bool machine_read(struct machine *machine, const char *path, char *error, size_t size);

/* Find the description: $NVSIM_MACHINE, else `nvsim.machine` beside this library.  A description
 * that is wrong is said on standard error: a typo in a test must not look like a broken GPU. */
bool machine_load(struct machine *machine);

/* Read it again where it has changed since the last time, and not since the last look: whoever
 * writes it has ended then.  False where nothing was read. */
struct stamp {
    long long seconds, nanoseconds, size;
};
struct looks {
    struct stamp last, read;
};
bool machine_reload(struct machine *machine, struct looks *looks);

/* Sleep until somebody writes the description, or puts another in its place; a second at most, for
 * what came before.  Where the kernel has no room for one more watch, a short while.  `watch` is -1
 * the first time. */
void machine_await_change(int *watch, long long milliseconds);

/* Suffer the faults set for `function` (it may not return); the code to return, or UNKNOWN. */
int machine_suffer(const struct machine *machine, const char *function, int gpu);

/* Parse "0-3,8" into bits; false when malformed. */
bool parse_set(const char *text, unsigned long *bits, size_t words);

/* The 16 bytes of a UUID, whatever it begins with ("GPU-", "MIG-"). */
void parse_uuid(const char *text, unsigned char bytes[16]);

#endif
