"""Jupyter as it is planned and configured: its own, below a path, over https, under a hub, off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.model.errors import BadSetting
from launcher.model.machine import GpuReport
from launcher.model.plan import Certificate, Hub, Plan, Secret
from launcher.plan.plan import make_plan
from launcher.render.files import render
from launcher.settings import accepts
from launcher.text.banner import jupyter_url, render_banner
from testing.machines import PROBES, STARTED, STATE, TOKEN, machine, outset, settings
from testing.values import replace

CERTIFICATE = Certificate("the chain\n", Secret("the key\n"), self_signed=True)
HUB = {
    "JUPYTERHUB_API_TOKEN": "hubs-own-token",
    "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8765/user/ann%40lab/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/ann%40lab/",
    "JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/ann%40lab/",
}


def plan(environ: dict[str, str] | None = None, certificate: Certificate | None = None) -> Plan:
    state = replace(STATE, certificate=certificate)
    return make_plan(outset(machine(GpuReport()), settings(environ)), state)


def written(made: Plan) -> dict[str, str]:
    """Return the text of every file by its path below the run directory."""
    return {file.path.removeprefix("/run/launcher/"): file.content or "" for file in render(made)}


def configuration(made: Plan) -> dict[str, Any]:
    return json.loads(written(made)["jupyter.json"])


def banner(made: Plan) -> str:
    return render_banner(machine(GpuReport()), made, PROBES, STARTED + 1, {})


# --- the path --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/lab", "/lab/"),
        ("lab/", "/lab/"),
        ("/", "/"),
        ("/user/a%40b/", "/user/a%40b/"),
        ("/notebook/ns/my-nb_1.2~", "/notebook/ns/my-nb_1.2~/"),
    ],
)
@pytest.mark.parametrize("name", ["LAUNCHER_JUPYTER_BASE_URL", "NB_PREFIX", "NOTEBOOK_BASE_URL"])
def test_the_path_is_jupyters_and_the_printed_urls(name: str, text: str, path: str) -> None:
    made = plan({name: text})
    assert configuration(made)["final"]["ServerApp"]["base_url"] == path
    assert jupyter_url(made.jupyter) == f"http://127.0.0.1:8888{path}lab?token={TOKEN}"


@pytest.mark.parametrize("text", ["/a b", "/ü", "/a?b", "/a#b", "/a\nb", 'x"y', "http://h/p?q"])
def test_a_path_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the path of a URL"):
        accepts.base_url(text)


# --- more arguments --------------------------------------------------------------------------


def test_arguments_are_split_as_a_shell_does_and_stay_in_the_file_of_the_user() -> None:
    words = "--ServerApp.preferred_dir='/a b' --debug \"--x=it's\""
    made = plan({"NOTEBOOK_ARGS": words})
    expected = ["--ServerApp.preferred_dir=/a b", "--debug", "--x=it's"]
    assert configuration(made)["arguments"] == expected
    holders = {file.path for file in render(made) if "--debug" in (file.content or "")}
    assert holders == {"/run/launcher/jupyter.json", "/run/launcher/plan.json"}


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("--port", "JUPYTER_PORT"),
        ("--debug --port --x=1", "JUPYTER_PORT"),
        ("--sock=/x", "JUPYTER_PORT"),
        ("'not closed", "options of Jupyter, as in a shell"),
    ],
)
def test_arguments_that_nothing_can_be_made_of_are_refused(words, instead) -> None:
    with pytest.raises(BadSetting, match=instead) as bad:
        plan({"NOTEBOOK_ARGS": words})
    assert bad.value.exit_code == 78
    assert str(bad.value).startswith(("NOTEBOOK_ARGS --", "NOTEBOOK_ARGS=***"))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--port=1", "port", 1),
        ("--debug --port 1", "port", 1),
        ("--NotebookApp.base_url=/x", "base_url", "/x/"),
        ("--ip=127.0.0.1", "ip", "127.0.0.1"),
        ("--ServerApp.ip=0.0.0.0", "ip", ""),
        ("--ip ::", "ip", ""),
    ],
)
def test_arguments_that_are_settings_are_taken_as_those(words, name, value) -> None:
    made = configuration(plan({"NOTEBOOK_ARGS": words}))
    assert made["final"]["ServerApp"][name] == value
    assert made["arguments"] == [word for word in words.split() if word == "--debug"]


# --- https -----------------------------------------------------------------------------------


def test_with_a_certificate_it_is_https() -> None:
    made = plan({"GEN_CERT": "yes"}, CERTIFICATE)
    assert jupyter_url(made.jupyter).startswith("https://127.0.0.1:8888/lab?")
    server = configuration(made)["final"]["ServerApp"]
    assert server["certfile"] == "/run/launcher/jupyter.pem"
    assert written(made)["jupyter.pem"] == "the key\nthe chain\n"
    assert "self-signed" in banner(made)


def test_without_one_it_is_http() -> None:
    made = plan()
    server = configuration(made)["final"]["ServerApp"]  # a kept home's own are not taken either
    assert [server[name] for name in ("certfile", "keyfile", "sock")] == ["", "", ""]
    assert "jupyter.pem" not in written(made)
    assert "self-signed" not in banner(made)


def test_the_private_key_is_nobody_elses() -> None:
    made = plan({}, CERTIFICATE)
    holders = [file for file in render(made) if "the key" in (file.content or "")]
    assert {file.path.rpartition("/")[2] for file in holders} == {"plan.json", "jupyter.pem"}
    assert {file.mode for file in holders} == {0o600}


# --- idle kernels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("off", 0), ("0", 0), ("false", 0), ("90m", 5400), ("12h", 43200), ("2d", 172800),
     ("3600", 3600), ("true", 172800), ("45S", 45)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["LAUNCHER_JUPYTER_CULL_IDLE", "SHUTDOWN_INACTIVE_KERNELS"])
def test_idle_kernels_end_where_that_is_asked_for(name: str, text: str, seconds: int) -> None:
    culling = configuration(plan({name: text}))["default"]["MappingKernelManager"]
    assert culling.get("cull_idle_timeout", 0) == seconds
    assert bool(culling) is bool(seconds)
    assert culling.get("cull_interval", 1) <= max(1, seconds)


@pytest.mark.parametrize("text", ["soon", "-1", "1.5h", "1w", "12345678"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time such as"):
        accepts.idle_time(text)


def test_by_default_no_kernel_is_ended() -> None:
    assert configuration(plan())["default"]["MappingKernelManager"] == {}


# --- none ------------------------------------------------------------------------------------


def test_without_jupyter_the_plan_and_the_banner_say_why() -> None:
    made = plan({"JUPYTER_DISABLE": "1"})
    assert made.jupyter is None
    assert made.ssh
    assert "\n Jupyter   off: JUPYTER_DISABLE is set\n" in banner(made)
    assert not [name for name in written(made) if "jupyter" in name]


def test_without_jupyter_its_port_is_free_for_ssh() -> None:
    made = plan({"JUPYTER_DISABLE": "yes", "SSH_PORT": "8888"})
    assert made.ssh.port == 8888


# --- under a hub -----------------------------------------------------------------------------


def test_under_a_hub_the_place_is_the_hubs() -> None:
    made = plan({**HUB, "JUPYTER_PORT": "9999", "NB_PREFIX": "/mine", "GEN_CERT": "1"}, CERTIFICATE)
    jupyter = made.jupyter
    assert (jupyter.listen, jupyter.port, jupyter.base_url) == (
        "0.0.0.0", 8765, "/user/ann%40lab/",
    )  # fmt: skip
    assert jupyter.hub == Hub("https://hub.example/user/ann%40lab/", mutual_tls=False)
    assert jupyter.certificate is None
    assert made.ssh


def test_under_a_hub_nothing_of_the_place_or_the_token_is_ours() -> None:
    made = plan(HUB)
    final = configuration(made)["final"]
    assert configuration(made)["hub"] is True
    assert not {"ip", "port", "base_url", "certfile"} & final["ServerApp"].keys()
    assert "IdentityProvider" not in final
    assert "opened through JupyterHub at https://hub.example" in " ".join(banner(made).split())
    assert TOKEN not in banner(made)
    assert "hubs-own-token" not in banner(made)
    assert dict(made.inherited)["JUPYTERHUB_API_TOKEN"] == "hubs-own-token"  # Jupyter needs it


@pytest.mark.parametrize("missing", ["JUPYTERHUB_API_TOKEN", "JUPYTERHUB_SERVICE_URL"])
def test_half_a_hub_is_none(missing: str) -> None:
    made = plan({name: value for name, value in HUB.items() if name != missing})
    assert made.jupyter.hub is None
    assert made.jupyter.port == 8888
    assert made.jupyter.base_url == "/user/ann%40lab/"


@pytest.mark.parametrize(
    ("url", "port", "mutual_tls"),
    [
        ("http://127.0.0.1:8888/", 8888, False),
        ("http://[::]:8888/user/x/", 8888, False),
        ("http:///user/x/", 80, False),
        ("https://0.0.0.0/user/x/", 443, True),
        ("https://0.0.0.0:9443/user/x/", 9443, True),
    ],
)
def test_where_the_hub_looks(url: str, port: int, mutual_tls: bool) -> None:
    jupyter = plan({**HUB, "JUPYTERHUB_SERVICE_URL": url}).jupyter
    assert (jupyter.port, jupyter.hub.mutual_tls) == (port, mutual_tls)


@pytest.mark.parametrize("url", ["8888", "ftp://x:1/", "http://x:banana/", "http://x:99999/"])
def test_a_hubs_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(BadSetting, match="JUPYTERHUB_SERVICE_URL"):
        plan({**HUB, "JUPYTERHUB_SERVICE_URL": url})


def test_a_hubs_port_that_ssh_wants_is_named() -> None:
    with pytest.raises(BadSetting, match="JUPYTERHUB_SERVICE_URL and SSH_PORT are both 8765"):
        plan({**HUB, "SSH_PORT": "8765"})


# --- other programs of the user's ------------------------------------------------------------


def test_programs_have_cards_and_braces_of_a_folder_are_no_places_to_fill() -> None:
    made = plan({"LAUNCHER_PORTS": "7860=Gradio"})
    made = replace(made, paths=replace(made.paths, guest="/a {b}", python="/{x}/python"))
    servers = configuration(made)["default"]["ServerProxy"]["servers"]
    assert servers["proxy-7860"]["launcher_entry"]["path_info"] == "proxy/7860/"
    command = servers["tensorboard"]["command"]
    assert [word.format(port=1) for word in command] == [
        "/{x}/python", "/a {b}/launcher_tensorboard.py", "1",
    ]  # fmt: skip


def test_a_tensorboard_of_the_users_own_takes_the_place_of_ours() -> None:
    servers = configuration(plan({"LAUNCHER_PORTS": "6006=TensorBoard"}))["default"]["ServerProxy"]
    assert list(servers["servers"]) == ["about-this-box", "proxy-6006"]


def test_the_page_has_a_card_where_it_is() -> None:
    def servers(environ: dict[str, str]) -> dict[str, dict[str, dict[str, str]]]:
        found = configuration(plan(environ))["default"]["ServerProxy"]["servers"]
        return dict(found)

    assert servers({})["about-this-box"]["launcher_entry"]["path_info"] == "launcher/"
    assert "about-this-box" not in servers({"LAUNCHER_PAGE": "off"})


def test_a_notebooks_tensorboard_is_shown_below_the_address() -> None:
    name = "TENSORBOARD_PROXY_URL"
    given = plan({"NB_PREFIX": "/lab-7"}).user_environment()
    assert given[name] == "/lab-7/proxy/%PORT%/"
    assert plan({name: "mine"}).user_environment()[name] == "mine"


def test_the_proxy_is_loaded_by_ours_alone() -> None:
    extensions = configuration(plan())["final"]["ServerApp"]["jpserver_extensions"]
    assert (extensions["launcher_proxy"], extensions["jupyter_server_proxy"]) == (True, False)
