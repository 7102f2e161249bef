"""What is said of variables that keep CUDA from its devices: at a start, and after trials."""

from __future__ import annotations

import pytest

from launcher.checks import judge
from launcher.checks.environment import CHECKS
from launcher.model.evidence import AS_GIVEN, CLEAN, NO_MASKS, NO_MPS, CudaTrial, Evidence
from launcher.model.machine import GpuReport
from launcher.model.plan import Finding
from testing.evidences import cheap, fails, healthy, works
from testing.machines import NO_LIBRARY, answering, cards, gpu, mig_gpu
from testing.values import replace

ONE = answering(gpu(0))
TWO = answering(gpu(0), gpu(1))
MIXED = answering(gpu(0), gpu(1, "NVIDIA GeForce RTX 3090"))
PARTED = answering(mig_gpu(0, 2))
HALF_PARTED = answering(gpu(0), mig_gpu(1, 0))
UUIDS = [one.uuid for one in TWO.gpus]
HALF = answering(gpu(0), mig_gpu(1, 2))
HALVES = HALF.gpus[1].mig_uuids
PART = PARTED.gpus[0].mig_uuids[0]
HEX = answering(gpu(0, uuid="GPU-0abc0000-1111"), gpu(1, uuid="GPU-1def0000-1111"))
SHORT = [uuid[:12] for uuid in UUIDS]  # "GPU-00000001"

# What a start sees: the machine, the value, the failure, what is quoted, the value that mends it.
HIDES_ALL = [
    ("hides_all", TWO, "", '"": an empty value hides every GPU', "=0,1"),
    ("hides_all", TWO, " ", "an empty value hides every GPU", "=0,1"),
    ("hides_all", TWO, "-1", '"-1" is negative', "=0,1"),
    ("duplicate", TWO, "0,0", '"0" repeats an entry', "=0 "),
    ("duplicate", TWO, f"{SHORT[1]},{UUIDS[1]}", "repeats an entry", "=1 "),
    ("out_of_range", ONE, "3", "the one GPU is 0; 3 may be its number on the host", "=0 "),
    ("out_of_range", TWO, "7,0", '"7" is no device here (GPUs 0, 1)', "=0 "),
    ("not_a_device", TWO, "none", "is a word for NVIDIA_VISIBLE_DEVICES only", "=0,1"),
    ("not_a_device", TWO, "all", "is a word for NVIDIA_VISIBLE_DEVICES only", "=0,1"),
    ("not_a_device", TWO, "NoDevFiles", '"NoDevFiles" is no index and no UUID', "=0,1"),
    ("not_a_device", TWO, "gpu0", '"gpu0" is no index and no UUID', "=0,1"),
    ("not_a_device", TWO, "'1,0'", "has quotes", "=1,0"),
    ("not_a_device", TWO, ",1", '"" is empty', "=1 "),
    ("malformed_uuid", TWO, f" {UUIDS[1]}", "begins with white space", "=1 "),
    ("malformed_uuid", TWO, f"{UUIDS[1]} ,{UUIDS[0]}", "case and spaces count", "=1,0"),
    ("malformed_uuid", TWO, UUIDS[1].lower(), "in capitals", "=1 "),
    ("malformed_uuid", HEX, "GPU-1DEF0000", "case and spaces count", "=1 "),
    ("stale_uuid", TWO, "GPU-8f2a91c0-0000-0000-0000-000000000000", "is no device here", "=0,1"),
    ("ambiguous_uuid", TWO, "GPU-0000000", "fits 2 devices", "=0,1"),
    ("mig_uuid_gone", PARTED, "MIG-8f2a91c0-0000", "is no device here", f"={PART},MIG-"),
    ("stale_uuid", HALF, "GPU-8f2a91c0-0000", "is no device here", f"={UUIDS[0]} "),
    ("mig_uuid_gone", HALF, "MIG-8f2a91c0-0000", "is no device here", f"={','.join(HALVES)} "),
    ("no_instance", HALF_PARTED, HALF_PARTED.gpus[1].uuid, "has no instance", f"={UUIDS[0]}"),
]

# As above, where some devices are left: warnings.
HIDES_SOME = [
    ("truncated", TWO, "0,7,1", '"7" is no device here (GPUs 0, 1), and it ends', "=0,1"),
    ("truncated", TWO, "0,-1,1", '"-1" is negative', "=0,1"),
    ("truncated", TWO, "0,,1", '"" is empty', "=0,1"),
    ("truncated", ONE, "0,3", '"3" is no device here', "=0 "),
    ("truncated", TWO, f"{UUIDS[0]},GPU-8f2a91c0", '"GPU-8f2a91c0" is no device here', "=0 "),
    ("truncated", TWO, f"{UUIDS[0]},GPU-00000001-1111-2222-3333-444444444444x", "no device", "=0 "),
    ("truncated", HEX, "GPU-0abc,GPU-1DEF", "case and spaces count", "=0,1"),
    ("mixed_kinds", TWO, f"{UUIDS[0]},1", "an index in a list of UUIDs", "=0,1"),
    ("mixed_kinds", TWO, f"1,{UUIDS[0]}", "a UUID in a list of indices", "=1,0"),
    ("mixed_kinds", TWO, f"{UUIDS[0]},{PART}", "a MIG instance in a list of GPUs", "=0 "),
    ("mixed_kinds", HALF, f"{UUIDS[0]},{HALVES[0]}", "a MIG instance in a list", f"={UUIDS[0]} "),
    ("space_in_uuids", TWO, f"{UUIDS[0]}, {UUIDS[1]}", "begins with white space", "=0,1"),
    ("space_in_uuids", TWO, f"{UUIDS[1]},{UUIDS[0]} ", "case and spaces count", "=1,0"),
    ("read_otherwise", TWO, "0-1", '"0-1" is read as 0', "=0,1"),
    ("read_otherwise", TWO, "1;0", '"1;0" is read as 1', "=1,0"),
    ("read_otherwise", TWO, "0 1", '"0 1" is read as 0', "=0,1"),
]


def masked(report: GpuReport, value: str, **environ: str) -> Evidence:
    """Return what a start sees."""
    found = cheap(report, cards(len(report.gpus)), {"CUDA_VISIBLE_DEVICES": value, **environ})
    return replace(found, user=None)


def tried(seen: Evidence, given: CudaTrial, *cures: str) -> Evidence:
    """Return it with the trials that the doctor makes where `given` is not well."""
    ways = (NO_MASKS, NO_MPS, CLEAN)
    others = (works(seen.gpus, how) if how in cures else replace(given, how=how) for how in ways)
    return replace(seen, trials=(given, *others))


def no_device() -> CudaTrial:
    return fails(100, "CUDA_ERROR_NO_DEVICE")


def failure(seen: Evidence) -> Finding:
    """Return the one failure, which is this layer's."""
    verdict = judge(seen)
    assert verdict.failure is not None
    assert verdict.exit_status == 17
    return verdict.failure


def ours(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.id.startswith("environment.")]


def applying(seen: Evidence) -> list[str]:
    return [check.id.removeprefix("environment.") for check in CHECKS if check.seen(seen)]


# --- CUDA_VISIBLE_DEVICES ---------------------------------------------------------------------


@pytest.mark.parametrize(("what", "report", "value", "quoted", "mended"), HIDES_ALL)
def test_a_start_says_why_every_gpu_is_hidden(what, report, value, quoted, mended) -> None:
    seen = masked(report, value)
    assert applying(seen) == [what]
    found = failure(seen)
    assert found.id == f"environment.{what}"
    assert found.what.startswith("CUDA_VISIBLE_DEVICES=")
    assert quoted in found.what
    assert f"docker run -e CUDA_VISIBLE_DEVICES{mended}" in found.fix


@pytest.mark.parametrize(("what", "report", "value", "quoted", "mended"), HIDES_ALL)
def test_the_trials_say_the_same(what, report, value, quoted, mended) -> None:
    found = failure(tried(masked(report, value), no_device(), NO_MASKS, CLEAN))
    assert found.id == f"environment.{what}"
    assert found.what.endswith("; CUDA 100: CUDA_ERROR_NO_DEVICE")


@pytest.mark.parametrize(("what", "report", "value", "quoted", "mended"), HIDES_SOME)
def test_a_start_warns_of_a_list_that_means_something_else(
    what, report, value, quoted, mended
) -> None:
    seen = masked(report, value)
    assert applying(seen) == [what]
    verdict = judge(seen)
    assert verdict.failure is None
    (warning,) = ours(verdict.warnings)
    assert warning.id == f"environment.{what}"
    assert quoted in warning.what
    assert f"CUDA_VISIBLE_DEVICES{mended}" in warning.fix


@pytest.mark.parametrize(
    "value", ["0", "1", "1,0", "0,1,", "0,", " 1 ,\t0", "01", UUIDS[1], ",".join(SHORT)]
)
def test_a_list_that_is_plainly_so_is_no_complaint(value: str) -> None:
    assert applying(masked(TWO, value)) == []


def test_without_the_variable_there_is_nothing_to_say() -> None:
    assert applying(cheap(TWO, cards(2))) == []


@pytest.mark.parametrize(
    "report", [GpuReport(failure=NO_LIBRARY), GpuReport(), answering(mig_gpu(0, 0))]
)
def test_where_no_gpu_could_be_used_anyway_the_mask_is_not_to_blame(report: GpuReport) -> None:
    assert applying(masked(report, "7")) == []


def test_a_start_does_not_guess_what_only_the_driver_knows() -> None:
    seen = masked(TWO, "0,7,7")  # "probably no GPU": docs/visibility.md
    assert applying(seen) == []
    assert applying(tried(seen, no_device(), NO_MASKS, CLEAN))[0] == "duplicate"


def test_where_cuda_sees_devices_the_rules_are_wrong() -> None:
    seen = masked(TWO, "0,0")
    assert applying(seen) == ["duplicate"]
    assert applying(replace(seen, trials=(works(TWO.gpus),))) == []
    assert applying(tried(seen, works(TWO.gpus[:1]), NO_MASKS, CLEAN)) == []


def test_where_cuda_sees_fewer_than_the_rules_leave_they_explain_nothing() -> None:
    seen = masked(TWO, "0,7,1")
    alone = works(TWO.gpus[:1])
    assert applying(replace(seen, trials=(alone,))) == ["truncated"]
    assert applying(tried(seen, replace(alone, devices=()), NO_MASKS, CLEAN)) == ["masks"]


def test_what_is_broken_without_the_mask_too_is_not_the_masks_fault() -> None:
    assert applying(tried(masked(TWO, ""), fails(999, "CUDA_ERROR_UNKNOWN"))) == []


def test_a_mask_and_another_fault_at_once() -> None:
    assert applying(tried(masked(TWO, "-1"), no_device(), CLEAN))[0] == "hides_all"


@pytest.mark.parametrize(
    ("platform", "how"),
    [
        ("podman", "podman run -e CUDA_VISIBLE_DEVICES=0,1 …"),
        ("kubernetes", "in the pod's environment: CUDA_VISIBLE_DEVICES=0,1 "),
        ("plain", "export CUDA_VISIBLE_DEVICES=0,1"),
    ],
)
def test_the_fix_is_for_what_started_the_box(platform: str, how: str) -> None:
    seen = masked(TWO, "")
    host = replace(seen.machine.host, platform=platform)
    assert failure(replace(seen, machine=replace(seen.machine, host=host))).fix.startswith(how)


def test_where_indices_are_in_doubt_the_fix_has_uuids() -> None:
    seen = masked(MIXED, "", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert f"CUDA_VISIBLE_DEVICES={','.join(UUIDS)}" in failure(seen).fix


def test_a_value_cannot_reach_the_terminal_as_it_is() -> None:
    found = failure(masked(TWO, "\x1b[2Jx\n"))
    assert (found.what + found.fix).isprintable()


# --- masks that the rules do not explain ------------------------------------------------------


def test_a_mask_that_the_rules_do_not_explain() -> None:
    trials = tried(masked(TWO, "0"), no_device(), NO_MASKS, CLEAN)
    found = failure(trials)
    assert found.id == "environment.masks"
    assert found.what.startswith("CUDA 100: CUDA_ERROR_NO_DEVICE; without CUDA_VISIBLE_DEVICES")
    assert found.what.endswith("CUDA sees 2 devices")
    assert found.fix == "in the container: unset CUDA_VISIBLE_DEVICES"


def test_two_variables_that_must_both_go() -> None:
    seen = masked(TWO, "0", CUDA_MPS_PIPE_DIRECTORY="/mps")
    trials = tried(seen, fails(805, "CUDA_ERROR_MPS_CONNECTION_FAILED"), CLEAN)
    both = ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "/usr/local/cuda/compat")
    clean = replace(trials.trials[-1], left_out=both)
    found = failure(replace(trials, trials=(*trials.trials[:-1], clean)))
    assert found.id == "environment.masks"
    assert f"without {', '.join(both)} CUDA sees 2 devices" in found.what
    assert found.fix.endswith("unset CUDA_VISIBLE_DEVICES CUDA_MPS_PIPE_DIRECTORY")


def test_some_devices_left_are_the_users_choice() -> None:
    seen = masked(TWO, "0")
    trials = (works(TWO.gpus[:1], AS_GIVEN), works(TWO.gpus, NO_MASKS), works(TWO.gpus, CLEAN))
    assert applying(replace(seen, trials=trials)) == []


# --- MPS --------------------------------------------------------------------------------------

MPS = {"CUDA_MPS_PIPE_DIRECTORY": "/mps", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}
NO_DAEMON = fails(805, "CUDA_ERROR_MPS_CONNECTION_FAILED")


def test_an_mps_that_does_not_answer() -> None:
    seen = cheap(TWO, cards(2), MPS)
    assert applying(seen) == []
    found = failure(tried(seen, NO_DAEMON, NO_MPS, CLEAN))
    assert found.id == "environment.mps"
    assert found.what.startswith("CUDA 805: CUDA_ERROR_MPS_CONNECTION_FAILED; without CUDA_MPS_")
    assert "unset CUDA_MPS_ACTIVE_THREAD_PERCENTAGE CUDA_MPS_PIPE_DIRECTORY" in found.fix


def test_mps_that_fails_without_these_variables_too_is_not_theirs() -> None:
    assert applying(tried(cheap(TWO, cards(2), MPS), NO_DAEMON)) == []


def test_a_hung_mps_is_told_in_the_trials_words() -> None:
    hung = CudaTrial(AS_GIVEN, "hung", reason="no answer within 5 s")
    found = failure(tried(cheap(TWO, cards(2), MPS), hung, NO_MPS, CLEAN))
    assert found.what.startswith("CUDA hung: no answer within 5 s; without")


def test_indices_that_mps_renumbered() -> None:
    seen = tried(masked(TWO, "1", **MPS), no_device(), NO_MASKS, NO_MPS, CLEAN)
    found = failure(seen)
    assert found.id == "environment.mps_renumbered"
    assert ",".join(UUIDS) in found.fix


# --- CUDA_DEVICE_ORDER ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "order", "words"),
    [
        (MIXED, "FASTEST_FIRST", "CUDA_DEVICE_ORDER=FASTEST_FIRST on GPUs of 2 kinds"),
        (MIXED, "pci_bus_id", '"pci_bus_id" is neither FASTEST_FIRST nor PCI_BUS_ID'),
        (MIXED, "PCI_BUS_ID", None),
        (MIXED, "", None),
        (TWO, "FASTEST_FIRST", None),
        (GpuReport(failure=NO_LIBRARY), "FASTEST_FIRST", None),
    ],
)
def test_an_order_that_is_not_that_of_nvidia_smi(report, order, words) -> None:
    seen = cheap(report, cards(len(report.gpus)), {"CUDA_DEVICE_ORDER": order})
    found = ours(judge(seen).warnings)
    assert [finding.id for finding in found] == (["environment.device_order"] if words else [])
    assert all(words in finding.what for finding in found)
    assert all("-e CUDA_DEVICE_ORDER=PCI_BUS_ID" in finding.fix for finding in found)


def test_where_all_is_well_nothing_applies() -> None:
    assert applying(healthy(8)) == []
