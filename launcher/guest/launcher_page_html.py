"""The page's HTML, of what was decided when the box started.  Pure; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>The box</title>
<link rel="stylesheet" href="page.css">
<script src="gpus.js" defer></script>
<script src="page.js" defer></script>
</head>
<body>
<header><h1>The box</h1><p id="state" role="status">…</p></header>
<noscript><p>Without JavaScript only what was decided at the start is shown.</p></noscript>
<main>
"""
_LIVE = """\
<section aria-labelledby="h-gpus"><h2 id="h-gpus">GPUs now</h2>
<p id="gpus-said" role="status">…</p><ul id="gpus"></ul></section>
<section aria-labelledby="h-services"><h2 id="h-services">Services</h2>
<div class="wide" tabindex="0" role="region" aria-label="Table of the services">
<table id="services" hidden>
<thead><tr><th scope="col">Program</th><th scope="col">State</th><th scope="col">For</th>
<th scope="col">Restarts</th><th scope="col">Says</th></tr></thead><tbody></tbody></table></div>
<p id="services-said">…</p></section>
<section id="jobs-part" aria-labelledby="h-jobs" hidden><h2 id="h-jobs">Jobs of torchrun</h2>
<pre id="jobs" tabindex="0" role="region" aria-label="Jobs of torchrun">…</pre></section>
<section aria-labelledby="h-box"><h2 id="h-box">What it may use</h2>
<p id="limits">…</p><div id="rooms"></div></section>
"""
_TOPOLOGY = """\
<section aria-labelledby="h-topology"><h2 id="h-topology">How the GPUs are connected</h2>
<div class="wide" tabindex="0" role="region" aria-label="Picture of the topology">
<img id="picture" alt="How the GPUs are connected, drawn; the words are below" hidden></div>
<pre id="topology" tabindex="0" role="region" aria-label="Topology in words">…</pre></section>
"""
_DOCTOR = """\
<section aria-labelledby="h-doctor"><h2 id="h-doctor">Doctor</h2>
<p>Tries the driver, CUDA and PyTorch on the GPUs; takes up to 90 seconds.</p>
<button id="doctor" type="button">Run the doctor</button>
<p id="doctor-said" role="status"></p><ol id="layers"></ol><div id="findings"></div></section>
"""
_LOG = """\
<section aria-labelledby="h-log"><h2 id="h-log">What the launcher said</h2>
<pre id="log" tabindex="0" role="region" aria-label="The launcher's last lines">…</pre></section>
"""
_END = "</main>\n</body>\n</html>\n"


def page(facts: Mapping[str, Any]) -> str:
    """Return the page; without facts that of a Jupyter which the launcher did not configure."""
    seen = "".join(_what_cuda_sees(facts)) if facts else ""
    parts = (_HEAD, *_notes(facts), _LIVE, *_programs(facts), _TOPOLOGY, seen, _DOCTOR, _LOG)
    return "".join((*parts, *_ways_in(facts), _END))


def _notes(facts: Mapping[str, Any]) -> Iterator[str]:
    yield '<div id="troubles" role="region" aria-label="What went wrong since" aria-live="polite">'
    yield "</div>\n"
    if not facts.get("notes"):
        return
    yield '<section aria-labelledby="h-notes"><h2 id="h-notes">What is not right</h2>\n'
    for note in facts["notes"]:
        yield f'<div class="note"><p><strong>{_text(note["what"])}</strong>: '
        yield f"{_text(note['means'])}</p>{_copied('fix', note['fix'])}</div>\n"
    yield "</section>\n"


def _programs(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield links to what runs, or starts when it is opened, below Jupyter's own address."""
    if not facts.get("programs"):
        return
    yield '<section aria-labelledby="h-programs"><h2 id="h-programs">Programs</h2>\n<ul>\n'
    for program in facts["programs"]:
        link = f'<a href="../{_text(program["path"])}">{_text(program["title"])}</a>'
        yield f"<li>{link}</li>\n"
    yield "</ul></section>\n"


def _what_cuda_sees(facts: Mapping[str, Any]) -> Iterator[str]:
    count = facts["devices"]
    yield '<section aria-labelledby="h-cuda"><h2 id="h-cuda">What CUDA sees, and why</h2>\n'
    yield f"<p>{_text(count)} device{'' if count == 1 else 's'}, as decided at the start.</p>\n"
    for remark in facts["remarks"]:
        yield f"<p>{_text(remark)}</p>\n"
    yield "<dl>\n"
    yield from _variables(var for var in facts["environment"] if var["name"].startswith("CUDA_"))
    yield f"<dt>Runs as</dt><dd>{_text(facts['runs_as'])}</dd>\n"
    yield f"<dt>Workspace</dt><dd><code>{_text(facts['workspace'])}</code></dd>\n</dl>\n"
    yield "<details><summary>The other variables that the launcher set</summary><dl>\n"
    others = (var for var in facts["environment"] if not var["name"].startswith("CUDA_"))
    yield from _variables(others)
    yield "</dl></details></section>\n"


def _variables(variables: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for var in variables:
        yield f"<dt><code>{_text(var['name'])}</code></dt>"
        yield f"<dd><code>{_text(var['value'])}</code><br>{_text(var['why'])}</dd>\n"


def _ways_in(facts: Mapping[str, Any]) -> Iterator[str]:
    ssh = facts.get("ssh")
    if not ssh:
        return
    yield '<section aria-labelledby="h-ssh"><h2 id="h-ssh">How to get in</h2>\n'
    if "off" in ssh:
        yield f"<p>{_text(ssh['off'])}</p>\n"
    else:
        if ssh["shut"]:
            yield f"<p>{_text(ssh['shut'])}</p>\n"
        yield _copied("SSH", ssh["command"])
        yield _copied("Host key", ssh["host_key"])
        yield _copied("For ~/.ssh/config, which VS Code reads", ssh["entry"])
    yield "</section>\n"


def _copied(label: str, value: str) -> str:
    """Return a text with a button beside it that page.js makes work."""
    name = _text(label)
    return (
        f'<div class="copied"><span>{name}</span><pre tabindex="0">{_text(value)}</pre>'
        f'<button type="button" class="copy" aria-label="Copy: {name}">Copy</button></div>\n'
    )


def _text(value: object) -> str:
    return escape(str(value))
