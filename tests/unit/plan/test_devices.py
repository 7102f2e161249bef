"""Which GPUs CUDA sees, by LAUNCHER_GPUS, by what the user set, and by what is on the machine."""

from __future__ import annotations

import pytest

from launcher.gpus.visibility import explain
from launcher.model.errors import BadSetting
from launcher.model.host import Sharing
from launcher.model.machine import GpuReport, LostGpu, Pair
from launcher.model.plan import EnvVar
from launcher.plan.devices import DevicePlan, choose, plan_devices
from testing.machines import GIB, NO_LIBRARY, answering, gpu, mig_gpu, settings
from testing.values import replace

# Four cards of which 0 and 3 are bridged; 2 is computing, 1 has little memory left.
FOUR = replace(
    answering(
        gpu(0, memory_free=78 * GIB, processes=0),
        gpu(1, memory_free=10 * GIB, processes=0),
        gpu(2, memory_free=78 * GIB, processes=2),
        gpu(3, memory_free=78 * GIB, processes=0),
    ),
    pairs=(
        Pair(0, 1, path="SYS"),
        Pair(0, 2, path="SYS"),
        Pair(0, 3, nvlinks=4, via="direct", path="SYS"),
        Pair(1, 2, path="PHB"),
        Pair(1, 3, path="SYS"),
        Pair(2, 3, path="SYS"),
    ),
)
BUSY = replace(FOUR, gpus=tuple(replace(card, processes=1) for card in FOUR.gpus))
LOST = replace(FOUR, gpus=FOUR.gpus[:3], pairs=(), lost=(LostGpu(3, "GPU is lost", 15),))
MIG = answering(mig_gpu(0, 3))
MIXED = answering(mig_gpu(0, 2), gpu(1))
NO_GPU = GpuReport(failure=NO_LIBRARY)
INSTANCES = [device.uuid for device in MIG.gpus[0].mig_devices]


def planned(report: GpuReport, **environ: str) -> DevicePlan:
    return plan_devices(report, settings(environ))


def visible(report: GpuReport, **environ: str) -> EnvVar:
    """Return the planned CUDA_VISIBLE_DEVICES."""
    return {var.name: var for var in planned(report, **environ).environment}["CUDA_VISIBLE_DEVICES"]


def fault(report: GpuReport, **environ: str) -> str:
    """Return what is said of a request that cannot be met, which ends the start with 78."""
    with pytest.raises(BadSetting) as bad:
        planned(report, **environ)
    assert bad.value.exit_code == 78
    return str(bad.value)


def uuids(*indices: int) -> str:
    return ",".join(gpu(index).uuid for index in indices)


# --- GPUs that others compute on as well -----------------------------------------------------


def shared(report: GpuReport, sharing: Sharing, **environ: str) -> EnvVar:
    plan = plan_devices(report, settings(environ), sharing)
    return {var.name: var for var in plan.environment}["CUDA_VISIBLE_DEVICES"]


def test_under_mps_gpus_are_named_by_uuid() -> None:
    """MPS counts those that its server was started with."""
    found = shared(FOUR, Sharing(mps="/tmp/nvidia-mps"), LAUNCHER_GPUS="0,3")
    assert found.value == uuids(0, 3)
    assert found.why == (
        "as LAUNCHER_GPUS asks; shared: MPS; UUIDs, since MPS counts GPUs its own way"
    )
    by_index = shared(FOUR, Sharing(mps="/x"), LAUNCHER_GPUS="0,3", LAUNCHER_GPU_IDS="index")
    assert (by_index.value, by_index.why) == ("0,3", "as LAUNCHER_GPUS asks; shared: MPS")
    assert shared(MIG, Sharing(mps="/x")).value == ",".join(INSTANCES)


@pytest.mark.parametrize(
    ("report", "sharing", "kind"),
    [
        (answering(gpu(0)), Sharing(replicas=("GPU-1::0",)), "time slicing"),
        (answering(gpu(0, "GRID A100D-20C", vgpu=True)), Sharing(), "vGPU"),
        (answering(gpu(0)), Sharing(limits=("CUDA_DEVICE_SM_LIMIT=30",)), "HAMi"),
    ],
)
def test_where_gpus_keep_their_numbers_those_are_used(report, sharing, kind) -> None:
    found = shared(report, sharing)
    assert (found.value, found.why) == ("0", f"every usable GPU; shared: {kind}")


# --- all, N, idle ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "value", "why"),
    [
        ({}, "0,1,2,3", "every usable GPU"),
        ({"LAUNCHER_GPUS": "all"}, "0,1,2,3", "every usable GPU"),
        ({"LAUNCHER_GPUS": "2"}, "0,3", "the best 2 of 4 usable, connected by NV4"),
        (
            {"LAUNCHER_GPUS": "1"},
            "0",
            "the best 1 of 4 usable; 1 is a number, GPU 1 is index:1",
        ),
        ({"LAUNCHER_GPUS": "idle:1"}, "0", "the best 1 of 2 idle"),
        ({"LAUNCHER_GPUS": "index:1"}, "1", "as LAUNCHER_GPUS asks"),
        ({"LAUNCHER_GPUS": "0,"}, "0", "as LAUNCHER_GPUS asks"),
        ({"LAUNCHER_GPUS": "4"}, "0,1,2,3", "the best 4 of 4 usable, connected by SYS"),
        ({"LAUNCHER_GPUS": "idle:2"}, "0,3", "the best 2 of 2 idle, connected by NV4"),
        ({"LAUNCHER_GPUS": "idle"}, "0,3", "every idle GPU"),
        ({"LAUNCHER_GPU_MIN_FREE": "20GiB"}, "0,2,3", "every GPU with 20 GiB free"),
        (
            {"LAUNCHER_GPUS": "idle", "LAUNCHER_GPU_MIN_FREE": "20GiB"},
            "0,3",
            "every idle GPU with 20 GiB free",
        ),
        (
            {"LAUNCHER_GPUS": "2", "LAUNCHER_GPU_MIN_FREE": "20GiB"},
            "0,3",
            "the best 2 of 3 with 20 GiB free, connected by NV4",
        ),
    ],
)
def test_what_is_chosen_and_why(environ: dict[str, str], value: str, why: str) -> None:
    seen = visible(FOUR, **environ)
    assert (seen.value, seen.why) == (value, why)
    assert planned(FOUR, **environ).count == len(value.split(","))


@pytest.mark.parametrize(
    ("report", "environ", "said"),
    [
        (FOUR, {"LAUNCHER_GPUS": "5"}, "LAUNCHER_GPUS asks for 5 usable GPUs, 4 are here"),
        (FOUR, {"LAUNCHER_GPUS": "idle:3"}, "LAUNCHER_GPUS asks for 3 idle GPUs, 2 are here"),
        (BUSY, {"LAUNCHER_GPUS": "idle"}, "LAUNCHER_GPUS: there is no idle GPU"),
        (BUSY, {"LAUNCHER_GPUS": "idle:1"}, "LAUNCHER_GPUS asks for 1 idle GPUs, 0 are here"),
        (
            FOUR,
            {"LAUNCHER_GPU_MIN_FREE": "90GiB"},
            "LAUNCHER_GPU_MIN_FREE: there is no GPU with 90 GiB free",
        ),
        (
            FOUR,
            {"LAUNCHER_GPUS": "4", "LAUNCHER_GPU_MIN_FREE": "20GiB"},
            "LAUNCHER_GPUS asks for 4 GPUs with 20 GiB free, 3 are here",
        ),
        (MIG, {"LAUNCHER_GPUS": "4"}, "LAUNCHER_GPUS asks for 4 usable GPUs, 3 are here"),
    ],
)
def test_what_cannot_be_given_is_refused_with_what_there_is(
    report: GpuReport, environ: dict[str, str], said: str
) -> None:
    first, *here = fault(report, **environ).splitlines()
    assert first == f"{said}; here are:"
    devices, _ = choose(report, settings())
    assert [line.split()[1] for line in here] == [device.uuid for device in devices]


def test_what_there_is_comes_with_what_one_chooses_by() -> None:
    here = fault(FOUR, LAUNCHER_GPUS="9").splitlines()[3]
    assert here == f"  2  {gpu(2).uuid}  {gpu(2).name}, 78 GiB free, 2 processes"


def test_one_of_one_is_no_riddle() -> None:
    assert visible(answering(gpu(0)), LAUNCHER_GPUS="1").why == "the best 1 of 1 usable"


@pytest.mark.parametrize("report", [FOUR, LOST, MIG, NO_GPU, answering()])
def test_none_hides_whatever_is_there(report: GpuReport) -> None:
    plan = planned(report, LAUNCHER_GPUS="none", LAUNCHER_GPU_MIN_FREE="90GiB")
    hidden = EnvVar("CUDA_VISIBLE_DEVICES", "", "no GPU, as LAUNCHER_GPUS=none asks")
    assert plan == DevicePlan((hidden,), 0)


def test_none_beside_a_variable_of_the_users_has_no_effect() -> None:
    seen = visible(FOUR, LAUNCHER_GPUS="none", CUDA_VISIBLE_DEVICES="1")
    assert (seen.value, seen.why) == ("1", "yours, kept; LAUNCHER_GPUS has no effect beside it")


def test_none_and_a_gpu_that_is_required_contradict_each_other() -> None:
    text = fault(FOUR, LAUNCHER_GPUS="none", LAUNCHER_REQUIRE_GPU="2")
    assert text == ("LAUNCHER_REQUIRE_GPU=2 contradicts LAUNCHER_GPUS=none: leave one of them out")


@pytest.mark.parametrize("wanted", ["1", "idle:1", "0,1", gpu(0).uuid, "18:00.0", "index:0"])
@pytest.mark.parametrize("report", [NO_GPU, answering()])
def test_gpus_that_are_asked_for_where_there_is_none(report: GpuReport, wanted: str) -> None:
    text = fault(report, LAUNCHER_GPUS=wanted)
    assert text.startswith("LAUNCHER_GPUS")
    assert text.endswith("here are:\n  no usable GPU")


@pytest.mark.parametrize("wanted", ["all", "idle"])
def test_all_of_no_gpus_is_no_fault(wanted: str) -> None:
    assert planned(NO_GPU, LAUNCHER_GPUS=wanted) == DevicePlan((), 0)


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"processes": 1, "memory_free": None}, False),
        ({"processes": 0, "memory_free": 79 * GIB}, True),
        ({"processes": 0, "memory_free": 70 * GIB}, False),  # of another container's process
        ({"processes": None, "memory_free": None}, True),  # nothing speaks against it
        ({"processes": 0, "memory_bytes": None, "memory_free": None}, True),
    ],
)
def test_idle_is_no_process_and_nearly_all_memory(changes: dict, idle: bool) -> None:
    report = answering(gpu(0, **changes), gpu(1, memory_free=79 * GIB, processes=0))
    assert visible(report, LAUNCHER_GPUS="idle").value == ("0,1" if idle else "1")


def test_a_gpu_that_does_not_tell_its_free_memory_is_left_out_where_some_is_asked_for() -> None:
    report = answering(gpu(0), gpu(1, memory_free=30 * GIB))
    assert visible(report, LAUNCHER_GPU_MIN_FREE="20GiB").value == "1"


# --- a list ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ("3,1", "3,1"),
        (gpu(2).uuid, "2"),
        (gpu(2).uuid.lower().replace("gpu", "GPU"), "2"),
        (gpu(2).uuid[:12], "2"),
        ("12:00.0", "2"),
        ("0000:12:00.0", "2"),
        (gpu(2).pci_bus_id, "2"),
        (f"13:00.0, {gpu(0).uuid}, 1", "3,0,1"),
    ],
)
def test_a_list_is_taken_as_it_is(wanted: str, value: str) -> None:
    seen = visible(FOUR, LAUNCHER_GPUS=wanted)
    assert (seen.value, seen.why) == (value, "as LAUNCHER_GPUS asks")


def test_a_pci_address_is_the_same_in_either_case() -> None:
    report = answering(gpu(0, pci_bus_id="00000000:AB:00.0"), gpu(1))
    for wanted in ("ab:00.0", "AB:00.0"):
        assert visible(report, LAUNCHER_GPUS=wanted).value == "0"


def test_a_short_pci_address_that_two_gpus_have() -> None:
    report = answering(gpu(0, pci_bus_id="00000000:01:00.0"), gpu(1, pci_bus_id="00000001:01:00.0"))
    assert "01:00.0 matches 2 GPUs" in fault(report, LAUNCHER_GPUS="01:00.0")
    assert visible(report, LAUNCHER_GPUS="00000001:01:00.0").value == "1"
    assert visible(report, LAUNCHER_GPUS="0001:01:00.0").value == "1"


@pytest.mark.parametrize("again", ["1", gpu(1).uuid, "GPU-00000001", "11:00.0"])
def test_a_gpu_that_is_named_twice(again: str) -> None:
    assert f"LAUNCHER_GPUS: {again} is named twice" in fault(FOUR, LAUNCHER_GPUS=f"1,{again}")


@pytest.mark.parametrize("wanted", ["0,4", "GPU-ffff", "99:00.0", INSTANCES[0]])
def test_a_gpu_that_is_not_here(wanted: str) -> None:
    name = wanted.split(",")[-1]
    assert f"LAUNCHER_GPUS: {name} matches 0 GPUs" in fault(FOUR, LAUNCHER_GPUS=wanted)


# --- MIG -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "environ", "value", "why"),
    [
        (MIG, {}, INSTANCES, "every usable GPU"),
        (MIG, {"LAUNCHER_GPUS": "2"}, INSTANCES[:2], "the first 2 of 3 usable"),
        (MIG, {"LAUNCHER_GPUS": INSTANCES[1]}, INSTANCES[1:2], "as LAUNCHER_GPUS asks"),
        (MIG, {"LAUNCHER_GPUS": INSTANCES[2][:12]}, INSTANCES[2:], "as LAUNCHER_GPUS asks"),
        (MIG, {"LAUNCHER_GPU_IDS": "index"}, INSTANCES, "every usable GPU"),
        (MIXED, {"LAUNCHER_GPUS": "2"}, INSTANCES[:2], "the first 2 of 3 usable"),
        (
            MIXED,
            {"LAUNCHER_GPUS": "1"},
            [gpu(1).uuid],
            "the best 1 of 3 usable; 1 is a number, GPU 1 is index:1",
        ),
    ],
)
def test_mig_instances_are_named_by_uuid(
    report: GpuReport, environ: dict[str, str], value: list[str], why: str
) -> None:
    seen = visible(report, **environ)
    assert seen.value.split(",") == value
    assert seen.why == f"{why}; UUIDs, since MIG instances have no index"


WHOLE = ", without the MIG instances of GPU 0: CUDA takes a list of GPUs or of instances"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, f"every usable GPU{WHOLE}"),
        ({"LAUNCHER_GPUS": "idle"}, f"every idle GPU{WHOLE}"),
        ({"LAUNCHER_GPU_MIN_FREE": "1MiB"}, f"every GPU with 0.000977 GiB free{WHOLE}"),
        ({"LAUNCHER_GPUS": "1,2"}, "as LAUNCHER_GPUS asks"),
    ],
)
@pytest.mark.parametrize("driver", ["565.57.01", "580.65.06"])
def test_no_list_of_both_kinds_is_made(driver: str, environ: dict[str, str], why: str) -> None:
    """CUDA would see what comes before the first entry of the other kind: one of nine devices."""
    free = {"memory_free": 80 * GIB, "processes": 0}
    whole = tuple(gpu(index, **free) for index in (1, 2))
    cut = mig_gpu(0, 2)
    cut = replace(cut, mig_devices=tuple(replace(one, **free) for one in cut.mig_devices))
    report = replace(answering(cut, *whole), driver_version=driver)
    plan = plan_devices(report, settings(environ))
    seen = {var.name: var for var in plan.environment}["CUDA_VISIBLE_DEVICES"]
    assert seen.value == uuids(1, 2)
    assert seen.why == f"{why}; UUIDs, since MIG instances have no index"
    assert explain(seen.value, report, "PCI_BUS_ID").devices == tuple(one.uuid for one in whole)
    assert plan.count == 2


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3", "for 3 usable GPUs, 1 whole ones and 2 MIG instances are here, and CUDA takes a"),
        (f"1,{INSTANCES[0]}", "GPUs and MIG instances in one list, and CUDA takes a list of GPUs"),
        ("0,", "LAUNCHER_GPUS: GPU 0 is in MIG mode: name an instance by its UUID; here are:"),
        ("index:0", "LAUNCHER_GPUS: GPU 0 is in MIG mode: name an instance by its UUID"),
        (gpu(0).pci_bus_id, "LAUNCHER_GPUS: GPU 0 is in MIG mode: name an instance by its UUID"),
        (mig_gpu(0, 2).uuid, "LAUNCHER_GPUS: GPU 0 is in MIG mode: name an instance by its UUID"),
    ],
)
def test_what_cannot_be_had_of_a_machine_with_both_kinds(wanted: str | None, said: str) -> None:
    assert said in fault(MIXED, LAUNCHER_GPUS=str(wanted))


def test_a_gpu_that_cannot_be_named() -> None:
    empty = answering(mig_gpu(0, 0), gpu(1))
    assert "GPU 0 is in MIG mode: it has no instance" in fault(empty, LAUNCHER_GPUS="index:0")
    assert "GPU 3 cannot be used: GPU is lost" in fault(LOST, LAUNCHER_GPUS="0,3")


def cut(*instances: tuple[int | None, int | None]) -> GpuReport:
    """Return a GPU with 55 GiB free that is cut into instances of (GiB free of 20, processes)."""
    whole = mig_gpu(0, len(instances))
    migs = tuple(
        replace(
            mig, memory_bytes=20 * GIB, processes=processes,
            memory_free=None if free is None else free * GIB,
        )
        for mig, (free, processes) in zip(whole.mig_devices, instances, strict=True)
    )  # fmt: skip
    return answering(replace(whole, mig_devices=migs, memory_free=55 * GIB, processes=1))


@pytest.mark.parametrize(
    ("instances", "environ", "chosen"),
    [
        ([(5, 1), (10, 1), (20, 0)], {"LAUNCHER_GPU_MIN_FREE": "8GiB"}, [1, 2]),
        ([(5, 1), (10, 1), (20, 0)], {"LAUNCHER_GPUS": "idle"}, [2]),
        ([(5, 0), (10, None), (20, None)], {"LAUNCHER_GPUS": "idle"}, [2]),
        ([(20, 1), (20, 0), (20, 0)], {"LAUNCHER_GPUS": "idle:1"}, [1]),
        ([(None, 0), (None, 1), (20, 0)], {"LAUNCHER_GPUS": "idle"}, [0, 2]),
        ([(None, 0), (12, 0)], {"LAUNCHER_GPU_MIN_FREE": "8GiB"}, [1]),
    ],
)
def test_instances_are_judged_by_their_own_memory_and_processes(
    instances: list[tuple[int | None, int | None]], environ: dict[str, str], chosen: list[int]
) -> None:
    report = cut(*instances)
    uuids = report.gpus[0].mig_uuids
    assert visible(report, **environ).value.split(",") == [uuids[index] for index in chosen]


def test_what_the_whole_card_has_free_is_no_instances() -> None:
    text = fault(cut((5, 1), (20, 0)), LAUNCHER_GPU_MIN_FREE="40GiB")
    assert text.startswith("LAUNCHER_GPU_MIN_FREE: there is no GPU with 40 GiB free; here are:")
    first, second = text.splitlines()[1:]
    assert first.endswith("MIG 1g.10gb, 5 GiB free, 1 processes")
    assert second.endswith("MIG 1g.10gb, 20 GiB free, 0 processes")


def test_a_card_that_does_not_tell_hides_no_instance() -> None:
    report = cut((20, 0), (20, 0))
    silent = (replace(report.gpus[0], memory_bytes=None, memory_free=None, processes=None),)
    assert planned(replace(report, gpus=silent), LAUNCHER_GPU_MIN_FREE="8GiB").count == 2


def test_a_gpu_that_stands_for_several_instances_is_no_choice() -> None:
    text = fault(MIG, LAUNCHER_GPUS="10:00.0")
    assert "GPU 0 is in MIG mode: name an instance by its UUID" in text
    assert all(uuid in text for uuid in INSTANCES)


# --- what the user set -----------------------------------------------------------------------


def test_the_users_value_is_kept_and_explained() -> None:
    plan = planned(FOUR, CUDA_VISIBLE_DEVICES="0,7,1")
    assert EnvVar("CUDA_VISIBLE_DEVICES", "0,7,1", "yours, kept") in plan.environment
    assert plan.count == 1
    line, *reasons = plan.remarks
    assert line.startswith("GPU 0 alone: ")
    assert reasons[0] in line
    assert any('"1" comes after the end of the list' in reason for reason in reasons)


def test_a_users_value_that_hides_nothing_needs_no_remark() -> None:
    plan = planned(FOUR, CUDA_VISIBLE_DEVICES="3,2,1,0")
    assert (plan.count, plan.remarks) == (4, ())


def test_an_empty_value_is_a_value() -> None:
    plan = planned(FOUR, CUDA_VISIBLE_DEVICES="")
    assert plan.count == 0
    assert plan.remarks[0] == "no GPU: an empty value hides every GPU"


@pytest.mark.parametrize("unmet", ["2", "9", "GPU-ffff"])
def test_launcher_gpus_beside_it_has_no_effect(unmet: str) -> None:
    """Nor does one that could not be met: what is without effect cannot end the start."""
    seen = visible(FOUR, CUDA_VISIBLE_DEVICES="1", LAUNCHER_GPUS=unmet)
    assert seen.value == "1"
    assert seen.why == "yours, kept; LAUNCHER_GPUS has no effect beside it"
    assert planned(NO_GPU, CUDA_VISIBLE_DEVICES="1", LAUNCHER_GPUS=unmet) == DevicePlan((), 0)


def test_the_users_order_is_kept() -> None:
    orders = {var.name: var for var in planned(FOUR, CUDA_DEVICE_ORDER="FASTEST_FIRST").environment}
    assert orders["CUDA_DEVICE_ORDER"] == EnvVar(
        "CUDA_DEVICE_ORDER", "FASTEST_FIRST", "yours, kept"
    )


@pytest.mark.parametrize(
    ("environ", "value"),
    [
        ({}, "0,1,2,3"),
        ({"LAUNCHER_GPUS": "4"}, "0,1,2,3"),
        ({"LAUNCHER_GPUS": "2"}, uuids(0, 3)),
        ({"LAUNCHER_GPUS": "idle"}, uuids(0, 3)),
        ({"LAUNCHER_GPUS": "3,2,1,0"}, uuids(3, 2, 1, 0)),  # all, but in an order of its own
        ({"LAUNCHER_GPUS": "2", "LAUNCHER_GPU_IDS": "index"}, "0,3"),
    ],
)
def test_in_an_order_of_cudas_own_some_gpus_are_named_by_uuid(
    environ: dict[str, str], value: str
) -> None:
    seen = visible(FOUR, CUDA_DEVICE_ORDER="FASTEST_FIRST", **environ)
    assert seen.value == value
    assert ("CUDA_DEVICE_ORDER=FASTEST_FIRST" in seen.why) == value.startswith("GPU-")


def test_an_order_that_is_the_default_changes_nothing() -> None:
    assert visible(FOUR, CUDA_DEVICE_ORDER="PCI_BUS_ID", LAUNCHER_GPUS="2").value == "0,3"


# --- indices or UUIDs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "value", "why"),
    [
        ({}, uuids(0, 1, 2), "every usable GPU; UUIDs, since a lost GPU shifts the indices"),
        ({"LAUNCHER_GPU_IDS": "index"}, "0,1,2", "every usable GPU"),
    ],
)
def test_beside_a_lost_gpu(environ: dict[str, str], value: str, why: str) -> None:
    seen = visible(LOST, **environ)
    assert (seen.value, seen.why) == (value, why)


def test_uuids_where_they_are_asked_for() -> None:
    seen = visible(FOUR, LAUNCHER_GPU_IDS="uuid", LAUNCHER_GPUS="2")
    assert seen.value == uuids(0, 3)
    assert seen.why.endswith("; UUIDs, as LAUNCHER_GPU_IDS asks")
