"""What each kind of setting accepts, and that anything else is refused in its own words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.plan import GpuRequest, Secret
from launcher.settings import accepts
from launcher.settings.table import TABLE


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (accepts.port, "1", 1),
        (accepts.port, "65535", 65535),
        (accepts.port, "08888", 8888),
        (accepts.port, "8888/tcp", 8888),
        (accepts.flag, "enable", True),
        (accepts.flag, "disabled", False),
        (accepts.password_policy, "auto", "auto"),
        (accepts.password_policy, "true", "auto"),
        (accepts.password_policy, "off", "off"),
        (accepts.password_policy, "false", "off"),
        (accepts.seconds, "0.5", 0.5),
        (accepts.seconds, "86400", 86400.0),
        (accepts.flag, "1", True),
        (accepts.flag, "Yes", True),
        (accepts.flag, "OFF", False),
        (accepts.gpu_count, "0", 0),
        (accepts.gpu_count, "8", 8),
        (accepts.gpu_count, "true", 1),
        (accepts.gpu_count, "no", 0),
        (accepts.gpu_request, "all", GpuRequest()),
        (accepts.gpu_request, "1", GpuRequest(count=1)),
        (accepts.gpu_request, "16", GpuRequest(count=16)),
        (accepts.gpu_request, "idle", GpuRequest(idle=True)),
        (accepts.gpu_request, "idle:2", GpuRequest(idle=True, count=2)),
        (accepts.gpu_request, "none", GpuRequest(none=True)),
        (accepts.gpu_request, "index:0", GpuRequest(("0",))),
        (accepts.gpu_request, "index:12", GpuRequest(("12",))),
        (accepts.gpu_request, "0,", GpuRequest(("0",))),
        (accepts.gpu_request, "index:3,GPU-8f2a", GpuRequest(("3", "GPU-8f2a"))),
        (accepts.gpu_request, "1,0", GpuRequest(("1", "0"))),
        (accepts.gpu_request, "0, GPU-8f2a", GpuRequest(("0", "GPU-8f2a"))),
        (accepts.gpu_request, "GPU-8f2A-01", GpuRequest(("GPU-8f2A-01",))),
        (accepts.gpu_request, "MIG-fb42055e", GpuRequest(("MIG-fb42055e",))),
        (accepts.gpu_request, "18:00.0", GpuRequest(("18:00.0",))),
        (accepts.gpu_request, "0000:18:00.0,1", GpuRequest(("0000:18:00.0", "1"))),
        (accepts.size, "20GiB", 20 << 30),
        (accepts.size, "20g", 20 << 30),
        (accepts.size, "1.5 TB", 3 << 39),
        (accepts.size, "0", 0),
        (accepts.size, "512B", 512),
        (accepts.size, "21474836480", 20 << 30),
        (accepts.absolute, "/data//sets/", "/data/sets"),
        (accepts.absolute, "/a b/ü", "/a b/ü"),
        (accepts.socket_dir, "/run/box/", "/run/box"),
        (accepts.user, "jovyan", "jovyan"),
        (accepts.user, "_a.b-c", "_a.b-c"),
        (accepts.host, "0.0.0.0", "0.0.0.0"),
        (accepts.host, "::", "::"),
        (accepts.host, "fe80::1", "fe80::1"),
        (accepts.token, "a'b\"c$d%e", Secret("a'b\"c$d%e")),
        (accepts.choice("auto", "off"), "off", "off"),
        (accepts.text, "any thing", "any thing"),
    ],
)
def test_accepted(parse, text, value) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (accepts.port, "0"),
        (accepts.port, "65536"),
        (accepts.port, "-1"),
        (accepts.port, "8888/udp"),
        (accepts.port, "/tcp"),
        (accepts.port, "9" * 5000),  # int() would complain in its own words
        (accepts.seconds, "0"),
        (accepts.seconds, "-1"),
        (accepts.seconds, "nan"),
        (accepts.seconds, "inf"),
        (accepts.seconds, "86401"),
        (accepts.seconds, "30s"),
        (accepts.flag, "maybe"),
        (accepts.flag, "2"),
        (accepts.gpu_count, "65"),
        (accepts.gpu_count, "-1"),
        (accepts.gpu_count, "9" * 5000),
        (accepts.gpu_count, "all"),
        (accepts.gpu_request, "banana"),
        (accepts.gpu_request, "0"),  # GPU 0, or no GPU?
        (accepts.gpu_request, "idle:0"),
        (accepts.gpu_request, "idle:x"),
        (accepts.gpu_request, "9" * 5000),
        (accepts.size, "20 apples"),
        (accepts.size, "20"),  # bytes?
        (accepts.size, "20000"),
        (accepts.size, "-1G"),
        (accepts.size, "GiB"),
        (accepts.gpu_request, ","),
        (accepts.gpu_request, "0,,"),
        (accepts.gpu_request, "index:"),
        (accepts.gpu_request, "index:100"),
        (accepts.gpu_request, "index:GPU-8f2a"),
        (accepts.gpu_request, "0,,1"),
        (accepts.gpu_request, "0,GPU-xyz"),
        (accepts.gpu_request, "0," + "9" * 5000),
        (accepts.gpu_request, "-1"),
        (accepts.absolute, "data"),
        (accepts.absolute, "/a\nb"),
        (accepts.socket_dir, "run"),
        (accepts.socket_dir, "/run\n"),
        (accepts.socket_dir, "/" + "x" * 80),
        (accepts.socket_dir, "/" + "×" * 40),  # bytes count, not characters
        (accepts.user, "a b"),
        (accepts.user, "1000"),
        (accepts.user, "root:x"),
        (accepts.user, "a" * 33),
        (accepts.host, "localhost"),
        (accepts.host, "1.2.3.4.5"),
        (accepts.host, "dead"),
        (accepts.host, "256.0.0.1"),
        (accepts.variable_names, ","),
        (accepts.variable_names, "A=b"),
        (accepts.variable_names, "$(A)"),
        (accepts.token, "two\nlines"),
        (accepts.token, "bell\a"),
        (accepts.token, "not text \udcff"),
        (accepts.token, "x" * 4097),
        (accepts.choice("auto", "off"), "on"),
    ],
)
def test_refused_with_what_is_accepted(parse, text) -> None:
    words = refusal(parse, "\n")
    assert words
    assert refusal(parse, text) == words


@given(text=st.text(), row=st.sampled_from(TABLE))
def test_any_text_is_a_value_or_refused_in_the_settings_own_words(text, row) -> None:
    assert refusal(row.parse, text) in (None, refusal(row.parse, "\n"))


def refusal(parse: Callable[[str], object], text: str) -> str | None:
    """Return the words in which `parse` refuses a text: one sentence for each kind of setting."""
    try:
        parse(text)
    except ValueError as refused:
        return str(refused).partition("; did you mean ")[0]
    return None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0", "index:0 (GPU 0 alone) or none (no GPU)"),
        ("-1", "none (no GPU)"),
        ("CPU", "none (no GPU)"),
        ("void", "none (no GPU)"),
        ("idle:0", "none (no GPU)"),
        ("None", "none"),
        ("ALL", "all"),
        ("#1", "index:1 (GPU 1 alone)"),
        ("gpu0", "index:0 (GPU 0 alone)"),
        ("GPU 3", "index:3 (GPU 3 alone)"),
        ("cuda:1", "index:1 (GPU 1 alone)"),
        ("device=2", "index:2 (GPU 2 alone)"),
        ("/dev/nvidia4", "index:4 (GPU 4 alone)"),
        ("0-3", "0,1,2,3"),
        ("index:0-3", "0,1,2,3"),
        ('"device=0,1"', "0,1"),
        ("0 1", "0,1"),
        ("0;1", "0,1"),
        ("0,,1", "0,1"),
        (",0", "index:0 (GPU 0 alone)"),
        ("gpu-8F2A", "GPU-8f2a"),
        ("best:2", "2 (so many GPUs, the best)"),
        ("2 GPUs", "2 (so many GPUs, the best)"),
    ],
)
def test_a_form_that_was_probably_meant_is_said_and_is_accepted(text: str, form: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as refused:
        accepts.gpu_request(text)
    assert str(refused.value).endswith(f"; did you mean {form}?")
    for one in form.split(" or "):
        accepts.gpu_request(one.partition(" (")[0])


@pytest.mark.parametrize(
    "text", ["banana", "9" * 5000, "\n", "3-0", "0-99", "0,GPU-xyz", "٣", "x" * 64000]
)
def test_where_no_form_is_near_none_is_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="a number of GPUs") as refused:
        accepts.gpu_request(text)
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize(("text", "form"), [("20", "20GiB"), ("20000", "20000MiB")])
def test_a_size_without_a_unit_is_asked_back(text: str, form: str) -> None:
    with pytest.raises(ValueError, match=rf"did you mean {form}\?$"):
        accepts.size(text)
