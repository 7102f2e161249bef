"""Mounts where no program may run: one note, and what is compiled goes elsewhere."""

from __future__ import annotations

import pytest

from launcher.model.host import Mount
from launcher.model.machine import GpuReport
from launcher.plan.noexec import noexec_notes, plan_compiled
from testing.machines import DEV, machine

LAYER = Mount("/", "overlay")
TMP = Mount("/tmp", "tmpfs", programs=False)
HOME = Mount("/home/dev", "nfs4", programs=False)
WORK = Mount("/workspace", "ext4", programs=False)
INDUCTOR, TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"


@pytest.mark.parametrize(
    ("mounts", "environ", "moved"),
    [
        ((LAYER,), {}, {}),
        ((), {}, {}),
        ((LAYER, TMP), {}, {INDUCTOR: "/home/dev/.cache/torchinductor"}),
        ((LAYER, TMP), {INDUCTOR: "/mine"}, {}),
        ((LAYER, HOME), {}, {TRITON: "/workspace/.cache/triton",
                             "TORCH_EXTENSIONS_DIR": "/workspace/.cache/torch_extensions"}),
        ((LAYER, TMP, HOME, WORK), {}, {}),
        ((LAYER, TMP, Mount("/tmp", "ext4")), {}, {}),
    ],
)  # fmt: skip
def test_what_is_moved(mounts, environ, moved) -> None:
    box = machine(GpuReport(), mounts=mounts).host
    made = plan_compiled(box, DEV, "/workspace", environ, writable=True)
    assert {var.name: var.value for var in made} == moved


def test_it_is_said_once_with_what_mends_the_first() -> None:
    def notes(*mounts: Mount):
        box = machine(GpuReport(), mounts=(LAYER, *mounts)).host
        return list(noexec_notes(box, DEV, "/workspace"))

    assert notes() == []
    (of_tmp,) = notes(TMP, HOME, WORK)
    assert of_tmp.what == "no program may run on /tmp, /home/dev, /workspace (noexec)"
    assert "docker run --tmpfs /tmp:exec" in of_tmp.fix
    (of_home,) = notes(HOME)
    assert "remount,exec" in of_home.fix
    assert "/home/dev" in of_home.fix
