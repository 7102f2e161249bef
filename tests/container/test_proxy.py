"""Programs of the user's below Jupyter's address: who is let in, pages, websockets, TensorBoard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import websocket
from playwright.sync_api import expect

from testing.container import browser, kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll

PREFIX = "/user/ann/mine"
PAGE = Path(__file__).parents[2] / "docs" / "services.md"
# Without login, as most of them: it lets in whoever reaches it.
ECHO = """\
from aiohttp import web
async def page(request):
    return web.Response(text=f"reached {request.path_qs}")
async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"echo {message.data}")
    return socket
app = web.Application()
app.add_routes([web.get("/talk", talk), web.get("/{rest:.*}", page)])
web.run_app(app, host="127.0.0.1", port=7860)
"""
# What SummaryWriter writes, without PyTorch, whose import takes seconds.
WRITE_LOGS = """\
mkdir -p /workspace/project/runs/first && cd /workspace && /opt/venv/bin/python -c '
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter("project/runs/first")
value = summary_pb2.Summary.Value(tag="loss", simple_value=0.5)
writer.add_event(event_pb2.Event(step=1, summary=summary_pb2.Summary(value=[value])))
writer.close()'
"""


@pytest.fixture(scope="module")
def started(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A box below a prefix, with two programs: ours, and the example of docs/services.md."""
    folder = tmp_path_factory.mktemp("programs")
    text = PAGE.read_text()
    example = re.search(r"^    ; /etc/launcher/supervisor\.d/(\S+)\n((?:    .+\n)+)", text, re.M)
    setting = re.search(r"docker run .* -e (LAUNCHER_PORTS)=(\S+) ", text)
    assert example, "docs/services.md has no example"
    assert setting, "docs/services.md names no LAUNCHER_PORTS"
    (folder / example[1]).write_text(example[2].replace("    ", ""))
    (folder / "mine.conf").write_text("[program:mine]\ncommand=/opt/venv/bin/python /echo.py\n")
    (folder / "echo.py").write_text(ECHO)
    mounts = (
        "-v",
        f"{folder}:/etc/launcher/supervisor.d:ro",
        "-v",
        f"{folder}/echo.py:/echo.py:ro",
    )
    environ = {setting[1]: f"{setting[2]},7860=<b>Mine</b>", "NB_PREFIX": PREFIX}
    box = shared_box(*mounts, env=environ)
    box.wait_for_banner()
    return box


@pytest.fixture(scope="module")
def server(started: Box) -> kernel.Server:
    return kernel.connect(started)


def test_jupyter_has_not_loaded_it_before_it_is_used(started: Box, server: kernel.Server) -> None:
    assert server.request("/server-proxy/servers-info").status == 200
    assert not _loaded(started)


@pytest.mark.parametrize("path", ["/proxy/7860/", "/proxy/6006/", "/tensorboard/"])
def test_without_the_token_nobody_gets_there(server: kernel.Server, path: str) -> None:
    for token in ("", "wrong"):
        said = server.request(path, token=token).text
        assert "Jupyter Server" in said, "the login page"
        assert "reached" not in said
    refused = f"{server.url.replace('http', 'ws', 1)}/proxy/7860/talk"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(refused, timeout=30)


def test_a_page_and_a_websocket_of_a_program(started: Box, server: kernel.Server) -> None:
    assert poll(lambda: server.request("/proxy/7860/a?b=1").text == "reached /a?b=1", timeout=30)
    socket = server.open_socket("/proxy/7860/talk")
    try:
        for word in ("one", "zwei ü"):
            socket.send(word)
            assert socket.recv() == f"echo {word}"
    finally:
        socket.close()
    assert _loaded(started)


def test_the_example_of_the_documentation(started: Box, server: kernel.Server) -> None:
    """It listens inside alone, and opens below Jupyter's address."""
    assert poll(lambda: "TensorBoard" in server.request("/proxy/6006/").text, timeout=60)
    listening = started.exec("ss", "-Hltn", "sport = 6006").stdout.splitlines()
    assert [line.split()[3] for line in listening] == ["127.0.0.1:6006"]


def test_tensorboard_starts_when_it_is_opened(started: Box, server: kernel.Server) -> None:
    assert _running(started, "launcher_tensorboard.py") == 0
    started.exec("bash", "-c", WRITE_LOGS, user="dev")
    assert "TensorBoard" in server.request("/tensorboard/").text
    assert _running(started, "launcher_tensorboard.py") == 1

    def runs() -> object:
        return json.loads(server.request("/tensorboard/data/runs").text)

    assert poll(lambda: runs() == ["project/runs/first"], timeout=60, interval=0.5), runs()


def test_tensorboard_draws_in_a_browser_by_one_click_on_the_page(server: kernel.Server) -> None:
    origin = urlsplit(server.url).netloc
    with browser.started() as chromium:
        stranger = browser.Tab(chromium.new_context())
        stranger.page.goto(f"{server.url}/tensorboard/")
        assert "Token authentication is enabled" in stranger.page.inner_text("body")
        tab = browser.Tab(chromium.new_context())
        tab.page.goto(server.page_url.replace("/lab?", "/launcher/?"))
        tab.page.get_by_role("link", name="TensorBoard").click()
        expect(tab.page.locator("scalar-card").first).to_contain_text("loss")
        expect(tab.page.locator("scalar-card line-chart").first).to_be_visible()
        assert tab.hosts == {origin}


def test_cards_and_links_name_them(server: kernel.Server) -> None:
    answer = server.request("/server-proxy/servers-info").json()
    cards = [one["launcher_entry"] for one in answer["server_processes"]]
    shown = {card["title"]: card["path_info"] for card in cards}
    assert shown == {
        "This box": "launcher/", "TensorBoard": "tensorboard/", "Curves": "proxy/6006/",
        "<b>Mine</b>": "proxy/7860/",
    }  # fmt: skip
    page = server.request("/launcher/").text
    assert '<a href="../proxy/7860/">&lt;b&gt;Mine&lt;/b&gt;</a>' in page


def test_stopping_ends_tensorboard_too_and_is_prompt(started: Box) -> None:
    assert started.stop() < 5
    assert started.exit_code() == 0


def _loaded(box: Box) -> bool:
    """Return whether Jupyter has aiohttp in its memory, most of what the proxy costs."""
    words = "grep -l /aiohttp/ /proc/$(pgrep -f '[g]uest/jupyter.py')/maps"
    return bool(box.exec("sh", "-c", words, user="dev", check=False).stdout)


def _running(box: Box, name: str) -> int:
    words = f"cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '/{name}$'"
    return int(box.exec("sh", "-c", words, check=False).stdout)
