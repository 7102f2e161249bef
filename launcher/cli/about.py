"""Commands about the launcher itself: its version, its pages, its own completion."""

from __future__ import annotations

import json
from argparse import Namespace


def version(options: Namespace) -> int:
    from launcher import __version__
    from launcher.detect import user_python
    from launcher.model.printable import printable
    from launcher.settings import load

    found = user_python.read_versions(load.user_python())
    if options.json:
        print(json.dumps({"launcher": __version__, **found._asdict()}, indent=2))
        return 0
    print(f"launcher {__version__}")
    for name, value in (("Python", found.python), ("PyTorch", found.pytorch), ("CUDA", found.cuda)):
        if value:
            print(printable(f"{name} {value}"))
    return 0


# What a container's command may be, for who runs the image and knows nothing of it yet.
_USAGE = """\
PyTorch on NVIDIA GPUs, with JupyterLab and SSH (launcher {version})

JupyterLab and SSH; the log has the URL:
  docker run --gpus all -p 8888:8888 -p 2222:22 -v $PWD:/workspace IMAGE
  … IMAGE services --debug               with options of Jupyter's

A command in their place, as the workspace user, who sees the GPUs:
  docker run --rm --gpus all IMAGE python train.py
  docker run --rm --gpus all -it IMAGE bash

About this machine, and about what can be set (-e NAME=value):
  docker run --rm --gpus all IMAGE launcher doctor
  docker run --rm IMAGE launcher settings
  docker exec BOX launcher --help        of one that runs

Settings that most people want:
  JUPYTER_TOKEN, PUBLIC_KEY              opens Jupyter; lets in over SSH
  LAUNCHER_GPUS=2                        the best two GPUs; a list, idle, none
  NB_UID                                 who runs it, else the workspace's owner
  LAUNCHER_SERVICES=ssh                  no Jupyter
"""


def usage() -> int:
    """Print what can be run, for `docker run IMAGE --help`."""
    from launcher import __version__
    from launcher.detect import detect
    from launcher.settings import environ

    text = _USAGE.format(version=__version__)
    podman = detect.whereabouts(environ.own()).platform == "podman"
    print(text.replace("docker", "podman") if podman else text, end="")
    return 0


def explain(options: Namespace) -> int:
    from launcher.doctor import pages

    if options.list:
        print("\n".join(pages.findings()))
    else:
        print(pages.explain(" ".join(options.what)))
    return 0
