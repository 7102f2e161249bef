#define _GNU_SOURCE
#include "machine.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool find_description(char *path, size_t size) {
    const char *named = getenv("NVSIM_MACHINE");
    Dl_info self;
    if (named) return snprintf(path, size, "%s", named), true;
    if (!dladdr((void *)machine_load, &self)) return false;
    const char *slash = strrchr(self.dli_fname, '/');
    int folder = slash ? (int)(slash - self.dli_fname) : 0;
    return snprintf(path, size, "%.*s/nvsim.machine", folder, self.dli_fname), true;
}

bool machine_load(struct machine *machine) {
    char path[4096], error[1024];
    if (!find_description(path, sizeof path)) return false;
    if (machine_read(machine, path, error, sizeof error)) return true;
    fprintf(stderr, "nvsim: %s\n", error);
    return false;
}

static bool is_same(const struct stamp *one, const struct stamp *two) {
    return !memcmp(one, two, sizeof *one);
}

bool machine_reload(struct machine *machine, struct looks *looks) {
    char path[4096], error[1024];
    struct stat now;
    if (!find_description(path, sizeof path) || stat(path, &now)) return false;
    struct stamp stamp = {now.st_mtim.tv_sec, now.st_mtim.tv_nsec, now.st_size};
    bool settled = is_same(&stamp, &looks->last);
    looks->last = stamp;
    if (!settled || is_same(&stamp, &looks->read)) return false;
    looks->read = stamp;
    struct machine *read = calloc(1, sizeof *read);
    bool good = read && machine_read(read, path, error, sizeof error);
    if (good) {
        free(machine->source);
        *machine = *read;
        for (int gpu = 0; gpu < MAX_GPUS; gpu++)
            for (int mig = 0; mig < machine->migs[gpu]; mig++)
                machine->mig[gpu][mig].parent = &machine->gpu[gpu];
    }
    if (read && !good) free(read->source);
    free(read);
    return good;
}

enum { LOOK_MS = 20 }; /* until it is looked at, where nobody tells of a change */

void machine_await_change(int *watch, long long milliseconds) {
    const unsigned CHANGES = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF;
    char path[4096], told[4096];
    if (*watch < 0) *watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    bool hears = *watch >= 0 && find_description(path, sizeof path) &&
                 inotify_add_watch(*watch, path, CHANGES) >= 0;
    struct pollfd pipe = {*watch, POLLIN, 0};
    int most = hears ? 1000 : LOOK_MS;
    poll(&pipe, hears, (int)(milliseconds < most ? milliseconds : most));
    while (hears && read(*watch, told, sizeof told) > 0) {}
}

/* A fault on nvmlInit also covers nvmlInit_v2 and nvmlInitWithFlags: callers differ. */
static bool covers(const char *name, const char *function) {
    size_t n = strlen(name);
    if (strncmp(name, function, n)) return false;
    const char *rest = function + n;
    return !*rest || !strcmp(rest, "WithFlags") ||
           (rest[0] == '_' && rest[1] == 'v' && isdigit((unsigned char)rest[2]));
}

int machine_suffer(const struct machine *machine, const char *function, int gpu) {
    int code = UNKNOWN;
    for (const struct fault *fault = machine->fault; fault < machine->fault + machine->faults;
         fault++) {
        if (!covers(fault->function, function) || (fault->gpu >= 0 && fault->gpu != gpu)) continue;
        if (*fault->variable && !getenv(fault->variable)) continue;
        struct timespec left = {fault->delay_ms / 1000, fault->delay_ms % 1000 * 1000000L};
        while (nanosleep(&left, &left) && errno == EINTR) {}
        if (fault->crash) *(volatile int *)0 = 0;
        while (fault->hang) pause();
        if (code == UNKNOWN) code = fault->code;
    }
    return code;
}
