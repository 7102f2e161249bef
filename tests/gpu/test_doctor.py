"""`launcher doctor`: green as the machine is, then red in the layer where something was broken.

Nothing is broken for others: a variable, a folder, or a mount that one process sees.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report

# The simulated driver computes nothing, so what PyTorch itself does is told apart from the rest.
AROUND_PYTORCH = (
    "hardware", "driver", "runtime", "libraries", "cuda", "environment", "resources",
)  # fmt: skip
NUMBER = {"runtime": 3, "libraries": 4, "pytorch": 6, "environment": 7}

_TOOLKIT_STUB = "/usr/local/cuda/lib64/stubs/libcuda.so"
_STUB = "int cuInit(unsigned flags) { (void)flags; return 34; }\n"  # CUDA_ERROR_STUB_LIBRARY
_CPU_TORCH = """\
__version__ = "2.6.0+cpu"
class version:
    cuda = None
    hip = None
class _C:
    pass
class cuda:
    @staticmethod
    def is_available():
        return False
"""

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def doctor(machine: TestedMachine) -> Doctor:
    """Return the doctor, for those layers that can be well on this machine."""
    layers = () if machine.real else AROUND_PYTORCH
    return lambda **options: machine.doctor(*layers, **options)


def test_green(doctor: Doctor, report: Report) -> None:
    found = doctor()
    report.texts["launcher doctor"] = _as_text(found)
    assert found["failure"] is None
    looked_at = {row["name"]: row["status"] for row in found["layers"]}
    # A machine may have something to warn of, as the simulated one has: a link that is down.
    assert {looked_at[name] for name in AROUND_PYTORCH[:5]} <= {"ok", "warning"}


def _as_text(found: dict[str, Any]) -> str:
    rows = [f"{row['name']:<12} {row['status']:<8} {row['text']}" for row in found["layers"]]
    failure = [found["failure"]] if found["failure"] else []
    rows += [f"{one['id']}: {one['what']}" for one in (*failure, *found["warnings"])]
    return "\n".join(rows)


def assert_broken(found: dict[str, Any], id: str, report: Report) -> None:
    report.texts[f"launcher doctor: {id}"] = _as_text(found)
    assert found["failure"], found["layers"]
    assert found["failure"]["id"] == id
    assert found["exit_status"] == 10 + NUMBER[id.partition(".")[0]]


def test_a_stub_of_libcuda(
    machine: TestedMachine, doctor: Doctor, tmp_path: Path, report: Report
) -> None:
    folder = tmp_path / "stubs"
    folder.mkdir()
    stub = folder / "libcuda.so.1"
    if os.path.exists(_TOOLKIT_STUB):
        stub.symlink_to(_TOOLKIT_STUB)
    elif shutil.which("gcc"):
        (folder / "stub.c").write_text(_STUB)
        arguments = ["gcc", "-shared", "-fPIC", "-o", str(stub), str(folder / "stub.c")]
        subprocess.run(arguments, check=True)
    else:
        pytest.skip("no CUDA toolkit with a stub of libcuda, and no gcc to make one")
    path = ":".join(filter(None, [str(folder), machine.environ.get("LD_LIBRARY_PATH")]))
    found = doctor(env={"LD_LIBRARY_PATH": path})
    assert_broken(found, "libraries.stub", report)
    assert str(folder) in str(found["failure"])


def test_a_pytorch_without_cuda(machine: TestedMachine, tmp_path: Path, report: Report) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(_CPU_TORCH)
    found = machine.doctor(env={"PYTHONPATH": str(tmp_path)})
    assert_broken(found, "pytorch.cpu_build", report)
    assert "2.6.0+cpu" in found["failure"]["what"]


def test_a_mask_that_names_no_gpu_that_is_here(
    machine: TestedMachine, doctor: Doctor, report: Report
) -> None:
    absent = str(max(7, len(machine.report().gpus)))
    found = doctor(env={"CUDA_VISIBLE_DEVICES": absent})
    assert_broken(found, "environment.out_of_range", report)
    assert absent in found["failure"]["what"]


# A /dev of this process alone, without one node.  It cannot be written to: the driver's libraries
# make a node that is missing, where they are root's.
_HIDE = r"""
hidden=$1 new=$2; shift 2
mount -t tmpfs -o mode=755 none "$new"
for path in /dev/*; do
    [ "$path" = "$hidden" ] && continue
    place="$new/${path#/dev/}"
    if [ -L "$path" ]; then cp -P "$path" "$place"
    elif [ -d "$path" ]; then mkdir "$place"; mount --rbind "$path" "$place"
    else : > "$place"; mount --bind "$path" "$place"; fi
done
mount --rbind "$new" /dev
mount -o remount,bind,ro /dev
exec "$@"
"""


@pytest.mark.parametrize(
    ("node", "id"),
    [("nvidia0", "runtime.gpu_node_missing"), ("nvidia-uvm", "runtime.uvm_node_missing")],
)
def test_a_device_node_that_is_hidden(
    machine: TestedMachine, doctor: Doctor, tmp_path: Path, report: Report, node: str, id: str
) -> None:
    if not machine.real:
        pytest.skip("the simulated driver needs no device node")
    if not os.path.exists(f"/dev/{node}"):
        pytest.skip(f"there is no /dev/{node} to hide")
    hide = ("unshare", "--mount", "sh", "-ec", _HIDE, "hide", f"/dev/{node}", str(tmp_path))
    if subprocess.run([*hide, "test", "!", "-e", f"/dev/{node}"], check=False).returncode:
        pytest.skip("this process may not mount a /dev of its own")
    assert_broken(doctor(prefix=hide), id, report)
