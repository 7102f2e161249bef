"""Who sends to whom, and the words of what went wrong; the rest is in tests/unit/doctor."""

from __future__ import annotations

import pytest

from launcher.guest.collective import _words, partners


@pytest.mark.parametrize("ranks", range(2, 18))
def test_everybody_meets_everybody_once(ranks: int) -> None:
    for rank in range(ranks):
        others = [other for other in range(ranks) if other != rank]
        assert sorted(partners(rank, ranks)) == others


@pytest.mark.parametrize("ranks", range(2, 18))
def test_nobody_waits_in_a_circle(ranks: int) -> None:
    """Each has one partner at a time, in its own order: there is always a pair that may go on."""
    left = {rank: list(partners(rank, ranks)) for rank in range(ranks)}
    while any(left.values()):
        ready = [
            (rank, queue[0]) for rank, queue in left.items() if queue and left[queue[0]][0] == rank
        ]
        assert ready
        for rank, other in ready:
            assert left[rank].pop(0) == other


def test_nccl_s_own_words_are_shown() -> None:
    text = """NCCL error in: NCCLUtils.hpp:268, unhandled system error (run with NCCL_DEBUG=INFO)
        ncclSystemError: System call (e.g. socket, malloc) or external library call failed.
        Last error:
        Error while creating shared memory segment /dev/shm/nccl-1YsMbG (size 7340384)"""
    assert _words(RuntimeError(text)).startswith("Error while creating shared memory segment")
    assert _words(RuntimeError("one\ntwo")) == "one"
    assert _words(RuntimeError()) == "RuntimeError"
    assert _words(RuntimeError("Last error:")) == "Last error:"  # and no word after it
