"""What the page shows of the plan, from the plan to HTML: all of it, escaped, and no secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from launcher.model.plan import EnvVar, Finding, Plan
from launcher.render.page import page_facts
from testing.machines import CASES, PASSWORD, TOKEN
from testing.values import replace

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
HOSTILE = "<script>alert('x')</script>"


def shown(plan: Plan) -> str:
    """Return the page, as Jupyter's own Python makes it."""
    program = "import json, sys, launcher_page_html as made; print(made.page(json.load(sys.stdin)))"
    run = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(page_facts(plan)), text=True,
        env={"PYTHONPATH": str(GUEST)}, capture_output=True, check=True,
    )  # fmt: skip
    return run.stdout


def test_what_was_decided_and_why() -> None:
    plan = CASES["h100-8x"].plan()
    page = shown(plan)
    for var in plan.environment:
        assert var.name in page
    assert "8 devices, as decided" in page
    assert plan.ssh
    assert f'<pre tabindex="0">{plan.ssh.command}</pre>' in page
    assert "SHA256:" in page


def test_that_nobody_can_log_in_is_said() -> None:
    plan = CASES["h100-8x"].plan()
    assert plan.ssh
    shut = replace(plan.ssh, keys=(), password=None, password_why="it is read-only")
    page = shown(replace(plan, ssh=shut))
    assert "At the start nobody can log in: no key, and no password (it is read-only)" in page
    assert plan.ssh.command in page, "keys may be added later"
    assert "nobody can log in" not in shown(plan)


def test_no_secret() -> None:
    variables = (EnvVar("HF_TOKEN", "of-mine", "as given"), EnvVar("A", "hf_" + "x" * 30, "why"))
    for case in CASES.values():
        page = shown(replace(case.plan(), environment=variables))
        for secret in (TOKEN, PASSWORD, "of-mine", "hf_xxx"):
            assert str(secret) not in page


def test_texts_are_data() -> None:
    plan = CASES["h100-8x"].plan()
    note = Finding("a.b", HOSTILE, HOSTILE, HOSTILE)
    variable = EnvVar("X", HOSTILE, HOSTILE)
    page = shown(replace(plan, notes=(note,), environment=(variable,), device_remarks=(HOSTILE,)))
    assert "alert(" in page
    assert HOSTILE not in page


def test_a_note_has_its_fix_to_copy() -> None:
    note = Finding("a.b", "it is odd", "slow", "docker run --more")
    page = shown(replace(CASES["h100-8x"].plan(), notes=(note,)))
    assert re.search(r"docker run --more</pre><button[^>]*aria-label=\"Copy: fix\"", page)


def test_every_part_has_a_heading_of_its_own_and_ids_are_unique() -> None:
    page = shown(CASES["h100-8x"].plan())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    script = (GUEST / "page.js").read_text()
    assert set(re.findall(r'byId\("([^"]+)"\)|say\("([^"]+)"', script)) <= {
        pair for name in ids for pair in ((name, ""), ("", name))
    }


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, "relative luminance")."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read_in_the_light_and_in_the_dark() -> None:
    css = (GUEST / "page.css").read_text()
    palettes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(palettes) == 2
    for colors in palettes:
        for back in (colors["back"], colors["card"]):
            for name in ("text", "soft", "well", "odd", "accent"):
                assert contrast(colors[name], back) >= 4.5, name
            for name in ("edge", "bar"):
                assert contrast(colors[name], back) >= 3, name
