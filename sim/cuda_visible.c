/* Which devices CUDA enumerates: CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER and MIG.
 *
 * Rules of the CUDA programming guide ("CUDA Environment Variables"); where it is silent, of
 * PyTorch's parser (torch/cuda/__init__.py, tested against driver 525.60.13); for MIG, of the
 * MIG user guide ("CUDA Visible Devices"). */
#include "cuda_visible.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
    struct device *device[MAX_VISIBLE];
    int count;
};

static bool contains(const struct list *list, const struct device *device) {
    for (int i = 0; i < list->count; i++)
        if (list->device[i] == device) return true;
    return false;
}

static int by_bus_id(const void *one, const void *two) {
    const struct device *a = *(struct device *const *)one, *b = *(struct device *const *)two;
    return strcasecmp(text_of(&a->value[F_pci_bus_id]), text_of(&b->value[F_pci_bus_id]));
}

/* The guide calls it "a simple heuristic": here multiprocessors times clock, then PCI order. */
static int by_speed(const void *one, const void *two) {
    const struct value *a = (*(struct device *const *)one)->value,
                       *b = (*(struct device *const *)two)->value;
    long long fast = a[F_multiprocessors].number * a[F_clock_sm_max].number;
    long long other = b[F_multiprocessors].number * b[F_clock_sm_max].number;
    return fast == other ? by_bus_id(one, two) : fast < other ? 1 : -1;
}

/* GPUs that answer.  One in MIG mode without instances has nothing CUDA could run on. */
static struct list usable_gpus(struct machine *machine) {
    struct list gpus = {.count = 0};
    for (int i = 0; i < machine->gpus; i++)
        if (machine->gpu[i].value[F_state].number == STATE_OK &&
            (!machine->gpu[i].value[F_mig_mode].number || machine->migs[i]))
            gpus.device[gpus.count++] = &machine->gpu[i];
    const char *order = getenv("CUDA_DEVICE_ORDER");
    bool by_pci = order && !strcmp(order, "PCI_BUS_ID");
    qsort(gpus.device, (size_t)gpus.count, sizeof *gpus.device, by_pci ? by_bus_id : by_speed);
    return gpus;
}

/* The number `text` begins with, as strtoul reads it ("2ampere" is 2); -1 when there is none. */
static long ordinal(const char *text) {
    char *end;
    while (isspace((unsigned char)*text)) text++;
    long number = strtol(text, &end, 10);
    return end == text ? -1 : number;
}

static struct list pick_ordinals(const struct list *gpus, char *mask) {
    struct list picked = {.count = 0};
    long seen[MAX_VISIBLE];
    int count = 0;
    for (char *item; count < MAX_VISIBLE && (item = strsep(&mask, ","));) {
        long number = ordinal(item);
        for (int i = 0; i < count; i++)
            if (seen[i] == number)
                return (struct list){.count = 0}; /* a duplicate hides everything */
        if (number < 0) break;
        seen[count++] = number;
    }
    for (int i = 0; i < count && seen[i] < gpus->count; i++)
        picked.device[picked.count++] = gpus->device[seen[i]];
    return picked;
}

static bool is_named(struct device *device, const char *name) {
    char old_style[TEXT_SIZE +
                   32]; /* MIG-GPU-<uuid>/<GPU instance>/<compute instance>, before R470 */
    if (!strncmp(text_of(&device->value[F_uuid]), name, strlen(name))) return true;
    if (!device->parent) return false;
    snprintf(old_style, sizeof old_style, "MIG-%s/%lld/%lld", text_of(&device->parent->value[F_uuid]),
             device->value[F_gpu_instance].number, device->value[F_compute_instance].number);
    return !strcmp(old_style, name);
}

/* The one device whose UUID begins with `name`; NULL when there is none, or more than one. */
static struct device *find_named(struct machine *machine, const struct list *gpus,
                                 const char *name) {
    struct device *found = NULL;
    int matches = 0;
    for (int i = 0; i < gpus->count; i++) {
        struct device *gpu = gpus->device[i];
        if (is_named(gpu, name)) found = gpu, matches++;
        for (int mig = 0; mig < machine->migs[gpu->index]; mig++)
            if (is_named(&machine->mig[gpu->index][mig], name))
                found = &machine->mig[gpu->index][mig], matches++;
    }
    return matches == 1 ? found : NULL;
}

static struct list pick_names(struct machine *machine, const struct list *gpus, char *mask) {
    struct list picked = {.count = 0};
    const char *kind = strncmp(mask, "GPU-", 4) ? "MIG-" : "GPU-";
    for (char *item; (item = strsep(&mask, ","));) {
        if (strncmp(item, kind, 4)) break;
        struct device *device = find_named(machine, gpus, item);
        if (!device) break;
        if (contains(&picked, device)) return (struct list){.count = 0};
        picked.device[picked.count++] = device;
    }
    return picked;
}

static bool same_gpu_instance(const struct device *one, const struct device *two) {
    return one->parent == two->parent &&
           one->value[F_gpu_instance].number == two->value[F_gpu_instance].number;
}

/* A GPU in MIG mode stands for its instances.  Once one instance is there, whole GPUs are not;
 * drivers differ in whether CUDA then enumerates one instance or one per GPU instance. */
static struct list settle_mig(struct machine *machine, const struct list *picked) {
    struct list whole = {.count = 0}, migs = {.count = 0};
    bool only_one = machine->value[F_mig_enumeration].number == 0;
    for (int i = 0; i < picked->count; i++) {
        struct device *device = picked->device[i];
        if (!device->parent && !device->value[F_mig_mode].number) {
            whole.device[whole.count++] = device;
            continue;
        }
        struct device *first = device->parent ? device : machine->mig[device->index];
        int instances = device->parent ? 1 : machine->migs[device->index];
        for (struct device *mig = first; mig < first + instances && !(only_one && migs.count);
             mig++) {
            bool taken = false;
            for (int k = 0; k < migs.count; k++)
                taken = taken || same_gpu_instance(migs.device[k], mig);
            if (!taken) migs.device[migs.count++] = mig;
        }
    }
    return migs.count ? migs : whole;
}

int visible_devices(struct machine *machine, struct device *visible[MAX_VISIBLE]) {
    struct list gpus = usable_gpus(machine), picked = gpus;
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    if (mask) {
        char *copy = strdup(mask);
        bool by_name = !strncmp(mask, "GPU-", 4) || !strncmp(mask, "MIG-", 4);
        picked = by_name ? pick_names(machine, &gpus, copy) : pick_ordinals(&gpus, copy);
        free(copy);
    }
    picked = settle_mig(machine, &picked);
    memcpy(visible, picked.device, sizeof picked.device);
    return picked.count;
}
