#ifndef NVSIM_CUDA_VISIBLE_H
#define NVSIM_CUDA_VISIBLE_H

#include "machine.h"

enum {
    MAX_VISIBLE = MAX_GPUS * MAX_MIG
};

/* The devices CUDA would enumerate on `machine` in this environment, in its order; how many. */
int visible_devices(struct machine *machine, struct device *visible[MAX_VISIBLE]);

#endif
