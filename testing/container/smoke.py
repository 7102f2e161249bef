"""What every image of the family has to do, whatever is in it: a box that somebody uses."""

from __future__ import annotations

from testing.container import kernel
from testing.container.box import Boxes

CELL = "import torch; x = torch.ones(8, 8); print(torch.__version__, int((x @ x).sum()))"


def smoke(start: Boxes) -> str:
    """Start a box, compute in a cell, ask its commands; return what the cell says of PyTorch."""
    box = start()
    banner = box.wait_for_banner(timeout=300)
    assert " Ready " in banner
    version, total = kernel.connect(box).run_cell(CELL).split()
    assert int(total) == 8**3
    assert version.split("+")[0] in box.exec("launcher", "--version").stdout
    assert box.exec("launcher", "healthcheck").returncode == 0
    assert "running" in box.exec("launcher", "status").stdout
    assert box.exec("python", "-m", "pip", "--version", user="dev").stdout.startswith("pip ")
    return version
