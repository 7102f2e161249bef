"""A real Prometheus on this machine, with the configuration that we ship."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from testing.container.engine import poll
from testing.dashboards import FOLDER
from tools import prometheus


class Prometheus:
    """One that runs, asked over its API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, expression: str) -> list[Any]:
        """Return the series that a query gives now.  Raises HTTPError where it is none."""
        found: list[Any] = self._get(f"/api/v1/query?{urlencode({'query': expression})}")["result"]
        return found

    def targets(self) -> list[Any]:
        found: list[Any] = self._get("/api/v1/targets")["activeTargets"]
        return found

    def answers(self) -> bool:
        try:
            return bool(urlopen(f"{self._address}/-/ready", timeout=10).status == 200)
        except URLError:
            return False

    def _get(self, path: str) -> Any:
        return json.load(urlopen(f"{self._address}{path}", timeout=10))["data"]


@contextmanager
def running(folder: Path, target: str, token: str) -> Iterator[Prometheus]:
    """Run one in `folder`, which scrapes `target` every second with `token`."""
    shipped = (FOLDER / "prometheus.yml").read_text()
    configuration = shipped.replace("gpu-1:8888", target).replace("15s", "1s")
    assert (configuration.count(target), configuration.count(": 1s")) == (1, 2)
    (folder / "prometheus.yml").write_text(configuration)
    shutil.copy(FOLDER / "alerts.yml", folder)
    (folder / "metrics-token").write_text(f"{token}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [
                str(prometheus.provide() / "prometheus"),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address={address}",
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        started = Prometheus(f"http://{address}")
        assert poll(started.answers, timeout=30), (folder / "log").read_text()[-4000:]
        yield started
    finally:
        process.kill()
        process.wait()


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `promtool ARGUMENTS…` where our files are."""
    return subprocess.run(
        [str(prometheus.provide() / "promtool"), *arguments],
        cwd=FOLDER,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
