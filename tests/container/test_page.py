"""The page about the box: who is let in, what it shows, and a driver that stops to answer."""

from __future__ import annotations

import json
import re

import pytest

from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll
from testing.container.gpus import ALL, machine, uuids

PREFIX = "/user/ann/mine"
ANSWERS = ("/launcher/api/status", "/launcher/api/gpus", "/launcher/api/doctor")
PARTS = (
    "GPUs now", "Services", "How the GPUs are connected", "What CUDA sees, and why",
    "CUDA_VISIBLE_DEVICES", "Doctor", "How to get in", "ssh -p ", "SHA256:",
)  # fmt: skip


@pytest.fixture(scope="module")
def started(shared_box: Boxes) -> Box:
    """A read-only box with eight GPUs, below a prefix."""
    environ = {**machine("h100-8x"), "NB_PREFIX": PREFIX, "HF_TOKEN": "a-secret-of-mine"}
    box = shared_box(*ALL, "--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp", env=environ)
    box.wait_for_banner()
    return box


def test_the_banner_names_it(started: Box) -> None:
    assert "the same address with launcher/ in place of lab" in started.wait_for_banner()


def test_the_page_has_its_parts_and_no_secret(started: Box) -> None:
    server = kernel.connect(started)
    answer = server.request("/launcher/")
    assert answer.status == 200
    assert [part for part in PARTS if part not in answer.text] == []
    assert server.token not in answer.text
    assert "a-secret-of-mine" not in answer.text
    for name in re.findall(r'(?:src|href)="([^"]*)"', answer.text):
        assert server.request(f"/launcher/{name}").status == 200


@pytest.mark.parametrize("route", ANSWERS)
def test_nobody_is_let_in_with_another_token(started: Box, route: str) -> None:
    assert kernel.connect(started).request(route, token="wrong").status == 403


def test_the_answers_are_the_commands(started: Box) -> None:
    server = kernel.connect(started)
    status = server.request("/launcher/api/status").json()
    assert status["version"] == 1
    assert status["programs"].keys() >= {"jupyter", "sshd"}
    printed = json.loads(started.exec("launcher", "topo", "--json").stdout)
    assert server.request("/launcher/api/topo").json() == {"version": 1, **printed}
    assert server.request("/launcher/topology.svg").text.startswith("<svg ")
    assert "NV18" in server.request("/launcher/topology.txt").text


def test_the_gpus_are_live_and_the_sampler_ends(started: Box) -> None:
    server = kernel.connect(started)
    gpus = server.request("/launcher/api/gpus").json()
    assert [gpu["uuid"] for gpu in gpus["gpus"]] == uuids("h100-8x")
    assert _samplers(started) == 1
    assert poll(lambda: _samplers(started) == 0, timeout=90)


def test_the_doctor_runs_when_it_is_asked_to(started: Box) -> None:
    server = kernel.connect(started)
    assert server.request("/launcher/api/doctor").status == 405
    assert server.request("/launcher/api/doctor", method="POST").json()["layers"]


def test_a_driver_that_hangs_is_one_line_and_stops_nobody(box: Boxes) -> None:
    environ = {**machine("hung-init"), "LAUNCHER_DETECT_TIMEOUT": "2"}
    started = box(*ALL, env=environ)
    started.wait_for_banner()
    server = kernel.connect(started)
    assert server.request("/launcher/").status == 200
    assert poll(lambda: "not answered" in _fault(server), timeout=60)
    assert _samplers(started) == 1
    assert server.request("/api").status == 200


def test_without_a_gpu_and_without_the_page(box: Boxes) -> None:
    with_page = box()
    with_page.wait_for_banner()
    server = kernel.connect(with_page)
    assert "libnvidia-ml.so.1" in _fault(server)
    assert server.request("/launcher/").status == 200
    _names_a_job(with_page, server)

    without = box(env={"LAUNCHER_PAGE": "off"})
    assert "launcher/" not in without.wait_for_banner()
    assert kernel.connect(without).request("/launcher/").status == 404


# A torchrun that stays, in a job of two nodes.
JOB = """\
mkdir /tmp/fake && printf '#!/bin/sh\\nexec sleep 600\\n' > /tmp/fake/torchrun
chmod 755 /tmp/fake /tmp/fake/torchrun
launcher exec -- env PATH=/tmp/fake:$PATH launcher torchrun --nnodes=2 --node-rank=1 \\
  --master-addr=127.0.0.1 train.py < /dev/null > /tmp/said 2>&1 &
"""


def _names_a_job(box: Box, server: kernel.Server) -> None:
    facts = server.request("/launcher/api/metrics").json()
    assert (facts["jobs"], facts["jobs_text"]) == ([], "")
    box.exec("sh", "-c", JOB)
    assert poll(lambda: server.request("/launcher/api/metrics").json()["jobs"], timeout=60)
    facts = server.request("/launcher/api/metrics").json()
    assert [(job["rank"], job["nodes"]) for job in facts["jobs"]] == [(1, 2)]
    assert "node 1 of 2" in facts["jobs_text"]
    assert "master 127.0.0.1:29500" in facts["jobs_text"]


def _fault(server: kernel.Server) -> str:
    return str(server.request("/launcher/api/gpus").json()["fault"])


def _samplers(box: Box) -> int:
    words = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '/gpu_sampler.py$'"
    return int(box.exec("sh", "-c", words, check=False).stdout)
