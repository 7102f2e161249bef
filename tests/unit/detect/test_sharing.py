"""What shows of others who share the GPUs: pipes of MPS, a device plugin's names, limits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launcher.detect import detect
from launcher.detect.sharing import read_sharing
from launcher.model.host import Sharing


def listening(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True)
    os.mkfifo(root / folder / "control")


def test_mps_listens_where_cuda_looks_for_it(tmp_path: Path) -> None:
    listening(tmp_path, "tmp/nvidia-mps")
    assert read_sharing({}, tmp_path) == Sharing(mps="/tmp/nvidia-mps")


def test_mps_listens_where_the_variable_says(tmp_path: Path) -> None:
    """As the device plugin of Kubernetes mounts it."""
    listening(tmp_path, "mps/nvidia.com/gpu/pipe")
    listening(tmp_path, "tmp/nvidia-mps")
    environ = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/nvidia.com/gpu/pipe"}
    assert read_sharing(environ, tmp_path).mps == "/mps/nvidia.com/gpu/pipe"


def test_a_socket_will_do(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    folder = os.open(tmp_path / "p", os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/control")  # a path may have 107 bytes (unix(7))
        assert read_sharing({"CUDA_MPS_PIPE_DIRECTORY": "/p"}, tmp_path).mps == "/p"
    os.close(folder)


@pytest.mark.parametrize("value", ["/nowhere", "", "relative", "/a\0b", "/" + "x" * 5000])
def test_a_variable_alone_is_no_daemon(tmp_path: Path, value: str) -> None:
    assert read_sharing({"CUDA_MPS_PIPE_DIRECTORY": value}, tmp_path).mps == ""


def test_a_folder_that_a_daemon_left_is_none(tmp_path: Path) -> None:
    (tmp_path / "tmp/nvidia-mps").mkdir(parents=True)
    (tmp_path / "tmp/nvidia-mps/control").write_text("")
    assert read_sharing({}, tmp_path).mps == ""


@pytest.mark.parametrize(
    ("value", "replicas"),
    [
        ("all", ()),
        ("GPU-1", ()),
        ("GPU-1::0", ("GPU-1::0",)),
        ("GPU-1::0, GPU-2::7", ("GPU-1::0", "GPU-2::7")),
        ("MIG-1::3", ("MIG-1::3",)),
        ("0:1", ()),  # MIG instance 1 of GPU 0
    ],
)
def test_replicas_of_a_device_plugin(tmp_path: Path, value: str, replicas: tuple) -> None:
    assert read_sharing({"NVIDIA_VISIBLE_DEVICES": value}, tmp_path).replicas == replicas


@pytest.mark.parametrize(
    ("value", "sliced"), [("time-slicing", True), ("mps", False), ("none", False), ("", False)]
)
def test_a_variable_after_the_nodes_label(tmp_path: Path, value: str, sliced: bool) -> None:
    for name in ("GPU_SHARING_STRATEGY", "NVIDIA_COM_GPU_SHARING_STRATEGY"):
        assert read_sharing({name: value}, tmp_path).time_slicing is sliced


def test_limits_of_a_library_that_divides_gpus(tmp_path: Path) -> None:
    limits = {"CUDA_DEVICE_SM_LIMIT": "30", "CUDA_DEVICE_MEMORY_LIMIT_0": "4096m"}
    found = read_sharing({**limits, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, tmp_path)
    assert found.limits == ("CUDA_DEVICE_MEMORY_LIMIT_0=4096m", "CUDA_DEVICE_SM_LIMIT=30")


def test_it_is_a_part_of_the_box(tmp_path: Path) -> None:
    listening(tmp_path, "tmp/nvidia-mps")
    assert detect.read_host({}, "nobody", "/", tmp_path).sharing.mps == "/tmp/nvidia-mps"
