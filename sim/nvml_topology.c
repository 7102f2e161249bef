/* What NVML says of how devices are connected: PCIe, P2P, affinity, NVLink, fabric. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nvml_private.h"

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

static int read_set(const char *function, handle device, enum device_key key, uint words,
                    unsigned long *bits) {
    long long unused;
    if (is_handle(device)) device = gpu_of(device);
    int code = read_number(function, device, key, words ? bits : NULL, &unused);
    if (!code) parse_set(text_of(&device->value[key]), bits, words);
    return code;
}

API nvmlDeviceGetCpuAffinity(handle device, uint words, unsigned long *bits) {
    return read_set(__func__, device, F_cpu_affinity, words, bits);
}

API nvmlDeviceGetCpuAffinityWithinScope(handle device, uint words, unsigned long *bits,
                                        uint scope) {
    if (scope > 1) return INVALID_ARGUMENT;
    return read_set(__func__, device, F_cpu_affinity, words, bits);
}

API nvmlDeviceGetMemoryAffinity(handle device, uint words, unsigned long *bits, uint scope) {
    if (scope > 1) return INVALID_ARGUMENT;
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

static int enter_link(const char *function, handle device, uint number, const void *out,
                      struct link **link) {
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
    case 1:
    case 3:
    case 4: *result = 0; return SUCCESS; /* system memory, its atomics, SLI */
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

struct fabric_v1 {
    unsigned char cluster_uuid[16];
    int status;
    uint clique_id;
    unsigned char state;
};
struct fabric_v3 {
    uint version;
    unsigned char cluster_uuid[16];
    int status;
    uint clique_id;
    unsigned char state;
    uint health_mask;
    unsigned char health_summary;
};

static int read_fabric(const char *function, handle device, const void *out,
                       struct fabric_v3 *fabric) {
    long long state;
    int code = read_number(function, device, F_fabric_state, out, &state);
    if (code) return code;
    struct value *value = device->value;
    parse_uuid(text_of(&value[F_fabric_cluster_uuid]), fabric->cluster_uuid);
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
    uint type; /* 1: unsigned int, 3: unsigned long long */
    int code;
    union {
        ullong wide;
        uint number;
    } value;
};

static int read_count(handle device, enum device_key key, uint *number) {
    if (!device->value[key].given) return NOT_SUPPORTED;
    *number = (uint)device->value[key].number;
    return SUCCESS;
}

static int read_field(handle device, struct field_value *field, uint *number) {
    struct link *link;
    int code;
    switch (field->field) {
    case 38: /* NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL; those of data are not described */
        return read_count(device, F_link_crc_errors, number);
    case 52: /* NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL */
        return read_count(device, F_link_replay_errors, number);
    case 59: /* NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL */
        return read_count(device, F_link_recovery_errors, number);
    case 91:  /* NVML_FI_DEV_NVLINK_LINK_COUNT */
    case 147: /* NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT */
        *number = 0;
        for (int i = 0; i < MAX_LINKS; i++)
            *number += device->link[i].given &&
                       (field->field == 91 ||
                        (device->link[i].enabled && device->link[i].remote_type == 2));
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
    case 230: /* NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
        return read_count(device, F_recovery_action, number);
    default: return NOT_SUPPORTED;
    }
}

API nvmlDeviceGetFieldValues(handle device, int count, struct field_value *fields) {
    int code = enter_device(__func__, device);
    if (code) return code;
    if (count < 1 || !fields) return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        uint number = 0;
        ullong count = 0;
        fields[i].type = 1, fields[i].timestamp = fields[i].latency = 0;
        fields[i].code = read_counter(device, fields[i].field, &count);
        if (!fields[i].code) {
            fields[i].type = 3, fields[i].value.wide = count;
            continue;
        }
        fields[i].code = read_field(device, &fields[i], &number);
        fields[i].value.wide = number;
    }
    return SUCCESS;
}
