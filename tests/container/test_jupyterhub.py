"""Under a real JupyterHub, with its real proxy: logged in to the hub, to a kernel in our image."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from testing.container import browser as chromium
from testing.container import kernel
from testing.container.engine import Docker, poll
from testing.container.hub import Browser, Hub, running_hub

# Users by how their server starts: the image's own command, or `jupyterhub-singleuser` as CMD.
USERS = ("image", "command")
Browsers = dict[str, Browser]


@pytest.fixture(scope="module")
def hub(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(docker, image, tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def browsers(hub: Hub) -> Browsers:
    """Return a browser for each user, logged in, with their server open in it."""
    opened = {}
    for user in USERS:
        opened[user] = hub.log_in(user)
        try:
            opened[user].open_server(user)
        except AssertionError as err:
            logs = hub.box(user).logs() if hub.box(user).exists() else "no container"
            raise AssertionError(f"{err}\n{hub.log.read_text()[-8000:]}\n{logs}") from err
    return opened


@pytest.mark.parametrize("user", USERS)
def test_a_kernel_behind_the_hub_sees_the_plan(hub: Hub, browsers: Browsers, user: str) -> None:
    token = browsers[user].new_token(user)
    server = kernel.Server(f"{hub.url}/user/{user}/lab?token={token}")
    printed = server.run_cell(
        "import os, getpass\n"
        "print(*map(os.environ.get, ('CUDA_DEVICE_ORDER', 'CUDA_VISIBLE_DEVICES', 'HOME')))\n"
        "print(getpass.getuser(), os.getcwd())"
    )
    plan = ["PCI_BUS_ID", "0,1,2,3,4,5,6,7", "/home/dev"]
    assert printed.split() == [*plan, "dev", "/workspace"]


@pytest.mark.parametrize("user", USERS)
def test_only_the_hubs_users_get_in(hub: Hub, browsers: Browsers, user: str) -> None:
    other = next(name for name in USERS if name != user)
    server = kernel.Server(f"{hub.url}/user/{user}/lab?token={browsers[other].new_token(other)}")
    assert server.request("/api/kernels").status == 403
    assert server.request("/api/kernels", token="").status == 403


def test_the_page_in_a_browser(hub: Hub, browsers: Browsers) -> None:
    """The hub refuses what a page asks for without its cookie's token, and a stranger."""
    with chromium.started() as running:
        tab = chromium.Tab(running.new_context())
        tab.page.goto(f"{hub.url}/user/image/launcher/")
        assert tab.page.locator("#gpus").count() == 0
        tab.page.locator("input[name=username]").fill("image")
        tab.page.locator("input[name=password]").fill("any")
        tab.page.locator("input[type=submit]").click()
        expect(tab.page.locator("#gpus > li")).to_have_count(8)
        expect(tab.page.locator("#services tbody tr")).not_to_have_count(0)
        tab.complaints.clear()  # the login's own
        tab.page.reload()
        expect(tab.page.locator("#gpus > li")).to_have_count(8)
        expect(tab.page.locator("#picture")).to_be_visible()
        tab.page.get_by_role("button", name="Run the doctor").click()
        expect(tab.page.locator("#layers li")).not_to_have_count(0)
        assert tab.hosts == {urlsplit(hub.url).netloc}
        assert tab.complaints == []


def test_the_banner_has_no_url_with_a_token(hub: Hub, browsers: Browsers) -> None:
    box = hub.box("image")
    banner = box.wait_for_banner()
    assert " Ready " in banner
    assert "opened through JupyterHub" in banner
    assert "token" not in banner
    assert "http://" not in banner
    refused = box.exec("launcher", "url", check=False)
    assert (refused.returncode, "JupyterHub opens it" in refused.stderr) == (78, True)


@pytest.mark.parametrize("user", USERS)
def test_healthy(hub: Hub, browsers: Browsers, user: str) -> None:
    box = hub.box(user)
    assert poll(
        lambda: box.exec("launcher", "healthcheck", check=False).returncode == 0, timeout=20
    )


# A pod of deploy/jupyterhub/values.yaml, and one of the chart's own values with our image's name:
# what its user has, where work is kept, which GPUs are seen.
PODS = [
    ("pod", "/home/dev /workspace 1000 0"),
    ("chart", "/home/jovyan /home/jovyan 1000"),
]
CELL = """
import os, pathlib
pathlib.Path("kept").write_text("work")
visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
print(os.environ["HOME"], os.getcwd(), os.getuid(), visible)
for line in open("/proc/self/status"):
    if line.startswith(("NoNewPrivs:", "CapBnd:")):
        print(*line.split())
"""


@pytest.mark.parametrize(("user", "has"), PODS)
def test_the_pods_of_kubespawner(hub: Hub, user: str, has: str) -> None:
    """As uid 1000, with a group for its volume and no powers: a cell runs, its work is kept."""
    browser = hub.log_in(user)
    browser.open_server(user)
    server = kernel.Server(f"{hub.url}/user/{user}/lab?token={browser.new_token(user)}")
    said = server.run_cell(CELL)
    assert said.splitlines()[0].strip() == has, hub.box(user).logs()
    assert "NoNewPrivs: 1" in said
    # Kubernetes drops none by itself, and the second pod is of a namespace that is restricted.
    assert ("CapBnd: 0000000000000000" in said) == (user == "chart")
    kept = hub.claims(user) / "claim-ada" / "kept"
    assert (kept.read_text(), kept.stat().st_uid) == ("work", 1000)
    healthy = hub.box(user).exec("launcher", "healthcheck", check=False)
    assert healthy.returncode == 0, healthy.stdout


def test_ssh_is_as_set(hub: Hub, browsers: Browsers) -> None:
    assert "ssh -p 2222 dev@127.0.0.1" in hub.box("image").wait_for_banner()
    assert hub.box("command").exec("pgrep", "-x", "sshd", check=False).returncode == 1
