"""What an Xid means: NVIDIA's catalogue, and what a driver says that knows better."""

from __future__ import annotations

import re

import pytest

from launcher.gpus import xid
from launcher.gpus.xid import ADVICE, FAULTS, XIDS, advise, explain, needs_reset

# The immediate actions of NVIDIA's catalogue, for what is not "Unused" there.
RESTART_APP = {
    8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, *range(82, 87), 88,
    89, 94, *range(96, 106), *range(126, 136), 139,
}  # fmt: skip
IGNORE = {
    37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 152, 153, 157, 160, 161,
}  # fmt: skip
# Reset, restart of the host or its VM, and the workflows that end with one of them.
RESET = {46, 48, 62, 64, 74, 79, 95, 110, 119, 120, 136, 140, 143, 151, 156, 158}
# The catalogue leaves open what to do, or says that the driver says it.
OPEN = {*range(144, 151), 154, 155, 166, 167, 168, 169, 170, 173}
ELSEWHERE = {45, 54, 78, 109, 142, 159, 162, 163, 164, 165, 171, 172}


def test_every_code_is_in_one_row() -> None:
    codes = [code for codes, _ in xid._ROWS for code in codes]
    assert sorted(codes) == sorted(set(codes))
    assert set(XIDS) == RESTART_APP | IGNORE | RESET | OPEN | ELSEWHERE


@pytest.mark.parametrize("code", sorted(XIDS))
def test_a_row_is_whole(code: int) -> None:
    row = explain(code)
    assert row.means
    assert row.fault in {*FAULTS, ""}
    assert row.action in ADVICE


@pytest.mark.parametrize("code", sorted(RESTART_APP | IGNORE | OPEN | ELSEWHERE))
def test_a_gpu_that_works_on_needs_no_reset(code: int) -> None:
    assert not advise(code, None).resets


@pytest.mark.parametrize("code", sorted(RESET))
def test_a_gpu_that_is_to_be_reset_does(code: int) -> None:
    advice = advise(code, None)
    assert advice.resets
    assert re.search(r"--gpu-reset -i \{0\}|sudo reboot", advice.fix)


@pytest.mark.parametrize("code", [13, 31, 43, 137])
def test_a_program_s_fault_is_looked_for_in_the_program(code: int) -> None:
    assert explain(code).fault == "program"
    assert "CUDA_LAUNCH_BLOCKING=1" in advise(code, None).fix


def test_a_code_of_next_year_s_is_said_all_the_same() -> None:
    assert explain(9999) == xid.UNKNOWN
    assert not advise(9999, None).resets
    assert "dmesg" in advise(9999, None).fix


@pytest.mark.parametrize(
    ("code", "recovery", "advice"),
    [
        (48, 0, "restart"),  # contained: the driver knows
        (48, 1, "reset"),
        (48, 4, "drain and reset"),
        (31, 0, "debug"),
        (31, 4, "debug"),  # what it needs for another reason is no news of this one
        (31, 1, "reset"),
        (154, 0, "nothing"),
        (154, 1, "reset"),
        (154, 2, "reboot"),
        (154, 3, "drain"),
        (154, 5, "imex"),
        (154, 99, "ask"),
        (149, 0, "restart"),
        (149, 1, "reset"),
        (109, 1, "reset"),
        (79, None, "bus"),
    ],
)
def test_what_the_driver_says_counts_for_more(code: int, recovery: int | None, advice: str) -> None:
    assert advise(code, recovery) == ADVICE[advice]


def test_of_what_a_gpu_can_need_four_end_its_programs() -> None:
    assert {code for code in range(100) if needs_reset(code)} == {1, 2, 6, 7}
    assert not needs_reset(None)


@pytest.mark.parametrize("name", ADVICE)
def test_what_to_do_fits_every_place(name: str) -> None:
    """What `fit` replaces is written so that it can be."""
    text = ADVICE[name].fix
    assert "docker" not in text
    assert not re.search(r"nvidia-smi --gpu|reboot|dmesg|systemctl", text) or "on the host" in text


def test_only_what_matters_is_repeated() -> None:
    assert not xid.is_worth_repeating(45)
    assert xid.is_worth_repeating(13)
