"""The images of the family: what `make image VARIANT=…` and docker-bake.hcl build, as one table."""

from __future__ import annotations

from typing import NamedTuple


class Variant(NamedTuple):
    """One image: its tag, and the Dockerfile's build arguments."""

    tag: str
    arguments: dict[str, str]


NEWEST = "torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0"
# The ordinary index has none of these: TORCH_INDEX names PyTorch's own, which its install page has.
CPU = "torch==2.6.0+cpu torchvision==0.21.0+cpu torchaudio==2.6.0+cpu"

VARIANTS: dict[str, Variant] = {
    "cuda": Variant("v2.6", {}),
    "slim": Variant("v2.6-slim", {"FLAVOR": "slim"}),
    "cpu": Variant("v2.6-cpu", {"TORCH": CPU}),
    "latest": Variant("v2.14", {"TORCH": NEWEST}),
    "devel": Variant("v2.14-devel", {"TORCH": NEWEST, "FLAVOR": "devel"}),
}
DEFAULT = "cuda"
