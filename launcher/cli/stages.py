"""Commands that run the pipeline, one stage at a time, and the doctor."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from launcher.model.errors import BadSetting, StartFailed
from launcher.model.printable import printable_text

if TYPE_CHECKING:
    from launcher.gpus.visibility import Visibility
    from launcher.model.machine import GpuReport


def detect(options: Namespace) -> int:
    from launcher.detect import driver
    from launcher.model import codec
    from launcher.settings import load

    print(codec.to_json(driver.detect_machine(load.load_settings()), indent=2))
    return 0


def topo(options: Namespace) -> int:
    from launcher.detect import driver, sysfs
    from launcher.model import codec
    from launcher.settings import load
    from launcher.text import topology

    if options.json and options.svg:
        print("launcher topo: --json or --svg FILE, not both", file=sys.stderr)
        return 2
    machine = driver.detect_machine(load.load_settings())
    report = machine.report
    if report.failure:
        raise StartFailed(
            f"cannot read the topology: {report.failure.reason}; see: launcher doctor"
        )
    nics = sysfs.read_nics(report)
    if options.json:
        print(codec.to_json(topology.survey(report, nics, machine.host), indent=2))
        return 0
    lines = topology.topology_lines(report, nics, machine.host)
    if options.svg:
        from launcher.text import svg

        _write_picture(options.svg, svg.picture(report, nics, lines, _what_cuda_sees(report)))
    else:
        print(printable_text("\n".join(lines)))
    return 0


def _what_cuda_sees(report: GpuReport) -> Visibility | None:
    """Return what CUDA sees in the box; None where neither it nor this environment says so."""
    from launcher.box import run_dir
    from launcher.gpus.visibility import explain
    from launcher.settings import environ

    env = environ.own()
    if "CUDA_VISIBLE_DEVICES" not in env:
        try:
            plan = run_dir.read_plan()
        except BadSetting:  # the workspace user may not read it
            plan = None
        env = plan.user_environment() if plan else {}
    value = env.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    return explain(value, report, env.get("CUDA_DEVICE_ORDER", ""))


def _write_picture(path: str, text: str) -> None:
    if path == "-":
        print(text, end="")
        return
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError as err:
        raise BadSetting(
            f"cannot write {path}: {err.strerror}; name a file in a directory that is yours"
        ) from None


def record(options: Namespace) -> int:
    from launcher.detect import driver
    from launcher.gpus import record as description
    from launcher.settings import load

    machine = driver.detect_machine(load.load_settings())
    print(description.describe(machine.report, machine.hardware.kernel_driver), end="")
    return 0


def plan(options: Namespace) -> int:
    import json

    from launcher.box import run_dir
    from launcher.model import codec, masking
    from launcher.pid1 import boot
    from launcher.settings import load

    planned = run_dir.read_plan() or boot.preview_plan(load.load_settings())
    document = json.loads(codec.to_json(planned, reveal=options.show_secrets))
    shown = document if options.show_secrets else masking.mask_document(document)
    print(json.dumps(shown, indent=2))
    return 0


def render(options: Namespace) -> int:

    from launcher.box import files, run_dir
    from launcher.pid1 import boot
    from launcher.render.files import render as render_plan
    from launcher.settings import load

    plan = run_dir.read_plan() or boot.preview_plan(load.load_settings())
    top = os.path.abspath(options.directory)
    files.write([file._replace(path=top + file.path) for file in render_plan(plan)])
    return 0


def doctor(options: Namespace) -> int:
    from launcher.box import run_dir
    from launcher.doctor import doctor as examination
    from launcher.settings import environ, load

    def count_nodes() -> int:
        from launcher.cluster import torchrun

        return torchrun.count_nodes(environ.own())

    def say(text: str) -> None:
        print(f"doctor: {text}", file=sys.stderr, flush=True)

    def tell(line: str) -> None:
        print(line, flush=True)

    asked = examination.Asked(
        tuple(options.checks), options.timeout, options.verbose, options.json or options.steps,
        options.steps, options.report, options.collective, count_nodes,
    )  # fmt: skip
    text, status = examination.diagnose(asked, load.load_settings(), run_dir.read_box(), say, tell)
    print(printable_text(text))
    return status


def settings(options: Namespace) -> int:
    import json

    from launcher.settings import load

    if options.json:
        described = load.describe(reveal=options.show_secrets)
        print(json.dumps([row._asdict() for row in described], indent=2))
    else:
        print("\n".join(load.as_text(load.describe(reveal=options.show_secrets))))
    return 0
