"""Inputs as users make them, for hypothesis."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st

# What the kernel passes as an environment: any bytes but NUL, of which Python makes surrogates
# where they are not UTF-8.
raw_text = st.binary(max_size=200).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))

# As above, and characters that mean something to a shell, to sshd or to a terminal.
special_text = st.text(st.sampled_from("ab \t\n\r\f\v\"'\\$`#%;=*~!&|<>(){}[]\x01\x1b\x7fü×\udcff"))

values = st.one_of(raw_text, special_text)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


def built(kind: Any, *arguments: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> Any:
    """Build named tuples; what is not given is the default, which hypothesis would make up."""
    given = {**dict(zip(kind._fields, arguments, strict=False)), **named}
    defaults = {name: st.just(value) for name, value in kind._field_defaults.items()}
    return st.builds(kind, **{**defaults, **given})
