"""What CUDA is tried in, and what the difference between the trials says."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from launcher.doctor import trials
from launcher.doctor.libraries import CUDA, NVML
from launcher.doctor.trials import Listener, is_well
from launcher.model.evidence import AS_GIVEN, CLEAN, NO_MASKS, NO_MPS, OWN_LIBRARY
from sim import driver
from testing import topologies
from testing.evidences import works
from testing.machines import answering, gpu, machine, mig_gpu
from testing.probing import REPORTS_ITS_ENVIRONMENT, collect, guest, hows, stub
from testing.values import replace

# --- which trials ------------------------------------------------------------------------------


def test_a_healthy_machine_is_tried_once(simulated) -> None:
    seen = collect(simulated("h100-8x"))
    assert hows(seen) == [AS_GIVEN]
    assert seen.given is not None
    assert len(seen.given.devices) == 8
    assert seen.taken(CUDA).path == seen.given.library
    assert seen.taken(NVML).path == str(driver.CACHE / NVML)


def test_it_takes_well_under_a_second(simulated) -> None:
    environ = simulated("h100-8x")
    began = time.monotonic()
    collect(environ)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("name", ["a100-mig", "rtx4090-1x", "h100-8x"])
def test_what_nvml_counts_is_what_cuda_gives(simulated, name: str) -> None:
    """A process sees one MIG instance, and that is all that it can see."""
    (report,) = topologies.read_machines([driver.find(name)])
    assert hows(collect(simulated(name), machine(report))) == [AS_GIVEN]


def test_instances_of_two_gpus_are_one_device_before_driver_570() -> None:
    one, two = works((gpu(0),)), answering(mig_gpu(0, 2), mig_gpu(1, 2))
    assert is_well(one, two)
    assert not is_well(one, replace(two, driver_version="570.86.15"))
    assert not is_well(one, answering(gpu(0), gpu(1)))


@pytest.mark.parametrize("mask", ["", "-1", "NoDevFiles", "0,9", "GPU-0"])
def test_masks_are_told_apart_by_leaving_them_out(simulated, mask: str) -> None:
    seen = collect({**simulated("h100-8x"), "CUDA_VISIBLE_DEVICES": mask})
    assert hows(seen) == [AS_GIVEN, NO_MASKS, CLEAN]
    assert seen.cures(NO_MASKS)
    assert seen.trial(NO_MASKS).left_out == ("CUDA_VISIBLE_DEVICES",)
    assert (seen.cuda.outcome, len(seen.cuda.devices)) == ("ok", 8)


def test_a_failure_that_nothing_cures_is_cudas(simulated) -> None:
    environ = simulated("h100-8x", {"faults": {"cuInit": "return 802"}})
    seen = collect({**environ, "CUDA_VISIBLE_DEVICES": "0", "CUDA_MPS_PIPE_DIRECTORY": "/x"})
    assert hows(seen) == [AS_GIVEN, NO_MASKS, NO_MPS, CLEAN]
    assert seen.cuda_error(802)
    assert seen.cuda.left_out == ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY")
    assert not any(seen.cures(how) for how in hows(seen))


def test_with_nothing_to_leave_out_cuda_is_tried_once(simulated) -> None:
    seen = collect(simulated("h100-8x", {"faults": {"cuInit": "return 999"}}))
    assert hows(seen) == [AS_GIVEN]
    assert seen.cuda_error(999)


# --- libraries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["stubs", "compat"])
@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "LD_PRELOAD"])
def test_a_library_in_the_way_is_told_apart_by_leaving_it_out(
    simulated, tmp_path: Path, folder: str, variable: str
) -> None:
    environ = simulated("h100-8x")
    wrong = stub(tmp_path / folder)
    entry = str(wrong if variable == "LD_LIBRARY_PATH" else wrong / CUDA)
    before = environ.get(variable)
    environ[variable] = f"{entry}:{before}" if before else entry
    seen = collect(environ)
    assert (seen.given.code, seen.given.library) == (34, str(wrong / CUDA))
    assert seen.taken(CUDA).path == str(wrong / CUDA)
    assert seen.cures(OWN_LIBRARY)
    assert entry in seen.trial(OWN_LIBRARY).left_out
    assert seen.cuda.library == str(driver.CACHE / CUDA)


def test_a_library_that_the_loader_does_not_look_for_is_tried(simulated, tmp_path: Path) -> None:
    environ = {"NVSIM_MACHINE": simulated("h100-8x")["NVSIM_MACHINE"], "LD_LIBRARY_PATH": ""}
    programs = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    folder = tmp_path / "usr/local/nvidia/lib64"
    folder.mkdir(parents=True)
    shutil.copy(driver.CACHE / CUDA, folder)
    seen = collect(environ, root=tmp_path, guest=programs, with_torch=True)
    assert "cannot open shared object file" in seen.given.reason
    assert seen.taken(CUDA) is None
    assert seen.cures(OWN_LIBRARY)
    assert seen.cuda.library == os.path.realpath(folder / CUDA)
    assert seen.torch.warnings[1] == str(folder)  # so that PyTorch finds it too


def test_another_drivers_library_is_in_the_way(simulated, tmp_path: Path) -> None:
    environ = simulated("h100-8x")
    old = stub(tmp_path / "old", code=803)
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(driver.CACHE / CUDA, own / "libcuda.so.550.54.15")
    (own / CUDA).symlink_to("libcuda.so.550.54.15")
    (old / CUDA).rename(old / "libcuda.so.535.54.03")
    (old / CUDA).symlink_to("libcuda.so.535.54.03")
    seen = collect({**environ, "LD_LIBRARY_PATH": f"{old}:{own}"})  # the kernel has 550.54.15
    assert (seen.given.code, seen.taken(CUDA).version) == (803, "535.54.03")
    assert seen.cures(OWN_LIBRARY)
    assert str(old) in seen.trial(OWN_LIBRARY).left_out
    assert seen.cuda.library == os.path.realpath(own / CUDA)


def test_the_drivers_own_folder_stays_though_something_else_there_is_broken(
    simulated, tmp_path: Path
) -> None:
    shutil.copy(driver.CACHE / CUDA, tmp_path)
    (tmp_path / "libcuda.so").symlink_to("libcuda.so.535.54.03")
    masked = {**simulated("h100-8x"), "CUDA_VISIBLE_DEVICES": ""}
    seen = collect({**masked, "LD_LIBRARY_PATH": str(tmp_path)})
    assert hows(seen) == [AS_GIVEN, NO_MASKS, CLEAN]


def test_what_was_mapped_counts_whatever_its_file_is_called(simulated, tmp_path: Path) -> None:
    shim = (stub(tmp_path / "shim") / CUDA).rename(tmp_path / "shim.so")
    seen = collect({**simulated("h100-8x"), "LD_PRELOAD": str(shim)})
    assert seen.taken(CUDA).path == str(shim)


# --- hangs, crashes, noise ---------------------------------------------------------------------


def test_a_driver_that_hangs_is_given_up_and_is_told(simulated) -> None:
    environ = simulated("h100-8x", {"faults": {"cuInit": "hang"}})
    said: list[str] = []
    began = time.monotonic()
    seen = collect(environ, deadline=1.5, listener=Listener(said.append))
    assert 1.5 <= time.monotonic() - began < 10
    assert (seen.given.outcome, seen.given.reason) == ("hung", "no answer within 1.5 s")
    (line,) = said
    assert "1.5 s" in line


def test_after_a_hang_the_other_tries_have_less_time(simulated, monkeypatch) -> None:
    monkeypatch.setattr(trials, "_AFTER_A_HANG", 0.3)
    environ = simulated("h100-8x", {"faults": {"cuInit": "hang"}})
    seen = collect({**environ, "CUDA_VISIBLE_DEVICES": "0"}, deadline=0.6)
    assert [trial.reason for trial in seen.trials] == [
        "no answer within 0.6 s", "no answer within 0.3 s", "no answer within 0.3 s",
    ]  # fmt: skip


def test_nothing_is_said_of_a_child_that_is_quick(simulated) -> None:
    said: list[str] = []
    collect(simulated("h100-8x"), listener=Listener(said.append))
    assert said == []


def test_a_driver_that_crashes_is_a_value(simulated) -> None:
    seen = collect(simulated("h100-8x", {"faults": {"cuInit": "crash"}}))
    assert (seen.given.outcome, seen.given.reason) == ("crashed", "killed by SIGSEGV")
