"""When an Xid is said, on a fake clock: the first at once, a storm as numbers."""

from __future__ import annotations

import pytest

from launcher.checks.facts.places import PLACES
from launcher.gpus.xid import XIDS
from launcher.text.xid import reset_reason, storm_line, xid_line
from launcher.watch.xid_news import Again, Kind, XidNews
from testing.watched import LISTED

ILLEGAL, ENDED = Kind(0, 13), Kind(0, 45)  # the second needs nobody to do anything


def test_the_first_is_news_and_those_that_follow_are_a_number() -> None:
    news = XidNews((), 0.0)
    assert news.see(ILLEGAL, 1, 0.0)
    assert not news.see(ILLEGAL, 240, 5.0)
    assert news.due(59.0) == []
    assert news.next_due() == 60.0
    assert news.due(60.0) == [Again(ILLEGAL, 240, 60.0)]
    assert news.next_due() is None
    assert news.due(1000.0) == []


def test_what_comes_at_once_with_the_first_is_counted_later() -> None:
    news = XidNews((), 0.0)
    assert news.see(ILLEGAL, 100, 0.0)
    assert news.due(60.0) == [Again(ILLEGAL, 99, 60.0)]


def test_a_storm_that_lasts_a_day_is_some_thirty_lines() -> None:
    news, lines = XidNews((), 0.0), 0
    for now in range(0, 86_400, 5):
        lines += news.see(ILLEGAL, 50, now) + len(news.due(now))
    assert 20 < lines < 40


def test_what_needs_nothing_to_be_done_is_said_once() -> None:
    news = XidNews((), 0.0)
    assert news.see(ENDED, 1, 0.0)
    assert not news.see(ENDED, 9, 1.0)
    assert news.due(1e6) == []
    assert news.next_due() is None


def test_kinds_are_told_apart_by_gpu_and_by_code() -> None:
    news = XidNews((), 0.0)
    assert news.see(ILLEGAL, 1, 0.0)
    assert news.see(Kind(1, 13), 1, 0.0)
    assert news.see(Kind(0, 31), 1, 0.0)


def test_what_the_log_has_is_not_news() -> None:
    news = XidNews([ILLEGAL], 0.0)
    assert not news.see(ILLEGAL, 3, 1.0)
    assert news.due(60.0) == [Again(ILLEGAL, 3, 60.0)]


# --- the words ---------------------------------------------------------------------------------


def test_the_lines_are_of_one_line() -> None:
    for code in (13, 45, 48, 79, 154, 9999):
        for recovery in (None, 0, 1, 4):
            line = xid_line(LISTED, code, recovery, "docker")
            assert line.startswith(f"launcher: GPU 0: Xid {code}: ")
            assert line.isprintable()
            assert ("; fix: " in line) != line.endswith("; nothing is to be done")
            assert "{0}" not in line


@pytest.mark.parametrize("place", PLACES)
def test_what_to_do_has_no_words_of_another_place(place: str) -> None:
    for code in (*XIDS, 9999):
        for recovery in (None, *range(9)):
            line = xid_line(LISTED, code, recovery, place)
            assert "docker" not in line
            assert place in ("docker", "podman", "rootless podman") or "on the host:" not in line


def test_why_it_is_not_healthy_is_said_only_of_what_needs_a_reset() -> None:
    assert reset_reason(LISTED, 13, None, "docker") == ""
    assert reset_reason(LISTED, 48, 0, "docker") == ""
    assert "--gpu-reset -i 00000000:01:00.0" in reset_reason(LISTED, 48, None, "docker")


def test_a_number_of_one() -> None:
    assert storm_line(3, 13, 1, 61.4) == "launcher: GPU 3: Xid 13 came once more within 61 s"
    assert "came 240 times more within" in storm_line(3, 13, 240, 60.0)
