"""NamedTuple as typing has it, for a tenth of what it takes to define one.

typing's compiles each field's annotation and writes each class a constructor of its own: for the
values of a start that is a third of all instructions until its first line (bench/README.md).  Here
annotations stay the text that they are, and one constructor serves all.  mypy sees typing's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import _tuplegetter  # what collections.namedtuple itself reads a field with

    class _WithFields(type):
        """Make what is annotated in the body of a class the fields of a tuple."""

        def __new__(cls, name, bases, body):
            if fields := tuple(body.get("__annotations__", ())):
                body["_field_defaults"] = {name: body[name] for name in fields if name in body}
                body["_fields"] = body["__match_args__"] = fields
                for place, field in enumerate(fields):
                    body[field] = _tuplegetter(place, "")
            return super().__new__(cls, name, bases, {"__slots__": (), **body})

        @property
        def __signature__(cls):
            """What `help` shows, made when it is asked for."""
            from inspect import Parameter, Signature

            return Signature(
                [
                    Parameter(
                        field,
                        Parameter.POSITIONAL_OR_KEYWORD,
                        default=cls._field_defaults.get(field, Parameter.empty),
                        annotation=cls.__annotations__[field],
                    )
                    for field in cls._fields
                ]
            )

    class NamedTuple(tuple, metaclass=_WithFields):
        """A tuple whose places have names and, from some place on, values by default."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012 (as typing has it)

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values, named):
            """Return a value for each field.  Raises TypeError where that is not what was given."""
            given = dict(zip(cls._fields, values, strict=False))
            if twice := sorted(given.keys() & named.keys()):
                raise TypeError(f"{cls.__name__} got multiple values for {', '.join(twice)}")
            given = {**cls._field_defaults, **given, **named}
            unknown = sorted(given.keys() - set(cls._fields))
            missing = [field for field in cls._fields if field not in given]
            if unknown or missing or len(values) > len(cls._fields):
                said = f"unknown: {unknown}, missing: {missing}, {len(values)} by place"
                raise TypeError(f"{cls.__name__} takes {cls._fields}; {said}")
            return [given[field] for field in cls._fields]

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **changes):
            return type(self)(**{**self._asdict(), **changes})

        __replace__ = _replace

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)
