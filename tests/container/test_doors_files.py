"""What people bring in files and mounts: Windows' line ends, configurations, noexec, keys, /tmp."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.container.box import Box, Boxes
from testing.container.engine import Docker
from testing.container.login import KeyPair, login, make_key

TOKEN = "file-token"
# What a configuration that was made elsewhere says of the place, and of who may come in.
ELSEWHERE = """
c.ServerApp.base_url = "/elsewhere"
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port = 9999
c.ServerApp.sock = "/tmp/jupyter.sock"
c.ServerApp.certfile = c.ServerApp.keyfile = c.ServerApp.client_ca = "/none.pem"
c.ServerApp.ssl_options = {"certfile": "/none.pem"}
c.ServerApp.allow_remote_access = False
c.ServerApp.open_browser = True
c.IdentityProvider.token = "of-the-file"
c.PasswordIdentityProvider.hashed_password = "argon2:none"
c.PasswordIdentityProvider.password_required = True
"""
IN_JSON = '{"ServerApp": {"base_url": "/json", "port": 7777, "token": "json", "password": ""}}'
FILES = {
    "hooks/10-run": "#!/bin/bash\nif true; then\n  echo run:$T_GIVEN\nfi\n",
    "before/20.sh": 'export T_SOURCED="a b"\nif true; then\n  export T_TWO=2\nfi\n',
    "pre_start.sh": "#!/bin/bash\nif true; then\n  echo pre:$T_TWO:\nfi\n",
    "post_start.sh": "#!/bin/bash\nif true; then\n  echo post:$T_TWO:\nfi\n",
    "script": "#!/bin/bash\necho never\n",
    "supervisor/mine.conf": '[program:mine]\ncommand=sh -c "echo mine ran; exec sleep 999"\n',
    "sshd/mine.conf": "AcceptEnv MINE\nX11Forwarding yes\n",
    "token": f"{TOKEN}\n",
    "env": "T_GIVEN=given\nGRANT_SUDO=no\nLAUNCHER_GPUS=all\n",
    "jupyter_server_config.py": ELSEWHERE,
    "jupyter_server_config.json": IN_JSON,
}
PLACES = {
    "hooks": "/etc/launcher/hooks.d", "before": "/usr/local/bin/before-notebook.d",
    "pre_start.sh": "/pre_start.sh", "post_start.sh": "/post_start.sh", "script": "/script",
    "supervisor": "/etc/launcher/supervisor.d", "sshd": "/etc/launcher/sshd_config.d",
    "token": "/token", "keys": "/etc/launcher/authorized_keys.d",
    "jupyter_server_config.py": "/home/dev/.jupyter/jupyter_server_config.py",
    "jupyter_server_config.json": "/etc/jupyter/jupyter_server_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def brought(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Box:
    """A box of somebody who wrote every file on Windows, and has a configuration of Jupyter's."""
    folder = tmp_path_factory.mktemp("brought")
    for name, text in {**FILES, "keys/me.pub": f"{key.public}\n"}.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        mark = "\ufeff" * (name in ("token", "hooks/10-run"))
        file.write_bytes(f"{mark}{text}".replace("\n", "\r\n").encode())
        file.chmod(0o755)
    mounts = [part for name, at in PLACES.items() for part in ("-v", f"{folder / name}:{at}:ro")]
    given = ("--env-file", f"{folder}/env", "-e", "JUPYTER_TOKEN_FILE=/token")
    box = shared_box(*mounts, *given)
    box.wait_for_banner()
    return box


def test_line_ends_of_windows_are_no_hindrance(brought: Box, key: KeyPair) -> None:
    brought.wait_for_log("post:2:")
    log = brought.logs()
    for said in ("run:given", "pre:2:", "mine ran"):
        assert re.search(rf"^(?:mine \| )?{said}$", log, re.MULTILINE), said
    assert log.count("has line ends of Windows; it runs without them") == 4
    shown = login(brought, key).ssh('printf %s "$T_SOURCED" | od -c').stdout
    assert "\\r" not in shown
    assert shown.split()[1:4] == ["a", "b", "0000003"]
    config = brought.exec("/usr/sbin/sshd", "-T", "-f", "/run/launcher/ssh/sshd_config").stdout
    assert {"x11forwarding yes", "acceptenv MINE"} <= set(config.splitlines())
    assert brought.exec("sudo", "-n", "true", user="dev", check=False).returncode != 0


def test_a_script_as_the_command_is_told_what_is_wrong(brought: Box) -> None:
    done = brought.exec("launcher", "run", "--", "/script", check=False)
    assert done.returncode == 127
    assert "that line ends as on Windows" in done.stderr


def test_a_configuration_of_the_user_s_makes_no_printed_word_untrue(brought: Box) -> None:
    banner = brought.wait_for_banner()
    assert f"http://127.0.0.1:8888/lab?token={TOKEN}\n" in banner
    assert brought.exec("launcher", "healthcheck", check=False).returncode == 0
    for token, status in ((TOKEN, 200), ("of-the-file", 403), ("json", 403), ("", 403)):
        assert _status(brought, f"/api/contents?token={token}") == status, token


def _status(box: Box, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", box.port(8888), timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


# --- mounts ------------------------------------------------------------------------------------


@pytest.fixture
def home(docker: Docker, image: str) -> Iterator[str]:
    """A volume that a group may write to, as Kubernetes' fsGroup makes it, with a key in it."""
    name = f"pcl-doors-home-{os.getpid()}"
    make = "mkdir -m 700 /h/.ssh; echo ssh-ed25519 AAAA > /h/.ssh/authorized_keys; "
    make += "chown -R 1000:100 /h; chmod 775 /h; chmod 600 /h/.ssh/authorized_keys"
    docker("volume", "create", name)
    docker("run", "--rm", "-v", f"{name}:/h", "--entrypoint", "sh", image, "-c", make)
    yield name
    docker("volume", "rm", "--force", name, check=False)


# A hub as far as a server asks at its start: jupyterhub.singleuser.extension, check_hub_version.
HUB = """#!/bin/bash
cat > /run/hub.py <<'END'
import http.server, socket
class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version": "5.0.0"}')
    do_POST = do_GET
    def log_message(self, *_):
        pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
Server(("::1", 8081), Hub).serve_forever()
END
setsid python3 /run/hub.py > /dev/null 2>&1 &
"""
# Its host is empty: every address (jupyterhub/jupyterhub#4985).  A proxy is not for the hub.
ON_IPV6 = {
    "HTTP_PROXY": "http://192.0.2.1:3128", "http_proxy": "http://192.0.2.1:3128",
    "JUPYTERHUB_API_TOKEN": "x", "JUPYTERHUB_CLIENT_ID": "a", "JUPYTERHUB_USER": "a",
    "JUPYTERHUB_SERVICE_URL": "http://:8888/user/a/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/a/", "JUPYTERHUB_API_URL": "http://[::1]:8081/hub/api",
    "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/a/oauth_callback",
}  # fmt: skip


def test_places_that_forbid_something_are_named_before_anybody_tries(
    box: Boxes, home: str, tmp_path: Path
) -> None:
    """No program may run on /tmp, sshd refuses the keys of a home; a hub has IPv6 addresses."""
    (tmp_path / "hub").write_text(HUB)
    started = box(
        "--network", "none", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0",
        "--tmpfs", "/tmp:noexec", "-v", f"{home}:/home/dev",
        "-v", f"{tmp_path}/hub:/pre_start.sh:ro", env=ON_IPV6,
    )  # fmt: skip
    banner = " ".join(started.wait_for_banner().split())
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0
    assert " 00000000000000000000000000000000:22B8 " in started.exec("cat", "/proc/net/tcp6").stdout
    assert "no program may run on /tmp (noexec)" in banner
    assert "--tmpfs /tmp:exec" in banner
    assert "/home/dev: others than its owner can write there" in banner
    assert "chmod go-w /home/dev" in banner
    moved = started.exec("launcher", "exec", "--", "sh", "-c", "echo $TORCHINDUCTOR_CACHE_DIR")
    assert moved.stdout == "/home/dev/.cache/torchinductor\n"


# --- several of one user -----------------------------------------------------------------------


def test_two_boxes_of_one_user_on_one_node_share_nothing(box: Boxes, tmp_path: Path) -> None:
    """As Apptainer and Slurm start them: /tmp and the network are the host's."""
    tmp_path.chmod(0o1777)
    shared = ("--network", "host", "--user", "1234:1234", "-v", f"{tmp_path}:/tmp")
    boxes = [box(*shared, env={"JUPYTER_TOKEN": f"token-{number}"}) for number in (1, 2)]
    urls = [_url(one) for one in boxes]
    assert [one.exec("launcher", "url").stdout.strip() for one in boxes] == urls
    assert len({url.partition("?")[0] for url in urls}) == 2
    for number, url in enumerate(urls, start=1):
        assert url.endswith(f"token-{number}")
    said = boxes[1].logs()
    assert "another box of yours has /tmp/launcher-1234: this one's files are in" in said
    assert re.search(r"port \d+ is in use here: Jupyter is on port \d+", said)
    assert re.search(r"port \d+ is in use here: SSH is on port \d+", said)
    for one in boxes:
        assert one.exec("launcher", "healthcheck", check=False).returncode == 0
    again = boxes[1].exec("launcher", "start", check=False)
    assert again.returncode == 78
    assert "another box runs in /tmp/launcher-1234-2" in again.stdout


def _url(box: Box) -> str:
    found = re.search(r"http://\S+", box.wait_for_banner())
    assert found
    return found[0]
