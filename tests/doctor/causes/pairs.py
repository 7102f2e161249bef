"""Two causes at once: the lower layer's is the failure, whatever the other does."""

from __future__ import annotations

from collections.abc import Mapping

from testing.doctor.scenario import Scenario
from testing.doctor.tree import Changes
from tests.doctor.causes import CAUSES

# The lower layer first.
_PAIRS = (
    ("reset-required", "cuda-999"),
    ("module-not-loaded", "mask-empty"),
    ("uvm-not-loaded", "cpu-build"),
    ("not-injected", "mask-of-the-host"),
    ("utility-only", "no-torch"),
    ("no-uvm-node", "mask-word"),
    ("stub", "mask-empty"),
    ("shadowed", "cpu-build"),
    ("cuda-3", "mask-word"),
    ("cuda-802", "broken-torch"),
    ("cpu-build", "mask-empty"),
    ("no-kernel", "mps-left-over"),
    ("mask-stale", "compute-prohibited"),
)


def _at_once(lower: Scenario, higher: Scenario) -> Scenario:
    assert lower.expects
    assert higher.expects
    assert lower.exit_status < higher.exit_status
    return Scenario(
        f"{lower.id}-and-{higher.id}",
        f"{lower.cause} {higher.cause}",
        lower.expects,
        names=lower.names,
        machine=lower.machine,
        gpus=lower.gpus,
        changes=_merged(higher.changes, lower.changes),
        tree=(*lower.tree, *higher.tree),
        environ={**higher.environ, **lower.environ},
        torch=_described(higher) | _described(lower),
    )


def _merged(one: Changes, other: Changes) -> Changes:
    sections = dict.fromkeys((*one, *other))
    return {name: {**one.get(name, {}), **other.get(name, {})} for name in sections}


def _described(scenario: Scenario) -> dict[str, object]:
    assert isinstance(scenario.torch, Mapping)
    return dict(scenario.torch)


_BY_ID = {scenario.id: scenario for scenario in CAUSES}
PAIRS = tuple(_at_once(_BY_ID[lower], _BY_ID[higher]) for lower, higher in _PAIRS)
