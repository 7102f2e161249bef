"""What is worth a line in the log: services, required programs, and GPUs on a fake clock."""

from __future__ import annotations

import pytest

from launcher.model.watch import Probe
from launcher.supervise.programs import Program
from launcher.watch import news
from launcher.watch.news import GpuNews
from testing.values import replace

JUPYTER_UP, JUPYTER_DOWN = Probe("jupyter", True, "answers"), Probe("jupyter", False, "refused")
SSH_UP, SSH_DOWN = Probe("ssh", True, "listens"), Probe("ssh", False, "does not listen")
RUNS = Program("box", "running", 7, 1.0, 1, None, True)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([JUPYTER_UP, SSH_UP], [JUPYTER_UP, SSH_UP], []),
        ([JUPYTER_UP, SSH_UP], [JUPYTER_DOWN, SSH_UP], ["jupyter is not ready: refused"]),
        ([JUPYTER_DOWN], [JUPYTER_DOWN], []),
        ([JUPYTER_DOWN, SSH_UP], [JUPYTER_UP, SSH_UP], ["jupyter is ready again"]),
        ([JUPYTER_DOWN, SSH_UP], [JUPYTER_UP, SSH_DOWN],
         ["jupyter is ready again", "ssh is not ready: does not listen"]),
        ([], [JUPYTER_UP], []),
        ([], [JUPYTER_DOWN], ["jupyter is not ready: refused"]),
    ],
)  # fmt: skip
def test_only_what_changed_is_said(before: list, after: list, said: list[str]) -> None:
    assert list(news.changes(before, after)) == [f"launcher: {line}" for line in said]


@pytest.mark.parametrize(
    ("probes", "programs", "seen"),
    [
        ([JUPYTER_UP], {"jupyter": RUNS}, {"jupyter": None}),
        ([JUPYTER_DOWN], {"jupyter": RUNS},
         {"jupyter": "refused; fix: launcher restart jupyter"}),
        ([SSH_DOWN], {}, {"ssh": "does not listen; fix: launcher restart sshd"}),
        # That it ended says more than that nobody answers.
        ([SSH_DOWN], {"sshd": replace(RUNS, state="waiting", end="killed by SIGKILL")},
         {"ssh": "it ended, and is started again: killed by SIGKILL"}),
        # It answers, so what supervise wrote is late.
        ([SSH_UP], {"sshd": replace(RUNS, state="waiting")}, {"ssh": None}),
        # Somebody answers, and it is not what was stopped.
        ([SSH_UP], {"sshd": replace(RUNS, state="stopped")},
         {"ssh": "it was stopped; start it: launcher restart sshd"}),
        ([SSH_UP], {"sshd": replace(RUNS, state="failed")},
         {"ssh": "it failed for good; its last lines: launcher logs sshd"}),
        ([JUPYTER_UP], {"train": replace(RUNS, group="train", state="failed", end="exit status 1")},
         {"jupyter": None,
          "train": "it failed for good: exit status 1; its last lines: launcher logs train"}),
        ([JUPYTER_UP], {"train": replace(RUNS, group="train")},
         {"jupyter": None, "train": None}),
        ([JUPYTER_UP], {"train": replace(RUNS, state="failed", required=False)}, {"jupyter": None}),
        ([], {"train": replace(RUNS, state="stopped")},
         {"train": "it was stopped; start it: launcher restart train"}),
        ([], {"watch": replace(RUNS, state="waiting")}, {}),
        ([], {"train": replace(RUNS, state="a state of next year's")}, {"train": None}),
    ],
)  # fmt: skip
def test_required_programs_count(probes: list, programs: dict, seen: dict) -> None:
    found = news.with_programs(probes, programs, "docker restart …")
    assert {p.service: None if p.ready else p.detail for p in found} == seen


# --- GPUs -------------------------------------------------------------------------------------

INTERVAL = 30.0
DEFAULT_MINUTE = 60.0


def history(*truth: tuple[float, str], until: float = 300.0) -> list[tuple[float, str]]:
    """Return what is said, and when, of GPUs that change at these times; the clock is fake."""
    gpus, now, said = GpuNews(), 0.0, []
    while now < until:
        detail = [what for since, what in truth if since <= now][-1] if truth[0][0] <= now else ""
        after = gpus.see(detail)
        if after.said != gpus.said:
            said.append((now, after.said))
        gpus = after
        now += gpus.pause(INTERVAL)
    return said


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        pytest.param([(1, "cgroup")], ["cgroup"], id="daemon-reload"),
        pytest.param([(31, "lost"), (200, "")], ["lost", ""], id="fallen-off-and-back"),
        pytest.param([(31, "lost"), (32, "")], [], id="between-two-looks"),
        pytest.param([(29, "hiccup"), (31, "")], [], id="hiccup"),
        pytest.param([(1, "3 lost"), (100, "3, 5 lost")], ["3 lost", "3, 5 lost"], id="one-more"),
        pytest.param([(1, "mig"), (90, ""), (92, "mig")], ["mig"], id="a-good-moment-is-none"),
        pytest.param([(30, "a"), (34, "b"), (39, "c")], ["b", "c"], id="other-words-each-time"),
        pytest.param(
            [(1, "a"), (61, ""), (121, "a"), (181, "")], ["a", "", "a", ""], id="slow-flapping"
        ),
        pytest.param(
            [(30 + 5 * i, "a" if i % 2 == 0 else "") for i in range(54)], [], id="fast-flapping"
        ),
    ],
)  # fmt: skip
def test_histories(truth: list, said: list[str]) -> None:
    heard = history(*truth)
    assert [what for _, what in heard] == said
    for when, what in heard:
        began = [since for since, is_so in truth if is_so == what and since <= when][-1]
        assert when - began < DEFAULT_MINUTE


def test_a_short_interval_stays_short() -> None:
    assert GpuNews().see("lost").pause(2.0) == 2.0
