"""Every value comes back from its JSON as it was, and secrets show only where that is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.model import codec
from launcher.model import machine as machine_values
from launcher.model import plan as model_plan
from testing.machines import CASES, PASSWORD, TOKEN
from testing.strategies import values

VALUES = [kind for kind in vars(model_plan).values() if getattr(kind, "_fields", ())]

st.register_type_strategy(str, values)  # text as it comes from an environment


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_value_comes_back_as_it_was(kind: type, data: st.DataObject) -> None:
    value = data.draw(st.from_type(kind))
    # `==` on NaN is no use, and no stage has one.
    text = codec.to_json(value, reveal=True)
    if "NaN" not in text:
        assert codec.from_json(kind, text) == value


@pytest.mark.parametrize("name", CASES)
def test_machines_and_plans_come_back_as_they_were(name: str) -> None:
    case = CASES[name]
    machine, plan = case.machine, case.plan()
    assert codec.from_json(machine_values.Machine, codec.to_json(machine)) == machine
    assert codec.from_json(model_plan.Plan, codec.to_json(plan, reveal=True)) == plan


@given(text=values)
def test_the_json_of_any_text_can_be_written_to_a_pipe(text: str) -> None:
    value = model_plan.KeyLine("PUBLIC_KEY", 1, text)
    sent = codec.to_json(value).encode()  # strict: a pipe takes bytes
    assert codec.from_json(model_plan.KeyLine, sent) == value


def test_a_secret_is_three_stars() -> None:
    plan = CASES["h100-8x"].plan()
    shown = codec.to_json(plan)
    assert "***" in shown
    assert TOKEN not in shown
    assert PASSWORD not in shown
    assert TOKEN in codec.to_json(plan, reveal=True)


def test_secrets_print_as_three_stars_everywhere() -> None:
    secret = model_plan.Secret("s3cret")
    plan = CASES["h100-8x"].plan()
    assert (repr(secret), str(secret), f"{secret}", f"{[secret]}") == ("***", "***", "***", "[***]")
    assert TOKEN not in repr(plan)
    assert PASSWORD not in repr(plan)


def test_a_secret_is_no_tuple_and_a_service_s_environment_is_not_printed() -> None:
    with pytest.raises(TypeError):
        tuple(model_plan.Secret("s3cret"))  # type: ignore[arg-type]
    service = model_plan.Service("x", ("true",), 0, 0, (), "/", (("TOKEN", "s3cret"),))
    assert "s3cret" not in f"{service!r} {service} {[service]}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"index": "0", "error": "x", "code": 15}',
        '{"index": 0, "error": "x"}',
        '{"index": 0, "error": null, "code": 15}',
    ],
)
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        codec.from_json(machine_values.LostGpu, text)


def test_a_field_of_a_later_version_is_ignored() -> None:
    lost = machine_values.LostGpu(1, "lost", 15)
    later = {**json.loads(codec.to_json(lost)), "since": "tomorrow"}
    assert codec.from_json(machine_values.LostGpu, json.dumps(later)) == lost
