"""What the doctor prints: the table, the JSON, the file to attach."""

from __future__ import annotations

import json
import re

import pytest

from launcher.checks import LAYERS, Verdict, judge
from launcher.doctor import report
from launcher.doctor.collective import not_tried
from launcher.model.collective import Collective, CollectiveTrial, PairSpeed
from launcher.model.evidence import Evidence, TorchReport
from launcher.model.host import Account
from launcher.model.machine import Pair
from launcher.model.plan import Finding
from testing.evidences import NO_NVML, cheap, full, healthy
from testing.machines import CASES, NO_CARD, NOT_INJECTED
from testing.values import replace

ALWAYS = LAYERS[:-1]  # the last one is looked at where that is asked for
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
FAILURE = Finding("runtime.x", "what was seen " * 12, "what it means", "what to type " * 12)
WARNING = Finding("hardware.y", "a slow card", "it computes all the same", "none")
BROKEN = Verdict(FAILURE, (WARNING,))


def statuses(seen: Evidence, verdict: Verdict) -> list[str]:
    return [row.status for row in report.rows(seen, verdict)]


def test_a_healthy_box_is_ok_from_the_lowest_layer_up() -> None:
    seen = healthy()
    rows = report.rows(seen, judge(seen))
    assert [row.layer for row in rows] == list(ALWAYS)
    assert [row.number for row in rows] == list(range(1, len(ALWAYS) + 1))
    assert {row.status for row in rows} == {"ok"}


def test_what_needs_the_broken_layer_waits_for_it() -> None:
    rows = report.rows(healthy(), BROKEN)
    assert [row.status for row in rows] == ["warning", "ok", "FAILED", *["skipped"] * 5]
    assert {row.text for row in rows[3:]} == {"waits for runtime"}


def test_what_was_not_tried_is_not_called_ok() -> None:
    seen = replace(healthy(), trials=(), torch=None, libraries=())
    status = dict(zip(ALWAYS, statuses(seen, Verdict(None, ())), strict=True))
    assert [status[layer] for layer in ("libraries", "cuda", "pytorch")] == ["skipped"] * 3


def test_where_no_gpu_is_wanted_the_rows_say_so() -> None:
    torch = TorchReport("ok", version="2.6.0", devices=0)
    environ = {"CUDA_VISIBLE_DEVICES": ""}
    seen = replace(healthy(), trials=(), torch=torch, environ=environ, cpu_only=True)
    told = {row.layer: (row.status, row.text) for row in report.rows(seen, judge(seen))}
    assert told["cuda"] == ("skipped", "not looked at")
    assert told["pytorch"] == ("ok", "2.6.0: computes on the CPU")
    assert told["environment"] == ("ok", "no GPU, as LAUNCHER_GPUS=none asks")
    missing = replace(seen, torch=TorchReport("missing", error="no module named torch"))
    assert report.rows(missing, judge(missing))[5].text == "cannot be used: no module named torch"


# --- GPUs that talk to each other ------------------------------------------------------------

GPUS = Collective(
    "nccl", 2, (0, 1),
    (CollectiveTrial("as given", "ok", version="2.21.5", all_reduce=300e9,
                     pairs=(PairSpeed(0, 1, 250e9),)),),
)  # fmt: skip
CPUS = Collective("gloo", 2, (), (CollectiveTrial("as given", "ok", all_reduce=1e9),))
HANGS = CollectiveTrial("as given", "hung", "all_reduce", (), "no answer within 60 s")


def last_row(seen: Evidence) -> tuple[str, str]:
    row = report.rows(seen, judge(seen))[-1]
    assert (row.number, row.layer) == (9, "collective")
    return row.status, row.text


def test_speeds_stand_beside_what_the_links_should_carry() -> None:
    seen = healthy(2)
    pair = Pair(0, 1, 18, "switch", "NODE", "OK")
    linked = replace(seen.machine, report=replace(seen.report, pairs=(pair,)))
    status, text = last_row(replace(seen, machine=linked, collective=GPUS))
    assert status == "ok"
    assert text == (
        "2 GPUs by NCCL 2.21.5; all_reduce 300 GB/s of about 371 (18 NVLinks a GPU); "
        "point-to-point 250 GB/s of about 371 (NV18)"
    )
    assert "of about" not in last_row(replace(seen, collective=GPUS))[1]  # no link is told


def test_one_gpu_has_nobody_to_talk_to() -> None:
    seen = replace(healthy(1), collective=Collective("nccl", 1, (0,)))
    assert last_row(seen) == ("ok", "one GPU: there is nobody to talk to")
    assert judge(seen).exit_status == 0


def test_without_a_gpu_it_is_said_that_only_the_mechanics_were_tried() -> None:
    seen = replace(cheap(NO_NVML, NO_CARD), collective=CPUS)
    status, text = last_row(seen)
    assert status == "ok"
    assert "the mechanics alone: there is no GPU" in text
    broken = replace(seen, collective=replace(CPUS, trials=(HANGS,)))
    assert last_row(broken) == (
        "FAILED",
        "all_reduce over 2 processes does not end: no answer within 60 s",
    )
    missing = CollectiveTrial("as given", "missing", "start", reason="No module named 'torch'")
    without = replace(seen, collective=replace(CPUS, trials=(missing,)))
    assert last_row(without) == ("skipped", "No module named 'torch'")
    assert judge(without).failure == judge(seen).failure  # that there is no GPU


def test_what_is_broken_below_is_waited_for() -> None:
    seen = replace(cheap(NO_NVML, NOT_INJECTED), collective=not_tried())
    assert last_row(seen) == ("skipped", "waits for runtime")


def test_that_gpus_do_not_reach_each_other_has_its_own_status() -> None:
    seen = replace(healthy(2), collective=replace(GPUS, trials=(HANGS,)))
    verdict = judge(seen)
    assert verdict.exit_status == 19
    assert report.document(seen, verdict)["healthy"] is False
    assert last_row(seen)[0] == "FAILED"
    assert "collective as given: " in report.text(seen, verdict, verbose=True)


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("color", [False, True])
def test_the_text_fits_a_terminal(color: bool) -> None:
    shown = report.text(healthy(8), BROKEN, color=color)
    plain = ESCAPE.sub("", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert (plain != shown) is color
    assert plain == report.text(healthy(8), BROKEN)


def test_every_finding_says_what_to_type_and_where_to_read_on() -> None:
    shown = report.text(healthy(), BROKEN)
    words = " ".join(shown.split())
    for finding in (FAILURE, WARNING):
        for part in (finding.id, finding.what, finding.means, finding.fix):
            assert " ".join(part.split()) in words
        assert f"launcher explain {finding.id}" in words


def test_verbose_shows_the_evidence() -> None:
    seen = replace(healthy(), environ={"CUDA_VISIBLE_DEVICES": "0\n1"})
    shown = report.text(seen, judge(seen), verbose=True)
    for fact in ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "CUDA as given", "2.6.0+cu124"):
        assert fact in shown
    assert "CUDA_VISIBLE_DEVICES='0\\n1'" in shown  # a value is data


# --- JSON ------------------------------------------------------------------------------------


def test_the_document_is_what_the_page_describes() -> None:
    seen = cheap(NO_NVML, NOT_INJECTED)
    verdict = judge(seen)
    found = json.loads(json.dumps(report.document(seen, verdict)))
    assert found["schema"] == report.SCHEMA
    assert found["healthy"] is False
    assert found["exit_status"] == verdict.exit_status == 13
    assert found["failure"]["id"] == "runtime.not_injected"
    assert set(found["failure"]) == {"id", "what", "means", "fix", "section"}
    assert [layer["name"] for layer in found["layers"]] == list(ALWAYS)
    assert found["layers"][2]["status"] == "failed"
    assert found["evidence"]["machine"]["hardware"]["kernel_driver"] == "550.54.15"


def test_a_healthy_document_has_no_failure() -> None:
    found = report.document(healthy(), judge(healthy()))
    assert (found["healthy"], found["exit_status"], found["failure"]) == (True, 0, None)


# --- the file to attach ----------------------------------------------------------------------

UUID = "GPU-a1b2c3d4-0000-1111-2222-333344445555"


def attached(seen: Evidence) -> str:
    text = report.text(seen, judge(seen))
    return json.dumps(report.attachment(seen, judge(seen), {"launcher": "1"}, text))


def test_no_uuid_and_no_name_of_a_person_is_published() -> None:
    seen = healthy()
    gpus = (replace(seen.gpus[0], uuid=UUID), *seen.gpus[1:])
    jane = Account("jane", 1234, 1234, "/home/jane", "/bin/sh")
    host = replace(seen.machine.host, hostname="janes-laptop", me=jane, account=jane)
    found = replace(seen.machine, host=host, report=replace(seen.report, gpus=gpus))
    environ = {
        "CUDA_VISIBLE_DEVICES": f"{UUID},{UUID[:9]}",
        "LD_LIBRARY_PATH": "/home/jane/lib",
        "NCCL_API_KEY": "hunter2",
    }
    text = attached(replace(seen, machine=found, environ=environ, user=jane))
    for private in (UUID, UUID[4:12], "jane", "hunter2"):
        assert private not in text
    for fact in ("~/lib", "GPU-#", "550.54.15", "NVIDIA H100"):
        assert fact in text


def test_the_same_gpu_has_the_same_alias_everywhere() -> None:
    seen = healthy(1)
    found = json.loads(attached(replace(seen, environ={"CUDA_VISIBLE_DEVICES": seen.gpus[0].uuid})))
    evidence = found["evidence"]
    alias = evidence["machine"]["report"]["gpus"][0]["uuid"]
    assert evidence["environ"]["CUDA_VISIBLE_DEVICES"] == alias
    assert evidence["trials"][0]["devices"][0]["uuid"] == alias
    assert alias.startswith("GPU-#")


@pytest.mark.parametrize("name", CASES)
def test_every_machine_can_be_printed(name: str) -> None:
    found = CASES[name].machine
    seen = full(found.report, found.hardware)
    assert report.text(seen, judge(seen), verbose=True)
    assert attached(seen)
