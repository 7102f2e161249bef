"""Our NamedTuple beside typing's: whoever uses one cannot tell which it is."""

from __future__ import annotations

import copy
import inspect
import pickle
import typing
from typing import Any

import pytest

from launcher.model.named_tuple import NamedTuple


class Ours(NamedTuple):
    """A value."""

    name: str
    size: int = 3
    count: int = 0  # type: ignore[assignment]

    def area(self) -> int:
        return self.size * self.count

    @property
    def title(self) -> str:
        return self.name.title()


class Theirs(typing.NamedTuple):
    """A value."""

    name: str
    size: int = 3
    count: int = 0  # type: ignore[assignment]

    def area(self) -> int:
        return self.size * self.count

    @property
    def title(self) -> str:
        return self.name.title()


class Hidden(Ours):
    def __repr__(self) -> str:
        return "Hidden"


def both(use: typing.Callable[[Any], object]) -> tuple[object, object]:
    return use(Ours), use(Theirs)


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: tuple(kind("a")),
        lambda kind: tuple(kind("a", 4, 5)),
        lambda kind: tuple(kind(count=2, name="a")),
        lambda kind: (kind("a", 4, 5).size, kind("a", 4, 5).count, kind("ab").title),
        lambda kind: kind("a", 4, 5).area(),
        lambda kind: tuple(kind("a")._replace(size=7)),
        lambda kind: kind("a")._asdict(),
        lambda kind: tuple(kind._make(["a", 1, 2])),
        lambda kind: repr(kind("a")).partition("(")[2],
        lambda kind: (kind("a") == ("a", 3, 0), hash(kind("a")) == hash(("a", 3, 0))),
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__, kind.__doc__),
        lambda kind: [
            (one.name, one.kind, one.default) for one in inspect.signature(kind).parameters.values()
        ],
        lambda kind: typing.get_type_hints(kind),
        lambda kind: tuple(pickle.loads(pickle.dumps(kind("a")))),
        lambda kind: tuple(copy.deepcopy(kind("a"))),
        lambda kind: hasattr(kind("a"), "__dict__"),
    ],
)
def test_it_does_what_typing_s_does(use: typing.Callable[[Any], object]) -> None:
    ours, theirs = both(use)
    assert ours == theirs


def test_it_is_taken_apart_by_place_and_by_name() -> None:
    match Ours("a", 4):
        case Ours(name, size=size):
            assert (name, size) == ("a", 4)


def test_what_is_derived_keeps_the_fields() -> None:
    derived = Hidden("a", 4)
    assert (repr(derived), derived.size, repr(Ours("a"))) == (
        "Hidden", 4, "Ours(name='a', size=3, count=0)",
    )  # fmt: skip


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: kind(),
        lambda kind: kind("a", 1, 2, 3),
        lambda kind: kind("a", other=1),
        lambda kind: kind("a", name="b"),
        lambda kind: kind._make([]),
    ],
)
@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_what_does_not_fit_is_a_type_error(kind: Any, use: typing.Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        use(kind)


def test_a_change_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="other"):
        Ours("a")._replace(other=1)  # type: ignore[call-arg]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Ours("a").name = "b"  # type: ignore[misc]
