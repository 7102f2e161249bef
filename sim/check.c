/* nvsim-check FILE...: read machine descriptions as the libraries do, and say what is wrong.
 * A fault on a function that neither library has would never fire, so it is wrong as well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "machine.h"

static bool is_function(const char *name) {
    static const char *const SUFFIXES[] = {"", "_v2", "_v3"};
    char symbol[TEXT_SIZE + 3];
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        snprintf(symbol, sizeof symbol, "%s%s", name, SUFFIXES[i]);
        if (dlsym(RTLD_DEFAULT, symbol)) return true;
    }
    return false;
}

int main(int count, char **paths) {
    static struct machine machine;
    int wrong = 0;
    char error[1024];
    for (int i = 1; i < count; i++) {
        if (!machine_read(&machine, paths[i], error, sizeof error)) {
            fprintf(stderr, "%s\n", error);
            wrong = 1;
            continue;
        }
        for (int f = 0; f < machine.faults; f++)
            if (!is_function(machine.fault[f].function)) {
                fprintf(stderr, "%s:%d: neither library has a function '%s'\n", paths[i],
                        machine.fault[f].line, machine.fault[f].function);
                wrong = 1;
            }
    }
    return wrong;
}
