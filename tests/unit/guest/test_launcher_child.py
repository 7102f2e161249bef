"""What every program of ours in the user's Python does first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
ALONE = {"rank": 0, "world": 1, "seconds": 5, "node": 0, "backend": "gloo", "local": 0}


@pytest.mark.parametrize("safe", ["", "1"])
@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("verify.py", (), "error"),
        ("all_reduce.py", (json.dumps(ALONE),), "error"),
        ("collective.py", ("0", "1", "/nonexistent", "gloo", "4096"), "reason"),
    ],
)
def test_the_users_modules_are_never_ours(
    tmp_path: Path, program: str, arguments: tuple[str, ...], says: str, safe: str
) -> None:
    """`cuda` is NVIDIA's package on PyPI; ours in that folder must not stand in for it."""
    (tmp_path / "torch.py").write_text("import cuda; raise ImportError(cuda.__file__)")
    (tmp_path / "cuda.py").touch()
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": safe}
    command = [sys.executable, str(GUEST / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said[says] == str(tmp_path / "cuda.py"), done.stderr
