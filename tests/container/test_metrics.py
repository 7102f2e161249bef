"""A box that a real Prometheus scrapes, with a token that opens nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from testing.busy import busy
from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll
from testing.container.gpus import ALL, uuids
from testing.container.prometheus import Prometheus, promtool, running
from testing.dashboards import BOARDS, queries

TOKEN = "for-prometheus-alone"
INSIDE = "/run/secrets/metrics-token"
ELSEWHERE = ("/api/status", "/api/kernels", "/launcher/api/status", "/launcher/api/gpus")


class Scraped(NamedTuple):
    box: Box
    server: kernel.Server


@pytest.fixture(scope="module")
def scraped(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    """A box with eight busy GPUs."""
    folder = tmp_path_factory.mktemp("metrics")
    secret = folder / "token"
    secret.write_text(f"{TOKEN}\n")
    secret.chmod(0o600)
    machine = busy(folder / "busy.machine", xid="92", process="pid 4242, memory 3 GiB")
    environ = {
        "NVSIM_CONTAINER_MACHINE": str(machine), "LAUNCHER_METRICS_TOKEN_FILE": INSIDE,
    }  # fmt: skip
    box = shared_box(*ALL, "-v", f"{secret}:{INSIDE}:ro", env=environ)
    box.wait_for_banner()
    return Scraped(box, kernel.connect(box))


@pytest.fixture(scope="module")
def text(scraped: Scraped) -> str:
    """Return the second scrape, which knows what flows."""

    def answer() -> str:
        return scraped.server.request("/launcher/metrics", token=TOKEN).text

    assert poll(lambda: "PCIE_TX_BYTES" in answer(), timeout=30, interval=1), answer()
    return answer()


@pytest.fixture(scope="module")
def prometheus(
    scraped: Scraped, text: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    target = urlsplit(scraped.server.url).netloc
    with running(tmp_path_factory.mktemp("prometheus"), target, TOKEN) as started:
        yield started


def test_nothing_runs_for_it_before_it_is_asked(scraped: Scraped) -> None:
    assert _running(scraped.box, "gpu_sampler.py") == 0


def test_the_token_opens_the_metrics_and_nothing_else(scraped: Scraped, text: str) -> None:
    ask = scraped.server.request
    assert [ask(path, token=TOKEN).status for path in ELSEWHERE] == [403, 403, 403, 403]
    assert [ask("/launcher/metrics", token=token).status for token in ("", "wrong")] == [403, 403]
    assert ask("/launcher/metrics").status == 200  # Jupyter's own


def test_the_token_is_on_no_command_line_and_in_no_environment_of_the_user(
    scraped: Scraped, text: str
) -> None:
    words = "cat /proc/[0-9]*/cmdline"
    assert TOKEN not in scraped.box.exec("sh", "-c", words, check=False).stdout
    with scraped.server.kernel() as running_kernel:
        assert running_kernel.run(f"import os; print({TOKEN!r} in str(os.environ))") == "False\n"


def test_promtool_reads_it_and_finds_nothing_about_our_names(text: str) -> None:
    assert promtool("check", "metrics", stdin=text).returncode in (0, 3)  # 3: DCGM's names
    ours = "".join(line for line in text.splitlines(keepends=True) if "launcher_" in line)
    checked = promtool("check", "metrics", stdin=ours)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert promtool("check", "metrics", stdin=f"{text}}}").returncode == 1


def test_promtool_reads_what_we_ship() -> None:
    for arguments in (("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only",
                                                          "prometheus.yml")):  # fmt: skip
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_command_prints_the_same_without_jupyter(scraped: Scraped, text: str) -> None:
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    rates = {name for name in names if "_PROF_" in name or "BANDWIDTH" in name}  # of two samples
    printed = scraped.box.exec("launcher", "metrics").stdout
    assert set(re.findall(r"^# TYPE (\S+)", printed, re.MULTILINE)) == names - rates
    by_the_user = scraped.box.docker("exec", "-u", "dev", scraped.box.name, "launcher", "metrics")
    told = set(re.findall(r"^# TYPE (\S+)", by_the_user.stdout, re.MULTILINE))
    assert names - rates - told == {"launcher_kernels", "launcher_gpus_visible"}


def test_a_real_prometheus_scrapes_it(prometheus: Prometheus) -> None:
    assert poll(lambda: prometheus.query("up == 1"), timeout=30), prometheus.targets()
    temperatures = prometheus.query("DCGM_FI_DEV_GPU_TEMP")
    assert {series["metric"]["UUID"] for series in temperatures} == {*uuids("h100-8x")}
    (healthy,) = prometheus.query("launcher_healthy")
    assert healthy["value"][1] == "1"
    assert poll(lambda: _alerts(prometheus) == {"GpuError"}, timeout=30), _alerts(prometheus)


def test_every_query_of_the_dashboards_has_an_answer(prometheus: Prometheus) -> None:
    (up,) = prometheus.query("up")
    values = {"instance": up["metric"]["instance"], "gpu": ".+", "__range": "1m"}
    # A rate needs two scrapes.
    assert poll(lambda: prometheus.query("rate(launcher_memory_kills_total[1m])"), timeout=30)
    asked = {query for path in BOARDS for query in queries(json.loads(path.read_text()))}
    assert len(asked) > 30
    for query in asked:
        filled = re.sub(r"\$(\w+)", lambda name: values[name[1]], query)
        assert prometheus.query(filled), filled


def _alerts(prometheus: Prometheus) -> set[str]:
    """Return those that fire, but for the one of this machine's disk, which may be full."""
    firing = {series["metric"]["alertname"] for series in prometheus.query("ALERTS")}
    return firing - {"DiskNearlyFull"}


def _running(box: Box, name: str) -> int:
    words = f"cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '/{name}$'"
    return int(box.exec("sh", "-c", words, check=False).stdout)
