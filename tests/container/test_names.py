"""Names from other images, and download caches: in real boxes, as people start them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.banner import unwrapped
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.login import login, make_key

CACHES = ("HF_HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR", "TORCH_HOME")
PRINT_CACHES = f"import json, os; print(json.dumps([os.environ.get(n) for n in {CACHES}]))"
IN_THE_VOLUME = [f"/workspace/.cache/{name}" for name in ("huggingface", "pip", "uv", "torch")]
VOLUME = ("-v", "/workspace")  # with no name: it goes when the container goes


# --- a box that somebody brings from other images --------------------------------------------


@pytest.fixture(scope="module")
def brought(shared_box: Boxes) -> Box:
    """A box with a volume, and with names of five other images."""
    env = {
        "JUPYTER_PASSWORD": "token-of-a-pod",
        "OPEN_BUTTON_TOKEN": "1",
        "LISTEN_PORT": "22",
        "NB_UMASK": "027",
        "UMASK": "002",
        "DIRECT_ADDRESS": "127.0.0.1/$(reboot)",
        "PROVISIONING_SCRIPT": "https://example.invalid/setup.sh",
        "S6_KILL_GRACETIME": "3000",
        "RESTARTABLE": "yes",
    }
    started = shared_box(*VOLUME, env=env)
    started.wait_for_banner()
    return started


def test_the_token_by_another_name(brought: Box) -> None:
    server = kernel.connect(brought)
    assert server.token == "token-of-a-pod"
    assert server.request("/api/contents").status == 200


def test_no_notebook_sees_it(brought: Box) -> None:
    code = "import os; print(sorted({'JUPYTER_PASSWORD', 'OPEN_BUTTON_TOKEN'} & set(os.environ)))"
    assert kernel.connect(brought).run_cell(code) == "[]\n"


def test_the_log_says_what_has_no_effect(brought: Box) -> None:
    """In one line for all names, one for each conflict, and nothing of what is so anyway."""
    said = [line for line in brought.logs().splitlines() if line.startswith("launcher: ")]
    assert [line for line in said if "known from other images" in line] == [
        "launcher: known from other images, without effect here: PROVISIONING_SCRIPT, "
        "S6_KILL_GRACETIME; docs/settings.md has what to use instead"
    ]
    assert [line for line in said if "another name" in line] == [
        "launcher: UMASK is another name of NB_UMASK, which counts: "
        "its different value has no effect"
    ]
    assert not [line for line in said if "RESTARTABLE" in line or "LISTEN_PORT" in line]


def test_an_address_that_is_none_is_named_and_not_printed(brought: Box) -> None:
    log = brought.logs()
    assert (
        "launcher: DIRECT_ADDRESS='127.0.0.1/$(reboot)' is neither an IP address nor a host name: "
        "the banner does not print it"
    ) in log
    assert "   http://127.0.0.1:8888/lab?token=token-of-a-pod\n" in log
    assert "   ssh -p 2222 dev@127.0.0.1\n" in log


def test_the_list_of_settings_has_the_other_names(brought: Box) -> None:
    listed = brought.exec("launcher", "settings").stdout
    assert "JUPYTER_TOKEN = *** (from JUPYTER_PASSWORD)\n" in listed
    assert "SSH_PORT = '22' (from LISTEN_PORT)\n" in listed
    assert " Also: NOTEBOOK_PORT, WORKSPACE_PORT.\n" in listed


def test_a_value_that_cannot_be_used_is_named_as_it_was_given(box: Boxes) -> None:
    done = box.run(env={"NOTEBOOK_PORT": "eighty", "PGID": "users"})
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 78
    assert "launcher: NOTEBOOK_PORT='eighty': expected a port number from 1 to 65535\n" in said
    assert "launcher: PGID='users': expected " in said


# --- caches ----------------------------------------------------------------------------------


def test_caches_go_to_the_volume(brought: Box) -> None:
    assert json.loads(kernel.connect(brought).run_cell(PRINT_CACHES)) == IN_THE_VOLUME
    said = unwrapped(brought.wait_for_banner())
    assert "Caches /workspace/.cache, on its volume: " in " ".join(said.split())
    assert all(name in said for name in CACHES)


def test_the_user_makes_their_folders(brought: Box) -> None:
    """PyTorch and pip write there as the workspace user; root has made nothing before."""
    server = kernel.connect(brought)
    assert server.run_cell("import os; print(os.path.exists('/workspace/.cache'))") == "False\n"
    code = (
        "import os, torch\n"
        "folder = torch.hub.get_dir(); os.makedirs(folder)\n"
        "print(folder, os.stat('/workspace/.cache').st_uid)"
    )
    assert server.run_cell(code) == "/workspace/.cache/torch/hub 1000\n"
    done = brought.exec("launcher", "exec", "--", "pip", "cache", "dir")
    assert done.stdout == "/workspace/.cache/pip\n"
    assert done.stderr == ""


def test_every_variable_has_its_reason(brought: Box) -> None:
    planned = json.loads(brought.exec("launcher", "plan").stdout)["environment"]
    whys = {var["name"]: var["why"] for var in planned if var["name"] in CACHES}
    assert set(whys) == set(CACHES)
    assert all(why.endswith(", on the volume /workspace") for why in whys.values())


def test_a_login_has_them_too(box: Boxes, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    env = {"PUBLIC_KEY": key.public, "HF_HOME": "/mine", "XDG_CACHE_HOME": ""}
    started = box(*SSH_ALONE, *VOLUME, env=env)
    started.wait_for_banner()
    said = login(started, key).ssh(f'python -c "{PRINT_CACHES}"').stdout
    assert json.loads(said) == ["/mine", *IN_THE_VOLUME[1:]]


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ((), {}),
        (("--tmpfs", "/workspace:mode=1777"), {}),
        (VOLUME, {"XDG_CACHE_HOME": "/tmp/mine"}),
        ((*VOLUME, "-v", "/home/dev"), {}),
    ],
    ids=["no-volume", "in-memory", "a-place-of-the-users", "home-lasts"],
)
def test_where_none_is_moved(box: Boxes, options: tuple[str, ...], env: dict[str, str]) -> None:
    done = box.run("python", "-c", PRINT_CACHES, options=options, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [None] * 4


def test_a_command_has_them_and_a_mounted_cache_stays(box: Boxes) -> None:
    options = (*VOLUME, "-v", "/home/dev/.cache/huggingface")
    done = box.run("python", "-c", PRINT_CACHES, options=options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [None, *IN_THE_VOLUME[1:]]
