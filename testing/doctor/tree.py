"""A machine as a tree of files: /sys, /proc, /dev and folders of simulated driver libraries.

Everything is what a process in a container would find there, and nothing in the launcher knows that
it is not real: it is given the tree as its root directory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sim import description, driver, host_files

LIBRARIES = "usr/lib/x86_64-linux-gnu"
PCI = "sys/bus/pci/devices"
CONTROL, UVM = "dev/nvidiactl", "dev/nvidia-uvm"

Changes = Mapping[str, Mapping[str, str | None]]
Step = Callable[["Tree"], None]

# Of pci.ids(5), the lines that the simulated machines need.
PCI_IDS = """\
1002  Advanced Micro Devices, Inc. [AMD/ATI]
10de  NVIDIA Corporation
\t20b2  GA100 [A100 SXM4 80GB]
\t20b5  GA100 [A100 PCIe 80GB]
\t2204  GA102 [GeForce RTX 3090]
\t2237  GA102GL [A10G]
\t2330  GH100 [H100 SXM5 80GB]
\t2684  AD102 [GeForce RTX 4090]
\t2b85  GB202 [GeForce RTX 5090]
10df  Emulex Corporation
"""


class Tree:
    """A root directory, and the text of the machine that its libraries answer for.

    Libraries are beside it: the loader knows them by their real paths, and those must be paths
    below the root as well.  So the root has links to them, under both names.
    """

    def __init__(self, folder: Path, machine: str, built: Path) -> None:
        self.root = folder / "root"
        self.outside = folder / "libraries"
        self.machine = machine
        self._built = built  # where the simulator's libraries were compiled
        self.outside.mkdir()
        self._link(str(self.outside).lstrip("/"), self.outside)

    @property
    def version(self) -> str:
        return description.machine(self.machine).get("driver_version")

    def make(self) -> None:
        """Write all that a healthy container with every GPU of the machine has."""
        host_files.write_proc(self.root / "proc/driver", self.machine)
        host_files.write_pci(self.root / PCI, self.machine)
        self.bind("nvidia")
        self.write("proc/modules", "nvidia_uvm 1 0 - Live\nnvidia 1 1 nvidia_uvm, Live\n")
        self.write("proc/version", "Linux version 6.1.0 (gcc) #1 SMP\n")
        self.write("usr/share/misc/pci.ids", PCI_IDS)
        self.write(".dockerenv", "")
        for node in self._nodes():
            self.write(node, "")
            (self.root / node).chmod(0o666)
        (self.root / "dev/shm").mkdir(parents=True, exist_ok=True)
        self.libraries(LIBRARIES)

    def _nodes(self) -> Iterator[str]:
        yield from (CONTROL, UVM, "dev/nvidia-uvm-tools")
        for gpu in description.gpus(self.machine):
            yield f"dev/nvidia{gpu.get('minor_number')}"
            if gpu.migs:
                yield from ("dev/nvidia-caps/nvidia-cap1", "dev/nvidia-caps/nvidia-cap2")

    def libraries(
        self, folder: str, version: str | None = None, changes: Changes | None = None
    ) -> None:
        """Put the driver's libraries into `folder`, answering for the machine with `changes`."""
        version = version or self.version
        for name in ("libcuda.so", "libnvidia-ml.so"):
            self.library(folder, name, version)
        self.answer(folder, changes)

    def library(self, folder: str, name: str, version: str) -> None:
        """Put one library of the simulator there under the names of a real one."""
        place = self._place(folder)
        shutil.copyfile(self._built / f"{name}.1", place / f"{name}.{version}")
        (place / f"{name}.1").symlink_to(f"{name}.{version}")
        (place / name).symlink_to(f"{name}.1")

    def answer(self, folder: str, changes: Changes | None = None) -> None:
        """Write the description that the libraries in `folder` read."""
        path = self._place(folder) / "nvsim.machine"
        path.write_text(description.edit(self.machine, changes or {}))

    def check(self) -> None:
        """Raise DescriptionError where libraries could not read what they answer from."""
        for path in self.outside.rglob("nvsim.machine"):
            driver.check(self._built, path)

    def _place(self, folder: str) -> Path:
        place = self.outside / folder
        if not place.exists():
            place.mkdir(parents=True)
            self._link(folder, place)
        return place

    def _link(self, path: str, target: Path) -> None:
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def bind(self, kernel_driver: str) -> None:
        """Bind the display controllers to this kernel driver, "" to none."""
        for device in (self.root / PCI).iterdir():
            link = device / "driver"
            link.unlink(missing_ok=True)
            if kernel_driver:
                link.symlink_to(f"../../drivers/{kernel_driver}")

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def remove(self, *patterns: str) -> None:
        for pattern in patterns:
            found = list(self.root.glob(pattern))
            assert found, f"the tree has no {pattern}"
            for path in found:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


# --- steps: how a machine differs from a healthy one -------------------------------------------


def removed(*patterns: str) -> Step:
    return lambda tree: tree.remove(*patterns)


def written(path: str, text: str) -> Step:
    return lambda tree: tree.write(path, text)


def given(*gpus: int) -> Step:
    """Give the container only these GPUs; the machine has the others all the same."""

    def step(tree: Tree) -> None:
        for gpu in description.gpus(tree.machine):
            if gpu.index not in gpus:
                tree.remove(f"dev/nvidia{gpu.get('minor_number')}")
        selected = description.select(tree.machine, dict.fromkeys(gpus))
        tree.write(f"{LIBRARIES}/nvsim.machine", selected)

    return step


def bound_to(kernel_driver: str) -> Step:
    return lambda tree: tree.bind(kernel_driver)


def libraries_in(folder: str, version: str | None = None, changes: Changes | None = None) -> Step:
    return lambda tree: tree.libraries(folder, version, changes)


def only_libcuda_in(folder: str, version: str) -> Step:
    return lambda tree: tree.library(folder, "libcuda.so", version)


def answering(folder: str, changes: Changes) -> Step:
    """Let the libraries in `folder` answer otherwise, from now on."""
    return lambda tree: tree.answer(folder, changes)


def linked(path: str, target: str) -> Step:
    def step(tree: Tree) -> None:
        place = tree.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    return step


def blocked(path: str) -> Step:
    """Let opening for writing fail with EPERM, as the device cgroup makes it."""

    def step(tree: Tree) -> None:
        done = subprocess.run(
            ["chattr", "+i", str(tree.root / path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotPossible(f"EPERM needs root and a file system with chattr: {done.stderr}")

    return step


def dead(path: str) -> Step:
    """Let opening fail with ENXIO, as where there is no device behind the node (open(2))."""

    def step(tree: Tree) -> None:
        tree.remove(path)
        place = tree.root / path
        folder = os.open(place.parent, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as server:
                # A socket's path may have 107 bytes (unix(7)); a temporary folder's is longer.
                server.bind(f"/proc/self/fd/{folder}/{place.name}")
        finally:
            os.close(folder)

    return step


def of_mode(path: str, mode: int) -> Step:
    return lambda tree: (tree.root / path).chmod(mode)


def of_group(path: str, gid: int) -> Step:
    """Let root and one group alone open it, as SUSE's driver packages make it."""

    def step(tree: Tree) -> None:
        os.chown(tree.root / path, 0, gid)
        (tree.root / path).chmod(0o660)

    return step


def of_wrong_class(path: str) -> Step:
    """Make an ELF file one of 32 bits (elf(5), EI_CLASS)."""

    def step(tree: Tree) -> None:
        place = (tree.root / path).resolve()
        content = bytearray(place.read_bytes())
        assert content[4] == 2  # ELFCLASS64
        content[4] = 1
        place.write_bytes(content)

    return step


class NotPossible(Exception):
    """This machine cannot make that tree."""


def release(root: Path) -> None:
    """Undo what keeps a tree from being removed."""
    if shutil.which("chattr"):
        subprocess.run(["chattr", "-R", "-i", str(root)], capture_output=True, check=False)
