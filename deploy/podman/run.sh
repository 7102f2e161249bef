#!/bin/sh
# The same by hand, Podman 4.1 or newer, rootless or not: sh deploy/podman/run.sh
set -eu
exec podman run --name box --device nvidia.com/gpu=all --security-opt label=disable --shm-size=8g \
    -p 8888:8888 -p 2222:22 -e JUPYTER_PORT_HOST=8888 -e SSH_PORT_HOST=2222 \
    -v box-workspace:/workspace -v box-state:/var/lib/launcher "$@" localhost/pytorch-cuda:v2.6
