"""A company's certificate authorities: which variables name the bundle, and what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.box import ca_bundle
from launcher.model.errors import BadSetting
from launcher.model.machine import GpuReport
from launcher.plan.plan import make_plan
from launcher.plan.trust import VARIABLES
from testing.machines import STATE, machine, outset, settings

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def plan(environ: dict[str, str], **host: object):
    return make_plan(outset(machine(GpuReport(), **host), settings(environ)), STATE)


def test_without_any_nothing_is_set() -> None:
    assert not set(VARIABLES) & {var.name for var in plan({}).environment}


@pytest.mark.parametrize(
    ("environ", "host", "sources"),
    [
        ({}, {"ca_certificates": True}, ("/usr/local/share/ca-certificates",)),
        ({"LAUNCHER_CA_CERTS": "/ca"}, {}, ("/ca",)),
        ({"LAUNCHER_CA_CERTS": "/ca"}, {"ca_certificates": True},
         ("/usr/local/share/ca-certificates", "/ca")),
    ],
)  # fmt: skip
def test_every_program_is_told_but_where_the_user_has_said_another(
    environ: dict[str, str], host: dict[str, object], sources: tuple[str, ...]
) -> None:
    made = plan({**environ, "CURL_CA_BUNDLE": "/mine"}, **host)
    told = {var.name: var.value for var in made.environment if var.name in VARIABLES}
    assert set(told) == {*VARIABLES} - {"CURL_CA_BUNDLE"}
    assert set(told.values()) == {"/run/launcher/ca-bundle.pem"}
    assert made.user_environment()["CURL_CA_BUNDLE"] == "/mine"
    assert made.ca_sources == sources


def test_a_plain_machine_has_its_own_list() -> None:
    assert plan({"LAUNCHER_CA_CERTS": "/ca"}, image=False).ca_sources == ()


def test_the_bundle_has_the_system_s_and_all_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system"
    system.write_text("# the system's\n")
    monkeypatch.setattr(ca_bundle, "_SYSTEM", (str(tmp_path / "missing"), str(system)))
    folder = tmp_path / "ca"
    folder.mkdir()
    (folder / "a.crt").write_text(f"{PEM}\n\n")
    (folder / "b.PEM").write_text(PEM.replace("AAAA", "BBBB"))
    (folder / "README").write_text("no certificate")
    single = tmp_path / "one"
    single.write_text(PEM.replace("AAAA", "CCCC"))
    ca_bundle.write_ca_bundle((str(folder), str(single)), str(tmp_path))
    bundle = tmp_path / "ca-bundle.pem"
    text = bundle.read_text()
    assert text.startswith("# the system's\n-----BEGIN")
    assert [line for line in text.splitlines() if len(line) == 4] == ["AAAA", "BBBB", "CCCC"]
    assert bundle.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read it: No such file"), ("0\x82", "openssl x509 -inform der")],
)
def test_what_is_no_certificate_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "x.crt"
    if content:
        path.write_text(content)
    with pytest.raises(BadSetting, match=f"certificate authority {path}: .*{said}"):
        ca_bundle.write_ca_bundle((str(path),), str(tmp_path))
