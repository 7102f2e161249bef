"""A Docker Engine of the tests' own, beside whatever engine the machine has.

It has its own data, bridge and containerd namespaces, and sets no rule of Docker's: a second engine
that manages iptables would drop the first one's chains.  Several test runs share one engine; the
last to leave stops it, and one that was left behind by a killed run is taken over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytorch-cuda-launcher"
RUN = Path("/run/pytorch-cuda-launcher-tests")
SOCKET = RUN / "docker.sock"
PIDFILE = RUN / "dockerd.pid"
LOG = RUN / "dockerd.log"
# First on dockerd's PATH, which is fixed once it runs.
PROGRAMS = RUN / "bin"

PATH = f"{PROGRAMS}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

DOCKER = "/usr/bin/docker"  # Debian's: it has BuildKit without a plugin
BRIDGE = "pcl-tests0"
NETWORK = "172.31.213.0/24"
GATEWAY = "172.31.213.1/24"
RULES = (
    ("nat", "POSTROUTING", ("-s", NETWORK, "!", "-o", BRIDGE, "-j", "MASQUERADE")),
    # An engine of the machine's own sets the policy of FORWARD to DROP.
    ("filter", "FORWARD", ("-i", BRIDGE, "-j", "ACCEPT")),
    ("filter", "FORWARD", ("-o", BRIDGE, "-j", "ACCEPT")),
)
START_TIMEOUT = 60.0  # seconds; loading the image store of a slow disk takes a while
STOP_TIMEOUT = 30.0
KEPT_BUILDS = "15GB"
# For each container the engine starts itself twice more, and ten other programs of Go's.  All of
# them are shorter without Go's first collections of garbage.
SELDOM_TIDIED = {"GOGC": "400"}


class EngineError(RuntimeError):
    """The engine cannot run here, or a docker command failed."""


class Docker:
    """The docker command line, talking to our engine."""

    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
        "DOCKER_HOST": f"unix://{SOCKET}",
        "DOCKER_BUILDKIT": "1",
        "DOCKER_CONFIG": str(RUN / "config"),  # not the user's credentials and plugins
    }

    def __call__(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 120,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGUMENTS…`; raise EngineError on failure unless told not to check."""
        done = subprocess.run(
            [DOCKER, *arguments],
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return checked(done) if check else done


def checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Raise EngineError, with the end of what it said, where the command failed."""
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        command = " ".join(["docker", *done.args[1:]])
        raise EngineError(f"{command}: exit {done.returncode}\n{said}")
    return done


@contextmanager
def running_engine(install_programs: Callable[[Path], object]) -> Iterator[Docker]:
    """Keep the engine running for the block.

    `install_programs` is given the folder that comes first on dockerd's PATH.  It is called before
    dockerd starts, which offers --gpus only if it finds NVIDIA's hook by then.
    """
    _require_this_machine_can()
    PROGRAMS.mkdir(mode=0o700, parents=True, exist_ok=True)
    docker = Docker()
    with open(RUN / "users.lock", "w") as users:
        with _turn():
            install_programs(PROGRAMS)
            if not _answers(docker):
                _stop()  # a half-dead one
                _start(docker)
            if _is_alone(users):
                _remove_containers(docker)  # of a test run that was killed
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield docker
        finally:
            with _turn():
                fcntl.flock(users, fcntl.LOCK_UN)
                if _is_alone(users):
                    _forget_old_builds(docker)
                    _stop()


def poll(holds: Callable[[], object], *, timeout: float, interval: float = 0.1) -> bool:
    """Ask until `holds()` is true; return False where it is not within `timeout` seconds.

    At most a third of the time goes into asking: on a busy machine others have theirs.
    """
    deadline = time.monotonic() + timeout
    asked = time.monotonic()
    while not holds():
        answered = time.monotonic()
        if answered > deadline:
            return False
        time.sleep(max(interval, 2 * (answered - asked)))
        asked = time.monotonic()
    return True


@contextmanager
def _turn() -> Iterator[None]:
    """Let one test run at a time start or stop the engine."""
    with open(RUN / "turn.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _is_alone(users: IO[str]) -> bool:
    """Say whether no other test run holds its share of the `users` lock."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_old_builds(docker: Docker) -> None:
    """Drop images that lost their tag, and all but the latest layers of PyTorch's six gigabytes."""
    docker("image", "prune", "--force", check=False)
    docker("builder", "prune", "--force", f"--keep-storage={KEPT_BUILDS}", check=False, timeout=300)


def _remove_containers(docker: Docker) -> None:
    if containers := docker("ps", "--all", "--quiet").stdout.split():
        docker("rm", "--force", "--volumes", *containers)


def _require_this_machine_can() -> None:
    needed = {DOCKER: "docker.io", "dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2"}
    missing = sorted({needed[name] for name in needed if not shutil.which(name, path=PATH)})
    if missing:
        raise EngineError(f"the container tests need {', '.join(missing)}: run `make test`")
    if os.geteuid() != 0:
        raise EngineError("the container tests start a Docker Engine, so they need root")


def _answers(docker: Docker) -> bool:
    if not SOCKET.exists():
        return False
    with suppress(subprocess.TimeoutExpired):
        return docker("version", check=False, timeout=10).returncode == 0
    return False


def _start(docker: Docker) -> None:
    _make_bridge()
    with open(LOG, "w") as log:
        daemon = subprocess.Popen(
            dockerd(RUN, CACHE / "docker", BRIDGE, "pytorch-cuda-launcher-tests"),
            env={**os.environ, "PATH": PATH, **SELDOM_TIDIED},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is pytest's; it stops the engine in its own time
        )
    if not poll(lambda: _answers(docker) or daemon.poll() is not None, timeout=START_TIMEOUT):
        daemon.kill()
    if not _answers(docker):
        tail = "\n".join(LOG.read_text().splitlines()[-15:])
        raise EngineError(f"dockerd does not start here; it said:\n{tail}")


def dockerd(run: Path, data: Path, bridge: str, namespace: str) -> list[str]:
    """Return the command of an engine with its socket in `run`, which sets no rule of Docker's."""
    # docker-init is not packaged everywhere; tini is the same program.
    init = shutil.which("docker-init") or shutil.which("tini")
    return [
        "dockerd",
        f"--host=unix://{run / SOCKET.name}",
        f"--data-root={data}",
        f"--exec-root={run / 'exec'}",
        f"--pidfile={run / PIDFILE.name}",
        f"--bridge={bridge}",
        "--iptables=false",
        "--ip-masq=false",
        f"--containerd-namespace={namespace}",
        f"--containerd-plugins-namespace={namespace}-plugins",
        *([f"--init-path={init}"] if init else []),
    ]


def _stop() -> None:
    """Stop our dockerd, if there is one, and take its bridge and rules away."""
    pid = _daemon_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        if not poll(lambda: _daemon_pid() is None, timeout=STOP_TIMEOUT):
            os.kill(pid, signal.SIGKILL)
    PIDFILE.unlink(missing_ok=True)
    for table, chain, rule in RULES:
        _root("iptables", "-w", "-t", table, "-D", chain, *rule, check=False)
    _root("ip", "link", "delete", BRIDGE, check=False)


def _daemon_pid() -> int | None:
    """Return the pid of our dockerd, or None; a stale pidfile may name somebody else."""
    with suppress(OSError, ValueError):
        pid = int(PIDFILE.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if f"--host=unix://{SOCKET}".encode() in arguments:
            return pid
    return None


def _make_bridge() -> None:
    _root("ip", "link", "delete", BRIDGE, check=False)
    # A bridge without an address takes one of its ports', and another whenever a container comes
    # or goes: the traffic of all the others then stalls until their ARP entries expire.
    _root("ip", "link", "add", "name", BRIDGE, "address", "02:42:ac:1f:d5:01", "type", "bridge")
    _root("ip", "address", "add", GATEWAY, "dev", BRIDGE)
    _root("ip", "link", "set", BRIDGE, "up")
    for table, chain, rule in RULES:
        _root("iptables", "-w", "-t", table, "-D", chain, *rule, check=False)
        _root("iptables", "-w", "-t", table, "-I", chain, *rule)


def _root(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise EngineError(f"cannot make a network: {' '.join(command)}: {done.stderr.strip()}")


def remove() -> None:
    """Take the engine and everything it stored off this machine."""
    if not CACHE.exists():
        return
    PROGRAMS.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(RUN / "users.lock", "w") as users, _turn():
        if not _is_alone(users):
            raise EngineError("its tests are running")
        _stop()
        shutil.rmtree(CACHE)
    shutil.rmtree(RUN)


if __name__ == "__main__":
    if sys.argv[1:] != ["remove"]:
        sys.exit("usage: python3 -m testing.container.engine remove")
    try:
        remove()
    except (EngineError, OSError) as err:
        sys.exit(f"cannot remove {CACHE}: {err}")
