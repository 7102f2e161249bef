"""Decisions: who, which devices, which variables, and why; tables over machines of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.errors import BadSetting, NoUsableGpu
from launcher.model.host import Account
from launcher.model.machine import Gpu, GpuReport, LostGpu, Machine
from launcher.model.plan import EnvVar, Plan
from launcher.plan.plan import make_plan
from launcher.plan.watch import plan_watch
from testing.machines import (
    CASES,
    DEV,
    NO_CARD,
    NO_LIBRARY,
    ROOT,
    STATE,
    answering,
    gpu,
    machine,
    mig_gpu,
    outset,
    settings,
)
from testing.values import replace

EIGHT = machine(answering(*(gpu(index) for index in range(8))))
LOST = LostGpu(1, "GPU is lost", 15)
ONE_LOST = machine(answering(gpu(0), gpu(2), lost=(LOST,)))
MIG = machine(answering(mig_gpu(0, 2)))
NO_GPU = machine(GpuReport(failure=NO_LIBRARY), NO_CARD)


def plan(machine: Machine = EIGHT, **environ: str) -> Plan:
    return make_plan(outset(machine, settings(environ)), STATE)


def planned(plan: Plan, name: str) -> EnvVar | None:
    return next((var for var in plan.environment if var.name == name), None)


def value(plan: Plan, name: str) -> str | None:
    var = planned(plan, name)
    return var.value if var else None


def uuids(*gpus: Gpu) -> str:
    return ",".join(gpu.uuid for gpu in gpus)


# --- devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "environ", "visible"),
    [
        pytest.param(EIGHT, {}, "0,1,2,3,4,5,6,7", id="all-by-default"),
        pytest.param(EIGHT, {"LAUNCHER_GPUS": "all"}, "0,1,2,3,4,5,6,7", id="all"),
        pytest.param(EIGHT, {"LAUNCHER_GPUS": "5,2"}, "5,2", id="a-list-in-its-order"),
        pytest.param(EIGHT, {"LAUNCHER_GPUS": gpu(3).uuid}, "3", id="one-by-uuid"),
        pytest.param(EIGHT, {"LAUNCHER_GPUS": "GPU-00000004,0"}, "4,0", id="uuid-prefix"),
        pytest.param(EIGHT, {"LAUNCHER_GPUS": "GPU-00000005"}, "5", id="uuid-alone"),
        pytest.param(
            EIGHT,
            {"LAUNCHER_GPUS": "1,0", "LAUNCHER_GPU_IDS": "uuid"},
            uuids(gpu(1), gpu(0)),
            id="uuids-on-request",
        ),
        pytest.param(ONE_LOST, {}, uuids(gpu(0), gpu(2)), id="a-lost-gpu-shifts-indices"),
        pytest.param(ONE_LOST, {"LAUNCHER_GPU_IDS": "index"}, "0,2", id="indices-all-the-same"),
        pytest.param(MIG, {}, ",".join(mig_gpu(0, 2).mig_uuids), id="mig"),
        pytest.param(
            MIG, {"LAUNCHER_GPU_IDS": "index"}, ",".join(mig_gpu(0, 2).mig_uuids), id="mig-by-index"
        ),
        pytest.param(EIGHT, {"CUDA_VISIBLE_DEVICES": "7"}, "7", id="the-user-wins"),
        pytest.param(EIGHT, {"CUDA_VISIBLE_DEVICES": ""}, "", id="the-user-hides-all"),
        pytest.param(
            EIGHT,
            {"CUDA_VISIBLE_DEVICES": "7", "LAUNCHER_GPUS": "0,1"},
            "7",
            id="user-over-setting",
        ),
        pytest.param(NO_GPU, {}, None, id="no-gpu"),
        pytest.param(machine(answering(lost=(LOST,))), {}, None, id="every-gpu-lost"),
        pytest.param(machine(answering(mig_gpu(0, 0))), {}, None, id="mig-without-instances"),
        pytest.param(
            machine(answering(mig_gpu(0, 0), gpu(1))),
            {},
            gpu(1).uuid,
            id="one-mig-without-instances",
        ),
    ],
)
def test_what_cuda_sees(machine: Machine, environ: dict, visible: str | None) -> None:
    assert value(plan(machine, **environ), "CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize("machine", [EIGHT, ONE_LOST, MIG])
def test_cuda_numbers_gpus_as_nvidia_smi_does(machine: Machine) -> None:
    assert value(plan(machine), "CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    assert value(plan(machine, CUDA_DEVICE_ORDER="FASTEST_FIRST"), "CUDA_DEVICE_ORDER") == (
        "FASTEST_FIRST"
    )


@pytest.mark.parametrize("machine", [NO_GPU, machine(answering())])
def test_without_a_gpu_both_variables_are_left_alone(machine: Machine) -> None:
    assert not [var for var in plan(machine).environment if var.name.startswith("CUDA")]
    kept = plan(machine, CUDA_VISIBLE_DEVICES="0").user_environment()
    assert kept["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ("0,9", "9 matches 0 GPUs"),
        ("0,0", "0 is named twice"),
        (f"0,{gpu(0).uuid}", "is named twice"),
        ("GPU-0000", "GPU-0000 matches 8 GPUs"),
        ("GPU-ffff", "GPU-ffff matches 0 GPUs"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_bad_setting(wanted: str, fault: str) -> None:
    with pytest.raises(BadSetting) as bad:
        plan(EIGHT, LAUNCHER_GPUS=wanted)
    assert "LAUNCHER_GPUS" in str(bad.value)
    assert fault in str(bad.value)
    assert gpu(7).uuid in str(bad.value)  # it lists what is there


def test_asking_for_a_lost_gpu_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="GPU 1 cannot be used: "):
        plan(ONE_LOST, LAUNCHER_GPUS="0,1")


def test_every_planned_variable_has_its_reason() -> None:
    for case in CASES.values():
        assert all(var.why for var in case.plan().environment)


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"])
def test_a_variable_of_the_users_is_called_theirs(name: str) -> None:
    var = planned(plan(EIGHT, **{name: "3"}), name)
    assert var == EnvVar(name, "3", "yours, kept")


@given(
    count=st.integers(1, 16),
    lost=st.sets(st.integers(0, 15), max_size=3),
    mig=st.sets(st.integers(0, 15), max_size=3),
)
def test_no_machine_makes_cuda_see_an_empty_or_a_lost_device(count, lost, mig) -> None:
    gpus = [mig_gpu(i, i % 3) if i in mig else gpu(i) for i in range(count) if i not in lost]
    found = machine(answering(*gpus, lost=tuple(LostGpu(i, "lost", 15) for i in lost if i < count)))
    visible = value(plan(found), "CUDA_VISIBLE_DEVICES")
    whole = [g.uuid for g in gpus if not g.mig_enabled]  # CUDA takes a list of one kind
    can_be_opened = whole or [uuid for g in gpus for uuid in g.mig_uuids]
    if not can_be_opened:
        assert visible is None
    elif visible.split(",")[0].isdecimal():
        assert [int(entry) for entry in visible.split(",")] == list(range(count))
    else:
        assert visible.split(",") == can_be_opened


@pytest.mark.parametrize("name", CASES)
def test_where_no_gpu_is_wanted_the_box_is_a_plain_one(name: str) -> None:
    found = outset(CASES[name].machine, settings({"LAUNCHER_GPUS": "none"}))
    planned = make_plan(found, STATE)
    assert found.machine.report == GpuReport()
    assert (planned.cpu_only, planned.devices) == (True, 0)
    assert value(planned, "CUDA_VISIBLE_DEVICES") == ""
    of_gpus = ("hardware.", "driver.", "runtime.", "libraries.", "cuda.", "pytorch.")
    assert not [note.id for note in planned.notes if note.id.startswith(of_gpus)]
    assert plan_watch(planned, found.machine).gpus is None


def test_a_variable_of_the_users_says_that_gpus_are_wanted() -> None:
    wish = {"LAUNCHER_GPUS": "none", "CUDA_VISIBLE_DEVICES": "0"}
    found = outset(EIGHT, settings(wish))
    assert (found.machine, make_plan(found, STATE).cpu_only) == (EIGHT, False)


# --- the watch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "environ", "patience"),
    [
        (None, {}, 30.0),
        (0.2, {}, 30.0),
        (12.0, {}, 36.0),
        (12.0, {"LAUNCHER_DETECT_TIMEOUT": "120"}, 120.0),
        (0.2, {"LAUNCHER_DETECT_TIMEOUT": "2"}, 10.0),
    ],
)
def test_patience_is_learnt_from_the_start(
    seconds: float | None, environ: dict[str, str], patience: float
) -> None:
    slow = replace(EIGHT, report=replace(EIGHT.report, seconds=seconds))
    made = plan(slow, **environ)
    assert made.gpu_patience == patience
    watched = plan_watch(made, slow).gpus
    assert watched is not None
    assert watched.patience == patience


# --- LAUNCHER_REQUIRE_GPU --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "environ"),
    [
        (EIGHT, {"LAUNCHER_REQUIRE_GPU": "8"}),
        (EIGHT, {"LAUNCHER_REQUIRE_GPU": "2", "LAUNCHER_GPUS": "0,1"}),
        (ONE_LOST, {"LAUNCHER_REQUIRE_GPU": "2"}),
        (MIG, {"LAUNCHER_REQUIRE_GPU": "2"}),
        (NO_GPU, {"LAUNCHER_REQUIRE_GPU": "0"}),
        (NO_GPU, {}),
    ],
)
def test_a_requirement_that_is_met(machine: Machine, environ: dict) -> None:
    assert plan(machine, **environ)


@pytest.mark.parametrize(
    ("machine", "environ"),
    [
        (EIGHT, {"LAUNCHER_REQUIRE_GPU": "9"}),
        (EIGHT, {"LAUNCHER_REQUIRE_GPU": "3", "LAUNCHER_GPUS": "0,1"}),
        (ONE_LOST, {"LAUNCHER_REQUIRE_GPU": "3"}),
        (machine(answering(mig_gpu(0, 0))), {"LAUNCHER_REQUIRE_GPU": "1"}),
        (NO_GPU, {"LAUNCHER_REQUIRE_GPU": "true"}),
    ],
)
def test_a_requirement_that_is_not_met_ends_with_69(machine: Machine, environ: dict) -> None:
    with pytest.raises(NoUsableGpu) as missing:
        plan(machine, **environ)
    assert missing.value.exit_code == 69
    assert "LAUNCHER_REQUIRE_GPU" in str(missing.value)


def test_without_gpus_the_requirement_prints_the_diagnosis() -> None:
    with pytest.raises(NoUsableGpu, match="no NVIDIA GPU on the PCI bus") as missing:
        plan(NO_GPU, LAUNCHER_REQUIRE_GPU="1")
    assert "fix:" in str(missing.value)


# --- who -------------------------------------------------------------------------------------

STRANGER = Account("4242", 4242, 0, "/tmp", "/bin/sh", (0,))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        pytest.param({}, "dev", id="root-with-a-workspace-user"),
        pytest.param({"account": None}, "root", id="root-without-one"),
        pytest.param({"me": DEV, "account": None}, "dev", id="already-dev"),
        pytest.param({"me": STRANGER, "account": None}, "4242", id="a-uid-without-a-name"),
        pytest.param({"me": STRANGER, "account": DEV}, "4242", id="not-root-stays-who-it-is"),
        pytest.param({"account": ROOT}, "root", id="NB_USER=root"),
    ],
)
def test_who_programs_run_as(host: dict, name: str) -> None:
    made = plan(machine(answering(gpu(0)), **host))
    account = made.identity.account
    assert account.name == name
    assert made.identity.why
    assert made.identity.is_root == (account.uid == 0)
    environment = made.user_environment()
    assert environment["HOME"] == account.home
    assert environment["USER"] == environment["LOGNAME"] == account.name
    assert environment["SHELL"] == account.shell


# --- variables -------------------------------------------------------------------------------


def test_what_the_user_gave_the_container_is_kept_byte_by_byte() -> None:
    theirs = {"A": "100% 'sure'", "B": "two\nlines", "C": "\udcff", "OMP_NUM_THREADS": "3"}
    environment = plan(EIGHT, **theirs).user_environment()
    assert {name: environment[name] for name in theirs} == theirs


def test_the_token_is_in_nobodys_environment() -> None:
    environment = plan(EIGHT, JUPYTER_TOKEN="s3cret").user_environment()
    assert "s3cret" not in environment.values()


@pytest.mark.parametrize(
    ("python", "path", "expected"),
    [
        ("/opt/venv/bin/python", "/opt/venv/bin:/bin", None),
        ("/opt/venv/bin/python", "/bin", "/opt/venv/bin:/bin"),
        ("/opt/venv/bin/python", "/opt/venv/binary", "/opt/venv/bin:/opt/venv/binary"),
    ],
)
def test_the_user_environments_programs_are_on_the_path(python, path, expected) -> None:
    assert value(plan(EIGHT, LAUNCHER_PYTHON=python, PATH=path), "PATH") == expected


# --- the whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_machine_gets_services(name: str) -> None:
    made = CASES[name].plan()
    assert made.jupyter
    assert made.ssh


def test_without_a_state_no_service_is_planned() -> None:
    made = replace(CASES["h100-8x"], state=None).plan()
    assert (made.jupyter, made.ssh, made.ssh_off) == (None, None, None)
    assert value(made, "CUDA_VISIBLE_DEVICES") == "0,1,2,3,4,5,6,7"


@pytest.mark.parametrize(
    ("machine", "environ", "devices"),
    [(EIGHT, {}, 8), (EIGHT, {"LAUNCHER_GPUS": "1,2"}, 2), (MIG, {}, 2), (NO_GPU, {}, 0)],
)
def test_how_many_devices_pytorch_should_find(machine: Machine, environ: dict, devices) -> None:
    assert plan(machine, **environ).devices == devices
