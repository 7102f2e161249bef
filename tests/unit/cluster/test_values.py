"""What a variable of a node's place may say, and which two hosts are one."""

from __future__ import annotations

import pytest

from launcher.cluster import values
from launcher.model.errors import BadSetting
from launcher.model.printable import printable

# What a variable may have that is neither a number, nor a host, nor a port, nor JSON.
HOSTILE = (
    "'; rm -rf /", '"', "a\nb", "x" * 65536, "\x1b[31mred", "\udcff", "１２", "٣",
    "-1", "1e3", "0x10", "9" * 20, "9" * 5000, "NaN", "1 2", "1,2", "[", "[::1", "$(id)", "{}",
    "[" * 5000, "\u202e1", "%s%n", "10.0.0.300", "true", "null",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_number_is_refused_with_its_name(text: str) -> None:
    for read in (values.whole, values.count, values.rank, values.platform_port):
        with pytest.raises(BadSetting) as stop:
            read("SOME_NAME", text)
        said = str(stop.value)
        assert said.startswith("SOME_NAME=")
        assert ": expected " in said
        assert len(said) < 400
        assert printable(said) == said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpu1", "gpu1"), (" gpu1\n", "gpu1"), ("a_b-c.d.svc", "a_b-c.d.svc"), ("7", "7"),
        ("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1"), ("[fd00::1]", "fd00::1"),
        ("123456789012", "123456789012"),
        *((bad, None) for bad in (
            "", "-x", "a b", "gpu1:29500", "[10.0.0.1]", "[gpu1]", "fe80::1%eth0", "gpu1/", "gpü",
            "10.0.0", "10.0.0.300", "a" * 254, "fd00:",
        )),
    ],
)  # fmt: skip
def test_hosts(text: str, found: str | None) -> None:
    assert values.host(text) == found


@pytest.mark.parametrize(
    ("text", "split"),
    [("h:1", ("h", "1")), ("h", ("h", None)), ("h:", ("h", "")), (":1", ("", "1")),
     ("[fd00::1]:29400", ("[fd00::1]", "29400")), ("[fd00::1]", ("[fd00::1]", None)),
     ("fd00::1", ("fd00:", "1"))],
)  # fmt: skip
def test_an_endpoint_is_split_as_torchrun_does(text: str, split: tuple[str, str | None]) -> None:
    assert values.split_endpoint(text) == split


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gpu1", "GPU1.", True), ("gpu1", "gpu1.cluster.local", True),
        ("10.0.0.1", "10.0.0.1", True), ("fd00::1", "fd00:0::1", True),
        ("gpu1", "gpu2", False), ("gpu1", "gpu10", False), ("10.0.0.1", "10.0.0.2", False),
        ("gpu1", "localhost", False), ("127.0.0.1", "10.0.0.1", False),
        ("gpu1", "gpu1-ib0", None), ("gpu1.a", "gpu1.b", None), ("gpu1", "10.0.0.1", None),
        ("10.0.0.1", "fd00::1", None), ("127.0.0.1", "127.0.1.1", None),
    ],
)  # fmt: skip
def test_which_two_are_one_host(one: str, other: str, same: bool | None) -> None:
    assert values.are_one_host(one, other) is same is values.are_one_host(other, one)


def test_a_list_is_counted() -> None:
    values.hosts("LIST", ["a", "b"], 2, "COUNT")
    with pytest.raises(BadSetting, match="LIST names 'a' twice"):
        values.hosts("LIST", ["a", "b", "a"])
    with pytest.raises(BadSetting, match="LIST names 2 hosts and COUNT=3"):
        values.hosts("LIST", ["a", "b"], 3, "COUNT")
    values.hosts("LIST", [])
