"""The banner: golden texts on eight machines, and 80 columns on any machine whatever."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.host import Account, Host
from launcher.model.machine import (
    CpuBudget,
    Gpu,
    GpuReport,
    Hardware,
    Limits,
    LostGpu,
    Machine,
    MigDevice,
)
from launcher.model.plan import Address, EnvVar, Finding, Identity, KeyLine, Secret
from launcher.model.watch import Probe
from launcher.text.banner import jupyter_url, limits_text, render_banner
from testing.machines import CASES, GIB, HOST_KEY, PASSWORD, PROBES, STARTED, Case, pci_cards
from testing.strategies import built, values
from testing.values import replace

WIDTH = 80
H100 = CASES["h100-8x"]


def banner_of(case: Case, **plan: object) -> str:
    made = replace(case.plan(), **plan)  # type: ignore[arg-type]
    return render_banner(case.machine, made, PROBES, STARTED + 1.2, {})


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"banner-{name}.txt", banner_of(CASES[name]) + "\n")


def test_golden_of_a_box_that_is_not_ready(golden: Callable[[str, str], None]) -> None:
    probes = (Probe("jupyter", False, "no answer on port 8888: Connection refused"), PROBES[1])
    tails = {"jupyter": ["Traceback (most recent call last):", "ImportError: " + "x" * 200]}
    text = render_banner(H100.machine, H100.plan(), probes, STARTED + 60, tails)
    golden("banner-not-ready.txt", text + "\n")


# --- on any machine --------------------------------------------------------------------------

letters = st.characters(categories=["L", "N", "P", "S", "Zs"])
words = st.text(letters, max_size=20) | st.text(letters, min_size=70, max_size=90)
word = st.from_regex(r"[a-z_][a-z0-9_-]{0,30}", fullmatch=True)
hosts = st.ip_addresses().map(str)
ports = st.integers(1, 65535)
sizes = st.none() | st.integers(0, 1 << 50)

gpus = built(
    Gpu,
    index=st.integers(0, 63),
    uuid=st.uuids().map(lambda uuid: f"GPU-{uuid}"),
    name=words,
    pci_bus_id=st.just("00000000:FF:1F.7"),
    memory_bytes=st.none() | st.integers(0, 1 << 43),  # 8 TiB
    compute_capability=st.none() | st.tuples(st.integers(1, 20), st.integers(0, 9)),
    mig_enabled=st.none() | st.booleans(),
    mig_devices=st.lists(
        st.uuids().map(lambda uuid: MigDevice(f"MIG-{uuid}", "MIG", None, None, None)), max_size=7
    ).map(tuple),
)
lost = built(LostGpu, index=st.integers(0, 63), error=words, code=st.integers(1, 999))
machines = built(
    Machine,
    report=built(
        GpuReport,
        gpus=st.lists(gpus, max_size=16).map(tuple),
        lost=st.lists(lost, max_size=16).map(tuple),
        driver_version=st.none() | st.just("550.127.05"),
        cuda_version=st.none() | st.just((12, 4)),
    ),
    hardware=built(Hardware, pci=st.just(pci_cards("2330", 8))),
    limits=built(
        Limits,
        cpus=built(
            CpuBudget,
            st.integers(1, 1024),
            st.integers(1, 1024),
            st.none() | st.floats(0.01, 1024),
        ),
        memory=sizes,
        shm=sizes,
        pids=st.none() | st.integers(1, 1 << 22),
        memlock=sizes,
    ),
    host=built(
        Host,
        platform=st.sampled_from(["docker", "kubernetes", "plain"]),
        image=st.booleans(),
        hostname=word,
        me=st.just(Account("root", 0, 0, "/root", "/bin/bash")),
        account=st.none(),
        workspace_missing=st.booleans(),
        workspace_writable=st.booleans(),
        sshd=st.none(),
    ),
)
addresses = built(Address, hosts, ports, ports, st.booleans())
accounts = built(
    Account, word, st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.just("/h"), st.just("/s")
)
keys = built(KeyLine, words, st.integers(1, 9999), words, st.none() | words)
findings = built(Finding, word, words, words, words)
variables = built(EnvVar, st.sampled_from(["CUDA_VISIBLE_DEVICES", "PATH"]), words, words)
to_copy = re.compile(r"^ +(http://|ssh -p )")


@given(data=st.data(), machine=machines, color=st.booleans())
def test_no_line_is_wider_than_80_columns(data, machine: Machine, color: bool) -> None:
    made = H100.plan()
    plan = replace(
        made,
        identity=data.draw(built(Identity, accounts, words)),
        environment=tuple(data.draw(st.lists(variables, max_size=3))),
        notes=tuple(data.draw(st.lists(findings, max_size=4))),
        jupyter=replace(made.jupyter, address=data.draw(addresses)),
        ssh=replace(
            made.ssh,
            address=data.draw(addresses),
            user=data.draw(word),
            keys=tuple(data.draw(st.lists(keys, max_size=3))),
            password=data.draw(st.none() | st.just(Secret(PASSWORD))),
            password_why=data.draw(words),
        ),
        ssh_off=data.draw(st.none() | words),
        color=color,
    )
    probes = [
        replace(probe, ready=data.draw(st.booleans()), detail=data.draw(words)) for probe in PROBES
    ]
    tails = {"jupyter": data.draw(st.lists(words, max_size=3))}
    banner = render_banner(machine, plan, probes, STARTED + 1.2, tails)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", banner)
    # Two lines are there to be copied whole: a long host or user makes them longer.
    wide = [line for line in plain.split("\n") if len(line) > WIDTH and not to_copy.match(line)]
    assert not wide
    assert ("\x1b" in banner) == color


@pytest.mark.parametrize("name", CASES)
def test_lines_to_copy_fit_too_where_nothing_of_the_users_is_long(name: str) -> None:
    case = CASES[name]
    wide = [line for line in banner_of(case).splitlines() if len(line) > WIDTH]
    assert not wide or "JUPYTER_TOKEN" in case.environ or "RUNPOD_PUBLIC_IP" in case.environ


@pytest.mark.parametrize("name", CASES)
def test_colour_changes_nothing_but_colour(name: str) -> None:
    coloured = banner_of(CASES[name], color=True)
    assert coloured != banner_of(CASES[name])
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == banner_of(CASES[name])


# --- the lines to copy -----------------------------------------------------------------------


@given(token=values.filter(bool))
def test_any_token_survives_the_url(token: str) -> None:
    token = token.encode(errors="replace").decode()  # what accepts.token lets through is text
    url = urlsplit(jupyter_url(replace(H100.plan().jupyter, token=Secret(token))))
    assert parse_qs(url.query, keep_blank_values=True)["token"] == [token]
    assert (url.scheme, url.netloc, url.path) == ("http", "127.0.0.1:8888", "/lab")


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("box.example", "box.example")],
)
def test_the_urls_host(host: str, shown: str) -> None:
    jupyter = replace(
        H100.plan().jupyter, address=Address(host, 80, 8888, True), base_url="/user/me/"
    )
    assert jupyter_url(jupyter).startswith(f"http://{shown}:80/user/me/lab?token=")


@given(path=st.text(st.characters(exclude_characters="\0\n", codec="utf-8"), min_size=1))
def test_the_ssh_line_can_be_pasted_into_a_shell(path: str) -> None:
    ssh = replace(H100.plan().ssh, login_key_file=path)
    assert shlex.split(ssh.command) == ["ssh", "-p", "2222", "-i", path, "dev@127.0.0.1"]


# --- what it says ----------------------------------------------------------------------------


def test_nobody_can_log_in_is_said_with_the_reason_and_the_remedy() -> None:
    ssh = replace(H100.plan().ssh, password=None, password_why="LAUNCHER_SSH_PASSWORD=off", keys=())
    text = " ".join(banner_of(H100, ssh=ssh).split())
    assert "nobody can log in" in text
    assert "LAUNCHER_SSH_PASSWORD=off" in text
    assert "-e PUBLIC_KEY=" in text


@pytest.mark.parametrize(("count", "words"), [(1, "1 public key may"), (3, "3 public keys may")])
def test_keys_are_counted_without_the_bad_ones(count: int, words: str) -> None:
    good = tuple(KeyLine("PUBLIC_KEY", number, HOST_KEY) for number in range(count))
    bad = KeyLine("PUBLIC_KEY", 9, "x", "not a public key")
    ssh = replace(H100.plan().ssh, password=None, keys=(*good, bad))
    assert words in banner_of(H100, ssh=ssh)


def test_a_box_without_ssh_says_why() -> None:
    text = banner_of(H100, ssh=None, ssh_off="OpenSSH's server is not installed")
    assert "off: OpenSSH's server is not installed" in text
    assert "ssh -p" not in text


def test_on_kubernetes_it_says_how_to_get_there() -> None:
    host = replace(H100.machine.host, platform="kubernetes", hostname="box-0")
    text = banner_of(Case(replace(H100.machine, host=host)))
    assert "kubectl port-forward pod/box-0 8888:8888 2222:22" in text


def test_how_long_it_took() -> None:
    assert "Ready" in banner_of(H100).splitlines()[1]
    assert banner_of(H100).splitlines()[1].endswith("after 1.2 s")


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(CpuBudget(8, 8, None), None, None, None, None), "8 CPUs"),
        (Limits(CpuBudget(1, 1, None), None, None, None, None), "1 CPU"),
        (Limits(CpuBudget(8, 8, 1.0), None, None, None, None), "1 of 8 CPUs"),
        (Limits(CpuBudget(128, 64, None), None, None, None, None), "64 of 128 CPUs"),
        (Limits(CpuBudget(8, 8, 1.5), GIB, None, None, None), "1.5 of 8 CPUs, 1.0 GiB memory"),
        (Limits(CpuBudget(2, 2, None), None, 64 << 20, None, None), "2 CPUs, 64 MiB /dev/shm"),
        (Limits(CpuBudget(2, 2, None), None, 8 * GIB, 512, None),
         "2 CPUs, 8.0 GiB /dev/shm, 512 processes"),
        (Limits(CpuBudget(2, 2, None), None, 0, None, None), "2 CPUs, 0 MiB /dev/shm"),
    ],
)  # fmt: skip
def test_limits_in_words(limits: Limits, text: str) -> None:
    assert limits_text(limits) == text


def test_every_planned_cuda_variable_is_shown_with_its_reason() -> None:
    for case in CASES.values():
        text = " ".join(banner_of(case).split())
        for var in case.plan().environment:
            if var.name.startswith("CUDA_"):
                assert var.why in text


def test_every_note_is_shown_with_its_remedy() -> None:
    for case in CASES.values():
        text = " ".join(banner_of(case).split())
        for note in case.plan().notes:
            assert f"! {note.what}: {note.means}" in text
            assert f"fix: {' '.join(note.fix.split())}" in text
