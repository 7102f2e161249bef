#define _GNU_SOURCE
#include "machine.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool machine_load(struct machine *machine) {
    char path[4096], error[1024];
    const char *named = getenv("NVSIM_MACHINE");
    Dl_info self;
    if (named) snprintf(path, sizeof path, "%s", named);
    else if (dladdr((void *)machine_load, &self)) {
        const char *slash = strrchr(self.dli_fname, '/');
        int folder = slash ? (int)(slash - self.dli_fname) : 0;
        snprintf(path, sizeof path, "%.*s/nvsim.machine", folder, self.dli_fname);
    } else return false;
    if (machine_read(machine, path, error, sizeof error)) return true;
    fprintf(stderr, "nvsim: %s\n", error);
    return false;
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
