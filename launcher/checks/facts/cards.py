"""What the PCI bus alone tells of NVIDIA cards.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from launcher.model.machine import PciDevice

# Device ids grow with the generations.  Turing begins with TU102, 1e02 (the list of supported
# GPUs in NVIDIA/open-gpu-kernel-modules); Blackwell with GB100, 2900 (NVIDIA/gpu-admin-tools,
# gpu/devid_chips.py), and what came after it has higher ids still.
_FIRST_TURING = 0x1E00
_FIRST_BLACKWELL = 0x2900


def card_name(card: PciDevice) -> str:
    """Return "NVIDIA GeForce RTX 4090"; pci.ids has the chip before it: "AD102 [GeForce …]"."""
    if not card.name:
        return f"NVIDIA GPU (10de:{card.device_id})"
    bracketed = re.search(r"\[(.+)\]", card.name)
    return f"NVIDIA {bracketed[1] if bracketed else card.name}"


def in_words(cards: Sequence[PciDevice]) -> str:
    """Return the first card's name and address, and how many more there are."""
    text = f"{card_name(cards[0])} at {cards[0].address}"
    return text if len(cards) == 1 else f"{text} and {len(cards) - 1} more"


def before_turing(cards: Iterable[PciDevice]) -> tuple[PciDevice, ...]:
    """Return the cards that NVIDIA's open kernel module, and any after branch 580, cannot drive."""
    return tuple(card for card in cards if 0 <= _number(card) < _FIRST_TURING)


# Device ids of Fermi, which Kepler's, from 0fc0 on, lie between; Maxwell begins with GM108, 1340
# (pci.ids; NVIDIA, "Legacy GPU": 390 and 470 are the last branches for them).
_FIRST_KEPLER, _FIRST_MAXWELL = 0x0FC0, 0x1340
_FERMI_AMONG_KEPLER = (range(0x1040, 0x1180), range(0x1200, 0x1280))
LAST_BRANCH = 580  # for Maxwell, Pascal and Volta


def last_branch(cards: Iterable[PciDevice]) -> int:
    """Return the last branch of the driver for the oldest of these cards, none after Volta."""
    return min((_last_branch(_number(card)) for card in cards), default=LAST_BRANCH)


def _last_branch(number: int) -> int:
    if not 0 <= number < _FIRST_MAXWELL:
        return LAST_BRANCH
    fermi = number < _FIRST_KEPLER or any(number in ids for ids in _FERMI_AMONG_KEPLER)
    return 390 if fermi else 470


def blackwell_or_later(cards: Iterable[PciDevice]) -> tuple[PciDevice, ...]:
    """Return the cards that only NVIDIA's open kernel module drives."""
    return tuple(card for card in cards if _number(card) >= _FIRST_BLACKWELL)


def _number(card: PciDevice) -> int:
    try:
        return int(card.device_id, 16)
    except ValueError:  # sysfs did not tell
        return -1
