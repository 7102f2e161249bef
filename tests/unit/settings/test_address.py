"""The address that is printed: what a platform tells, where it is one."""

from __future__ import annotations

import pytest
from hypothesis import given

from launcher.model.machine import GpuReport
from launcher.settings import accepts, load
from launcher.settings import address as settings_address
from launcher.text.banner import jupyter_url, render_banner
from testing.machines import PROBES, STARTED, TOKEN, Case, machine
from testing.strategies import values


@pytest.mark.parametrize(
    "text",
    ["203.0.113.7", "0.0.0.0", "2001:db8::7", "::1", "gpu-7.example.com", "my_box", "localhost"],
)
def test_addresses_and_names(text: str) -> None:
    assert accepts.public_host(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "256.1.1.1", "1.2.3", "01.2.3.4", "fe80::1%eth0", "12345::", "[::1]", "a b", "a/b"),
        *("user@host", "host:22", "-oProxyCommand=x", "a..b", "a.", "x" * 64, "a;id", "$(id)", "ü"),
        "1.2.3.4\nfoo",
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_neither(text: str) -> None:
    with pytest.raises(ValueError, match="an IPv4 or IPv6 address or a host name"):
        accepts.public_host(text)


@given(text=values)
def test_no_text_breaks_the_lines_that_people_copy(text: str) -> None:
    case = Case(machine(GpuReport()), {"PUBLIC_IPADDR": text, "VAST_TCP_PORT_22": text})
    plan = case.plan()
    assert plan.jupyter is not None
    assert plan.ssh is not None
    for line in (jupyter_url(plan.jupyter), plan.ssh.command):
        assert line.isprintable()
        assert not set(line) & set(";$`\"'\\()<>|")
    assert len(list(settings_address.doubts({"PUBLIC_IPADDR": text}))) <= 1


def test_a_doubtful_address_is_named_and_not_printed() -> None:
    env = {"RUNPOD_PUBLIC_IP": "$(reboot)", "RUNPOD_TCP_PORT_22": "14022"}
    (warning,) = settings_address.doubts(env)
    assert warning.startswith("RUNPOD_PUBLIC_IP='$(reboot)' is neither an IP address nor a host")
    assert load.load_settings({**env, "LAUNCHER_KEYS_DIR": "/nonexistent"}).warnings == (warning,)
    address = settings_address.published(env, 22)
    assert address is not None
    assert (address.host, address.port) == ("127.0.0.1", 14022)


def test_a_long_one_is_named_in_a_short_line() -> None:
    (warning,) = settings_address.doubts({"PUBLIC_IPADDR": "~" * 65536})
    assert len(warning) < 200


@pytest.mark.parametrize("text", ["false", "auto#vast-ai", "auto#runpod-io", "", " "])
def test_no_direct_address_is_no_doubt(text: str) -> None:
    assert list(settings_address.doubts({"DIRECT_ADDRESS": text})) == []
    assert settings_address.public_host({"DIRECT_ADDRESS": text}) == "127.0.0.1"


def test_the_users_own_address_is_printed() -> None:
    assert (
        settings_address.public_host({"DIRECT_ADDRESS": " gpu.example.com "}) == "gpu.example.com"
    )


@pytest.mark.parametrize("text", ["0", "70000", "99999999999", "tcp://10.0.0.1:22", "x"])
def test_what_is_no_port_is_not_printed(text: str) -> None:
    assert settings_address.published({"RUNPOD_TCP_PORT_22": text}, 22) is None


# --- RunPod's proxy --------------------------------------------------------------------------

POD = {"RUNPOD_POD_ID": "abc123xyz", "RUNPOD_PUBLIC_IP": "203.0.113.7"}


def urls(environ: dict[str, str]) -> tuple[str, str]:
    plan = Case(machine(GpuReport(), platform="runpod"), environ).plan()
    assert plan.jupyter is not None
    assert plan.ssh is not None
    return jupyter_url(plan.jupyter), plan.ssh.command


def test_jupyter_is_reached_through_the_platforms_proxy() -> None:
    jupyter, ssh = urls({**POD, "RUNPOD_TCP_PORT_22": "14022"})
    assert jupyter == f"https://abc123xyz-8888.proxy.runpod.net/lab?token={TOKEN}"
    assert ssh == "ssh -p 14022 dev@203.0.113.7"


def test_the_proxy_is_for_http_alone() -> None:
    assert urls(POD)[1] == "ssh -p 2222 dev@203.0.113.7"


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"RUNPOD_TCP_PORT_8888": "14088"}, "http://203.0.113.7:14088/"),
        ({"JUPYTER_PORT_HOST": "80"}, "http://203.0.113.7:80/"),
        ({"RUNPOD_POD_ID": "evil.example/"}, "http://203.0.113.7:8888/"),
    ],
)
def test_what_is_known_better_goes_before_the_proxy(more: dict[str, str], place: str) -> None:
    assert urls({**POD, **more})[0].startswith(place)


def test_the_banner_says_that_it_is_the_proxy() -> None:
    case = Case(machine(GpuReport(), platform="runpod"), POD)
    text = render_banner(case.machine, case.plan(), PROBES, STARTED + 1, {})
    assert " Jupyter   container port 8888, through the platform's proxy\n" in text


def test_a_long_url_stays_whole() -> None:
    """A line break in it would have to be taken out by hand."""
    environ = {"JUPYTER_TOKEN": "ü/" * 200, "PUBLIC_IPADDR": f"{'a' * 60}.example.com"}
    case = Case(machine(GpuReport()), environ)
    plan = case.plan()
    assert plan.jupyter is not None
    url = jupyter_url(plan.jupyter)
    assert len(url) > 1000
    assert f"\n   {url}\n" in render_banner(case.machine, plan, PROBES, STARTED + 1, {})


@pytest.mark.parametrize(
    ("port", "reached"), [(8888, ("10.0.0.7", 24512)), (22, ("10.0.0.7", 20022)), (6006, None)]
)
def test_nomad_tells_each_port_by_its_label(port: int, reached: tuple[str, int] | None) -> None:
    env = {
        "NOMAD_IP_web": "10.0.0.7", "NOMAD_PORT_web": "8888", "NOMAD_HOST_PORT_web": "24512",
        "NOMAD_IP_s": "10.0.0.7", "NOMAD_PORT_s": "22", "NOMAD_HOST_PORT_s": "20022",
        "NOMAD_HOST_PORT_x": "none", "NOMAD_PORT_x": "6006",
    }  # fmt: skip
    found = settings_address.published(env, port)
    assert (found and (found.host, found.port)) == reached
