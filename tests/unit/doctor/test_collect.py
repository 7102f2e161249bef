"""What is collected of a machine, and what the user's PyTorch says of it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from launcher.doctor import collect as doctor_collect
from launcher.model.evidence import AS_GIVEN, CLEAN
from launcher.model.host import Account
from launcher.model.machine import DriverFailure, GpuReport, Hardware
from sim import driver
from testing.machines import cards, machine, pci_cards
from testing.probing import REPORTS_ITS_ENVIRONMENT, collect, guest, programs_from, stub
from testing.values import replace

MYSELF = Account("me", os.geteuid(), os.getegid(), "/", "/bin/sh", tuple(os.getgroups()))


def test_a_driver_that_hung_is_not_tried() -> None:
    report = GpuReport(failure=DriverFailure("hung", "no answer within 30 s"))
    seen = collect({}, machine(report, cards(8)), with_torch=True)
    assert (seen.trials, seen.torch) == ((), None)


def test_evidence_keeps_what_matters_and_no_secret() -> None:
    kept = {"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "all", "LD_PRELOAD": "x"}
    secret = {"NVIDIA_API_KEY": "k", "TORCH_HUB_TOKEN": "t", "HF_TOKEN": "h", "HOME": "/home/dev"}
    assert doctor_collect.relevant({**kept, **secret}) == kept


def test_cards_are_named_where_no_gpu_answers(tmp_path: Path) -> None:
    ids = tmp_path / "usr/share/misc/pci.ids"
    ids.parent.mkdir(parents=True)
    ids.write_text("# a list\n10de  NVIDIA Corporation\n\t2684  AD102 [GeForce RTX 4090]\n")
    hidden = machine(GpuReport(failure=DriverFailure("library", "no file")), cards(0))
    hidden = replace(hidden, hardware=replace(hidden.hardware, pci=pci_cards("2684")))
    seen = collect({}, hidden, root=tmp_path)
    assert [device.name for device in seen.hardware.pci] == ["AD102 [GeForce RTX 4090]"]


def test_where_no_gpu_is_wanted_cuda_is_not_tried(simulated, tmp_path: Path) -> None:
    folder = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    environ = {**simulated("h100-8x", {"faults": {"cuInit": "hang"}}), "CUDA_VISIBLE_DEVICES": ""}
    seen = collect(environ, guest=folder, with_torch=True, cpu_only=True)
    assert (seen.trials, seen.torch.how, seen.torch.warnings[0]) == ((), AS_GIVEN, "")
    assert seen.cpu_only


# --- PyTorch -----------------------------------------------------------------------------------


def run_torch(folder: Path, verify: str, **options: object) -> doctor_collect.TorchReport:
    programs = programs_from({"user": MYSELF, "guest": guest(folder, verify), **options})
    return doctor_collect.run_torch(programs, {"A": "1"})


def test_pytorch_runs_as_given_where_cuda_works(simulated, tmp_path: Path) -> None:
    folder = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    environ = {**simulated("h100-8x"), "CUDA_VISIBLE_DEVICES": "3"}
    seen = collect(environ, guest=folder, with_torch=True)
    assert (seen.torch.how, seen.torch.warnings[0]) == (AS_GIVEN, "3")


def test_else_pytorch_runs_where_cuda_works_with_nothing_in_the_way(simulated, tmp_path) -> None:
    folder = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    environ = {**simulated("h100-8x"), "CUDA_VISIBLE_DEVICES": ""}
    wrong = stub(tmp_path / "stubs")
    environ["LD_LIBRARY_PATH"] = f"{wrong}:{environ['LD_LIBRARY_PATH']}"
    seen = collect(environ, guest=folder, with_torch=True)
    assert (seen.torch.how, seen.torch.warnings[0]) == (CLEAN, "unset")
    assert seen.torch.warnings[1].split(":")[0] == str(driver.CACHE)
    assert str(wrong) not in seen.torch.warnings[1]


def test_pytorch_does_not_run_where_cuda_works_nowhere(simulated, tmp_path: Path) -> None:
    folder = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    environ = simulated("h100-8x", {"faults": {"cuInit": "return 802"}})
    assert collect(environ, guest=folder, with_torch=True).torch is None


def test_on_a_machine_without_a_gpu_pytorch_runs_all_the_same(tmp_path: Path) -> None:
    folder = guest(tmp_path, REPORTS_ITS_ENVIRONMENT)
    none = machine(GpuReport(failure=DriverFailure("library", "no file")), Hardware())
    environ = {"LD_LIBRARY_PATH": ""}
    assert collect(environ, none, guest=folder, with_torch=True).torch.version == "2.6.0"
    assert collect(environ, none, guest=folder, with_torch=False).torch is None


def test_what_the_guest_prints_last_is_its_report(tmp_path: Path) -> None:
    text = """
print('{"outcome": "broken"}')
print('{"outcome": "ok", "devices": 8}')
print('a warning of some library')
"""
    seen = run_torch(tmp_path, text)
    assert (seen.outcome, seen.devices) == ("ok", 8)


def test_the_guest_sees_the_given_environment_and_nothing_of_ours(tmp_path: Path) -> None:
    text = "import json, os\nprint(json.dumps({'outcome': 'ok', 'warnings': sorted(os.environ)}))"
    seen = set(run_torch(tmp_path, text).warnings)
    assert "A" in seen
    assert "PYTEST_CURRENT_TEST" not in seen


def test_the_guest_starts_with_clean_signals_and_no_core_dumps(tmp_path: Path) -> None:
    text = """
import json, re, resource
status = open("/proc/self/status").read()
blocked = int(re.search(r"SigBlk:\\s+(\\w+)", status)[1], 16)
core = resource.getrlimit(resource.RLIMIT_CORE)[0]
print(json.dumps({"outcome": "ok", "devices": blocked + abs(core)}))
"""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        assert run_torch(tmp_path, text).devices == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_guest_is_the_user(tmp_path: Path) -> None:
    text = 'import os\nprint(\'{"outcome": "ok", "devices": %d}\' % os.getuid())'
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    nobody = Account("nobody", 65534, 65534, "/", "/bin/sh")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("no python3 that everybody can run")
    assert run_torch(tmp_path, text, user=nobody, python=python).devices == 65534


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("import sys; sys.exit('the last words')", "the last words", id="words"),
        pytest.param("import sys; sys.exit(3)", "ended with status 3", id="status"),
        pytest.param("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV", id="crash"),
        pytest.param("import os; os.kill(os.getpid(), 40)", "killed by signal 40", id="signal-40"),
        pytest.param("print('no json')", "ended with status 0", id="no-json"),
        pytest.param("print('[1, 2]')", "ended with status 0", id="no-object"),
        pytest.param("print('{\"a\": 2}')", "ended with status 0", id="another-object"),
        pytest.param("print('{\"outcome\": 2}')", "no answer that can be read", id="no-report"),
        pytest.param("1 / 0", "ZeroDivisionError", id="traceback"),
    ],
)
def test_a_guest_without_a_report_has_crashed(tmp_path: Path, text: str, error: str) -> None:
    seen = run_torch(tmp_path, text)
    assert seen.outcome == "crashed"
    assert error in seen.error


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    seen = run_torch(tmp_path, "", python="/nonexistent/python")
    assert (seen.outcome, seen.error) == (
        "broken", "/nonexistent/python: No such file or directory",
    )  # fmt: skip


def test_a_guest_that_hangs_is_given_up(tmp_path: Path) -> None:
    seen = run_torch(tmp_path, "import time; time.sleep(60)", deadline=0.3)
    assert (seen.outcome, seen.error) == ("hung", "no answer within 0.3 s")
