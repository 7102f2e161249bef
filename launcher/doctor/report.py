"""What the doctor found, as a table for people, as JSON, and as a file to attach.  Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from launcher.checks import COLLECTIVE, LAYERS, Verdict
from launcher.checks.check import plural
from launcher.checks.facts.cards import card_name
from launcher.checks.facts.talking import said, speeds
from launcher.model import codec
from launcher.model.collective import GLOO
from launcher.model.evidence import CudaTrial, Evidence
from launcher.model.host import FIRST_OF_PEOPLE
from launcher.model.masking import MASK, is_secret, mask_text
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Finding
from launcher.text.text import DIM, GREEN, YELLOW, driver_text, paint, wrap

SCHEMA = 1  # of the JSON: docs/doctor.md; a field may be added to it, none changes its meaning
RED = "1;31"


class Row(NamedTuple):
    """One layer in the table."""

    number: int
    layer: str
    status: str  # "ok" | "warning" | "FAILED" | "skipped"
    text: str  # what was seen, or what it waits for


def rows(seen: Evidence, verdict: Verdict) -> tuple[Row, ...]:
    """Return one row for each layer; those above the one that failed wait for it."""
    broken = LAYERS.index(verdict.layer) if verdict.layer else len(LAYERS)
    warned = {finding.id.partition(".")[0] for finding in verdict.warnings}
    found = []
    for at, layer in enumerate(LAYERS):
        if layer == COLLECTIVE and seen.collective is None:  # it was not asked for
            continue
        if at > broken and not (layer == COLLECTIVE and _collective_text(seen)):
            row = Row(at + 1, layer, "skipped", f"waits for {LAYERS[broken]}")
        elif at == broken:
            assert verdict.failure is not None
            row = Row(at + 1, layer, "FAILED", verdict.failure.what)
        else:
            text = _FACTS[layer](seen)
            status = "skipped" if not text else "warning" if layer in warned else "ok"
            if layer == COLLECTIVE:  # another failure may be the one that is named
                status = _collective_status(seen) or status
            row = Row(at + 1, layer, status, text or "not looked at")
        found.append(row)
    return tuple(found)


# --- text --------------------------------------------------------------------------------------

_COLOR = {"ok": GREEN, "warning": YELLOW, "FAILED": RED, "skipped": DIM}


def text(seen: Evidence, verdict: Verdict, *, verbose: bool = False, color: bool = False) -> str:
    """Return the table, the failure and the warnings in 80 columns; all evidence if `verbose`."""
    lines = []
    for row in rows(seen, verdict):
        start = f" {row.number} {row.layer:<12} {row.status:<8} "
        painted = start.replace(row.status, paint(row.status, _COLOR[row.status], color), 1)
        first, *rest = wrap(start, row.text, " " * len(start))
        lines += [painted + first[len(start) :], *rest]
    for finding in (*([verdict.failure] if verdict.failure else []), *verdict.warnings):
        lines += ["", *_finding_lines(finding, finding is verdict.failure, color)]
    if verbose:
        lines += ["", *_evidence_lines(seen)]
    return "\n".join(lines)


def _finding_lines(finding: Finding, failed: bool, color: bool) -> Iterator[str]:
    word, code = ("failed", RED) if failed else ("warning", YELLOW)
    yield f" {paint(finding.id, code, color)} ({word})"
    yield from wrap("   seen   ", finding.what, " " * 10)
    yield from wrap("   means  ", finding.means, " " * 10)
    # A command is for pasting: it is broken between words only.
    yield from wrap("   fix    ", finding.fix, " " * 10)
    yield f"   more   launcher explain {finding.id}"


def section(check_id: str) -> str:
    """Return where a check is described; the anchor is as GitHub makes it of the heading."""
    return f"docs/doctor.md#{check_id.replace('.', '')}"


def _evidence_lines(seen: Evidence) -> Iterator[str]:
    for library in seen.libraries:
        mark = "*" if library.taken else " "
        version = library.version or "no version"
        yield f" {mark} {library.path}: {library.kind}, {version}, {library.source}"
    for node in seen.report.nodes:
        yield f"   {node.path}: {node.fault or 'opens'} (mode {node.mode:04o}, uid {node.uid})"
    for trial in seen.trials:
        yield f"   CUDA {trial.how}: {_trial_text(trial)}"
    for run in seen.collective.trials if seen.collective else ():
        yield f"   collective {run.how}: {codec.to_json(run)}"
    if seen.torch:
        yield f"   PyTorch: {codec.to_json(seen.torch)}"
    for variable, value in sorted(seen.environ.items()):
        yield f"   {variable}={value!r}"


# --- what is said of a layer in which nothing failed -------------------------------------------


def _hardware_text(seen: Evidence) -> str:
    names = [gpu.name for gpu in seen.gpus] or [card_name(card) for card in seen.hardware.pci]
    return ", ".join(f"{count} × {kind}" for kind, count in Counter(names).items()) or "a driver"


def _driver_text(seen: Evidence) -> str:
    flavour = {True: ", open kernel module", False: "", None: ""}[seen.hardware.open_module]
    return driver_text(seen.machine).removeprefix("driver ") + flavour


def _runtime_text(seen: Evidence) -> str:
    opened = [node.path.removeprefix("/dev/") for node in seen.report.nodes if not node.fault]
    given = f"{plural(len(seen.gpus), 'GPU')} given"
    return f"{given}; {', '.join(opened)} open" if opened else given


def _libraries_text(seen: Evidence) -> str:
    library = seen.taken("libcuda.so.1")
    return f"libcuda.so.1 is {library.target or library.path}" if library else ""


def _cuda_text(seen: Evidence) -> str:
    return _trial_text(seen.cuda) if seen.cuda else ""


def _trial_text(trial: CudaTrial) -> str:
    if trial.outcome == "ok":
        return f"initialises and sees {plural(len(trial.devices), 'device')}"
    return trial.reason or trial.name or trial.outcome


def _pytorch_text(seen: Evidence) -> str:
    torch = seen.torch
    if torch is None:
        return ""
    if not torch.version:
        return f"cannot be used: {torch.error or torch.outcome}"
    if not torch.devices:
        return f"{torch.version}: computes on the CPU"
    computed, every = torch.devices - len(torch.failures), plural(torch.devices, "device")
    return f"{torch.version}: computed on {computed} of {every}"


def _environment_text(seen: Evidence) -> str:
    value = seen.environ.get("CUDA_VISIBLE_DEVICES")
    if seen.cpu_only:
        return "no GPU, as LAUNCHER_GPUS=none asks"
    shown = value if value is None or len(value) <= 40 else f"{value[:39]}…"
    return "no mask" if shown is None else f"CUDA_VISIBLE_DEVICES={shown}"


def _resources_text(seen: Evidence) -> str:
    shm = seen.limits.shm
    return f"{shm >> 20} MiB /dev/shm" if shm is not None else "no limit in the way"


def _collective_status(seen: Evidence) -> str | None:
    trial = seen.collective.given if seen.collective else None
    if trial is None or trial.outcome == "ok":
        return None
    return "skipped" if trial.outcome == "missing" else "FAILED"


def _collective_text(seen: Evidence) -> str:
    found, trial = seen.collective, seen.collective.given if seen.collective else None
    if found is None or not found.ranks:
        return ""
    if trial is None:
        return "one GPU: there is nobody to talk to"
    if trial.outcome != "ok":
        return said(found, trial)
    if found.backend == GLOO:
        return (
            f"{found.ranks} processes on the CPU by gloo: point-to-point and all_reduce. That "
            "tried the mechanics alone: there is no GPU"
        )
    version = f" {trial.version}" if trial.version else ""
    return "; ".join([f"{found.ranks} GPUs by NCCL{version}", *speeds(seen)])


_FACTS = {
    "hardware": _hardware_text,
    "driver": _driver_text,
    "runtime": _runtime_text,
    "libraries": _libraries_text,
    "cuda": _cuda_text,
    "pytorch": _pytorch_text,
    "environment": _environment_text,
    "resources": _resources_text,
    "collective": _collective_text,
}


# --- JSON --------------------------------------------------------------------------------------


def document(seen: Evidence, verdict: Verdict) -> dict[str, object]:
    """Return what `--json` prints; docs/doctor.md describes every field."""
    return {
        "schema": SCHEMA,
        "healthy": verdict.failure is None,
        "exit_status": verdict.exit_status,
        "layers": [row_json(row) for row in rows(seen, verdict)],
        "failure": _finding_json(verdict.failure) if verdict.failure else None,
        "warnings": [_finding_json(finding) for finding in verdict.warnings],
        "evidence": json.loads(codec.to_json(seen)),
    }  # fmt: skip


def row_json(row: Row) -> dict[str, object]:
    return {
        "number": row.number,
        "name": row.layer,
        "status": row.status.lower(),
        "text": row.text,
    }


def _finding_json(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "what": finding.what,
        "means": finding.means,
        "fix": finding.fix,
        "section": section(finding.id),
    }


def attachment(
    seen: Evidence, verdict: Verdict, versions: Mapping[str, str], shown: str
) -> dict[str, object]:
    """Return one document to attach to a bug report: names, UUIDs and secrets are taken out.

    Args:
        versions: of what the launcher is made of.
        shown: the text that the user saw.
    """
    found = {"versions": dict(versions), "text": shown.splitlines(), **document(seen, verdict)}
    host = seen.machine.host
    people = (one for one in host.accounts if one.uid >= FIRST_OF_PEOPLE)
    accounts = [host.me, host.account, seen.user, *people]
    private = {seen.machine.host.hostname: "HOST"}
    for account in accounts:
        if account and account.uid != 0:
            private |= {account.home: "~", account.name: "USER"}
    cleaned = _scrub(found, private, {})
    assert isinstance(cleaned, dict)
    return cleaned


_UUID = re.compile(r"\b(GPU|MIG)-(?:GPU-)?[0-9a-fA-F][0-9a-fA-F/-]*")


def _scrub(value: object, private: Mapping[str, str], uuids: dict[str, str]) -> object:
    """Take out what tells who and where: the same UUID becomes the same word everywhere."""
    if isinstance(value, dict):
        return {
            key: MASK if is_secret(key) else _scrub(item, private, uuids)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_scrub(item, private, uuids) for item in value]
    if not isinstance(value, str):
        return value
    for word, instead in private.items():
        if len(word) > 1:
            value = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", instead, value)
    return _UUID.sub(lambda match: _alias(match, uuids), mask_text(value))


def _alias(match: re.Match[str], uuids: dict[str, str]) -> str:
    return uuids.setdefault(match[0], f"{match[1]}-#{len(uuids) + 1}")
