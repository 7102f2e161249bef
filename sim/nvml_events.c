/* NVML's events: whoever waits hears what is appended to the description's [events]. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "nvml_private.h"

enum {
    SETTLE_MS = 20,         /* until whoever writes the description has ended */
    XID_CRITICAL_ERROR = 8, /* nvmlEventTypeXidCriticalError */
};

struct event_set {
    ullong types[MAX_GPUS]; /* that are waited for, by GPU */
    int heard;              /* how many events of the description it knows */
    struct looks looks;
    int watch; /* of the description */
    bool untold[MAX_GPUS]; /* has an `xid`, which the first wait is to tell */
    struct event told;
};
typedef struct event_set *event_set;

struct event_data {
    handle device;
    ullong type, data;
};
struct event_data_v2 {
    handle device;
    ullong type, data;
    uint gpu_instance, compute_instance;
};

API nvmlDeviceGetSupportedEventTypes(handle device, ullong *types) {
    long long number;
    int code = read_number(__func__, device, F_event_types, types, &number);
    if (!code) *types = (ullong)number;
    return code;
}

/* What the session's description holds already has happened. */
API nvmlEventSetCreate(event_set *set) {
    int code = enter(__func__);
    if (code) return code;
    if (!set || !(*set = calloc(1, sizeof **set))) return INVALID_ARGUMENT;
    (*set)->heard = machine.events;
    (*set)->watch = -1;
    return SUCCESS;
}

API nvmlEventSetFree(event_set set) {
    int code = enter(__func__);
    if (code) return code;
    if (set && set->watch >= 0) close(set->watch);
    free(set);
    return SUCCESS;
}

API nvmlDeviceRegisterEvents(handle device, ullong types, event_set set) {
    long long supported;
    int code = read_number(__func__, device, F_event_types, set, &supported);
    if (code) return code;
    if (device->parent || types & ~(ullong)supported) return NOT_SUPPORTED;
    set->types[device->index] |= types;
    set->untold[device->index] = types & XID_CRITICAL_ERROR && device->value[F_xid].given;
    return SUCCESS;
}

static const struct event *next(event_set set) {
    for (int i = 0; i < machine.gpus; i++)
        if (set->untold[i]) {
            set->untold[i] = false;
            set->told = (struct event){.type = XID_CRITICAL_ERROR, .gpu = i, .gpu_instance = -1,
                                       .compute_instance = -1,
                                       .data = (ullong)machine.gpu[i].value[F_xid].number};
            return &set->told;
        }
    if (set->heard > machine.events) set->heard = machine.events; /* it was written anew */
    while (set->heard < machine.events) {
        const struct event *event = &machine.event[set->heard++];
        if (set->types[event->gpu] & event->type) return event;
    }
    return NULL;
}

/* What is read anew counts for every call of this session: the GPU is as the event left it. */
static int await(const char *function, event_set set, uint timeout, const struct event **found) {
    int code = enter(function);
    if (code) return code;
    if (!set) return INVALID_ARGUMENT;
    long long end = milliseconds() + timeout;
    while (!(*found = next(set))) {
        long long left = end - milliseconds();
        if (left <= 0) return TIMEOUT;
        machine_await_change(&set->watch, left);
        for (int look = 0; look < 2; look++) { /* the second knows that it is whole */
            nanosleep(&(struct timespec){0, SETTLE_MS * 1000000L}, NULL);
            machine_reload(&machine, &set->looks);
        }
    }
    return SUCCESS;
}

API nvmlEventSetWait(event_set set, struct event_data *data, uint timeout) {
    const struct event *found;
    int code = await(__func__, set, timeout, &found);
    if (!code) *data = (struct event_data){&machine.gpu[found->gpu], found->type, found->data};
    return code;
}

API nvmlEventSetWait_v2(event_set set, struct event_data_v2 *data, uint timeout) {
    const struct event *found;
    int code = await(__func__, set, timeout, &found);
    if (!code)
        *data = (struct event_data_v2){&machine.gpu[found->gpu], found->type, found->data,
                                       (uint)found->gpu_instance, (uint)found->compute_instance};
    return code;
}
