# The image: what a PyTorch user expects, started by the launcher.
#
#   docker build -t pytorch-cuda:v2.6 .
#
# Inputs, all optional (--build-arg NAME=…):
#   BASE_IMAGE               any Debian or Ubuntu with Python 3.10 or newer, an NGC PyTorch image too
#   TORCH                    what pip installs as PyTorch; empty where the base image brings its own
#   TORCH_INDEX              another index for these, such as PyTorch's own for the CPU
#   FLAVOR                   full; slim, without compilers and Triton; devel, with nvcc
#   LOCKED=no                versions that pip finds instead of image/locks: another index, Python
#   WHEELS                   an image whose root folder holds wheels for pip to use
#   VERSION REVISION CREATED for the labels
# and, in no layer and no history (--secret id=NAME,src=FILE):
#   ca                       a CA bundle, for a build behind a proxy that inspects TLS
#   pip                      a pip.conf: another index; no-index for nothing but those wheels
#
# Docker 20.10 builds it (there with DOCKER_BUILDKIT=1): so no heredocs, no COPY --link, and no
# "# syntax=" line, which would fetch a frontend from a registry.

# Build scripts, wheels and locks are mounted on /mnt, /media and /srv: folders that are there anyway,
# because a folder made for a mount stays in the layer.

ARG BASE_IMAGE=debian:bookworm-slim
ARG WHEELS=scratch
ARG FLAVOR=full

# hadolint ignore=DL3006
FROM ${WHEELS} AS wheels


# ------------------------------------------------------- the distribution's part, and the user
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS system
COPY image/dpkg-excludes /etc/dpkg/dpkg.cfg.d/launcher
# openssh-server's postinst makes host keys; in a layer they would be the same for everyone, and
# public.  Each container makes its own.
RUN --mount=type=secret,id=ca --mount=type=bind,source=image/build,target=/mnt \
    /mnt/install-packages \
 && rm /etc/ssh/ssh_host_*
RUN --mount=type=bind,source=image/build,target=/mnt \
    /mnt/make-user dev 1000


# ------------------------------------------------------- what compiles: all but slim have it
FROM system AS compilers
RUN --mount=type=secret,id=ca --mount=type=bind,source=image/build,target=/mnt \
    /mnt/install-packages compilers


# ------------------------------------------------------- /opt/venv: PyTorch, Jupyter, the user's
FROM compilers AS notebook
ARG TORCH="torch==2.6.0 torchvision==0.21.0 torchaudio==2.6.0"
ARG TORCH_INDEX=
ARG LOCKED=yes
# hadolint ignore=SC2086
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    --mount=type=bind,source=image/build,target=/mnt --mount=type=bind,from=wheels,target=/media \
    --mount=type=bind,source=image/locks/torch,target=/srv \
    /mnt/install-torch $TORCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    --mount=type=bind,source=image/build,target=/mnt --mount=type=bind,from=wheels,target=/media \
    --mount=type=bind,source=image/locks/notebook,target=/srv \
    --mount=type=bind,source=image/requirements.txt,target=/requirements.txt \
    /mnt/install-notebook "$TORCH"


# ------------------------------------------------------- /opt/launcher: ours, out of users' reach
FROM compilers AS launcher
ARG LOCKED=yes
RUN python3 -m venv /opt/launcher
COPY pyproject.toml README.md LICENSE supervisord.conf /source/
COPY docs/doctor.md docs/operations.md /source/docs/
COPY launcher /source/launcher
# pip is not needed afterwards, and root's environment is not to be changed by hand.
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    --mount=type=bind,source=image/build,target=/mnt --mount=type=bind,from=wheels,target=/media \
    --mount=type=bind,source=image/locks/launcher,target=/srv \
    /mnt/install-launcher /source \
 && /opt/launcher/bin/python -m pip uninstall --yes --quiet setuptools pip \
 && /opt/launcher/bin/launcher completion bash > /opt/launcher/completion.bash
# What the engine starts is linked statically: a dynamic loader would follow LD_LIBRARY_PATH.
RUN --mount=type=bind,source=image/ours,target=/mnt \
    mkdir /opt/launcher/command \
 && gcc -std=c11 -Wall -Wextra -Werror -Os -s -static -o /opt/launcher/command/launcher \
    /mnt/launcher.c \
 && ln -s command/launcher /opt/launcher/entrypoint
COPY entrypoint.py /opt/launcher/


# ------------------------------------------------------- flavors: what the image begins with
FROM notebook AS full

# From the start, since what a layer deletes is still in the one below.
FROM notebook AS without-compilers
RUN --mount=type=bind,source=image/build,target=/mnt \
    /mnt/drop-compiling
FROM system AS slim
COPY --from=without-compilers /opt/venv /opt/venv

FROM notebook AS devel
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    --mount=type=bind,source=image/build,target=/mnt --mount=type=bind,from=wheels,target=/media \
    /mnt/install-nvcc
ENV CUDA_HOME=/opt/cuda


# ------------------------------------------------------- the image
# hadolint ignore=DL3006
FROM ${FLAVOR}
COPY --from=launcher /opt/launcher /opt/launcher
COPY image/rootfs /
RUN --mount=type=bind,source=image/ours,target=/mnt \
    /mnt/prepare-folders
COPY supervisord.conf /etc/launcher/

# `launcher` comes first, alone in a folder of root's: whoever runs it as root runs ours.  Then the
# user's environment: python, pip and jupyter are the workspace's.
ENV PATH=/opt/launcher/command:/opt/venv/bin:$PATH \
    LANG=C.UTF-8 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /workspace
EXPOSE 8888 22
# What is kept, and what is this run's: `docker commit` takes neither along.
VOLUME ["/var/lib/launcher", "/run/launcher"]
STOPSIGNAL SIGTERM
# By its path: a PATH may have been given.
HEALTHCHECK --interval=10s --timeout=3s --retries=2 --start-period=60s \
    CMD ["/usr/local/bin/launcher", "healthcheck"]
# It keeps a stop that comes while Python still starts, where the kernel would drop it (PID 1).
ENTRYPOINT ["/opt/launcher/entrypoint"]
# A list, and not nothing: spawners append their options to it.
CMD ["services"]

ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL devcontainer.metadata='[{"overrideCommand": false}]' \
      org.opencontainers.image.title="pytorch-cuda" \
      org.opencontainers.image.description="PyTorch with JupyterLab and SSH, started by a launcher that knows its GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="$BASE_IMAGE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
