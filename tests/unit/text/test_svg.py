"""The picture of every machine: what it says, and that no word lies on another.

The places are read back from the SVG, as a browser reads them.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations
from xml.etree import ElementTree

import pytest

from launcher.gpus.topology import islands
from launcher.gpus.visibility import explain
from launcher.model.machine import GpuReport, LostGpu, Nic, Pair
from launcher.text import svg
from launcher.text.sheet import FONT_SIZE, WIDTH
from launcher.text.topology import topology_lines
from sim import driver
from testing import topologies
from testing.machines import answering, gpu, mig_gpu
from testing.values import replace

SVG = "{http://www.w3.org/2000/svg}"
_CHARACTER = 0.602 * FONT_SIZE  # DejaVu Sans Mono, the widest of the fonts that are named
_ASCENT, _DESCENT = 0.76 * FONT_SIZE, 0.24 * FONT_SIZE

# These have no GPU that answers, so there is nothing to draw.
SILENT = {"crash-init", "hung-init", "mismatch"}
MACHINES = sorted({path.stem for path in driver.MACHINES.glob("*.machine")} - SILENT)
NAMES = [*topologies.matrices(), *MACHINES]


@cache
def reports() -> dict[str, GpuReport]:
    paths = [driver.find(name) for name in MACHINES]
    read = topologies.read_machines(paths)
    return {**topologies.reports(), **dict(zip(MACHINES, read, strict=True))}


def cards_of_a_network(report: GpuReport) -> tuple[Nic, ...]:
    """Return as many network cards as GPUs: near ones, far ones and one nobody knows the way to."""
    ways = ("PIX", "PXB", "PHB", "NODE", "SYS")
    near = [
        Nic(f"mlx5_{one.index}", "0000:01:00.0", ((one.index, ways[one.index % len(ways)]),))
        for one in report.gpus
    ]
    return (*near, Nic("a_card_with_a_name_that_is_much_too_long_for_its_box", ""))


def draw(report: GpuReport, nics: tuple[Nic, ...] = (), visible: str | None = None) -> str:
    seen = None if visible is None else explain(visible, report, "PCI_BUS_ID")
    return svg.picture(report, nics, topology_lines(report, nics), seen)


def full(name: str) -> ElementTree.Element:
    """Return the picture with all that it can show: network cards, and all but one GPU visible."""
    report = reports()[name]
    visible = ",".join(one.uuid for one in report.gpus[1:])
    return ElementTree.fromstring(draw(report, cards_of_a_network(report), visible))


Area = tuple[float, float, float, float]  # left, top, right, bottom


def labels(root: ElementTree.Element) -> list[tuple[str, Area]]:
    found = []
    for element in root.iter(f"{SVG}text"):
        text = element.text or ""
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        width = len(text) * _CHARACTER
        left = x - width / 2 if element.attrib["text-anchor"] == "middle" else x
        if text:
            found.append((text, (left, y - _ASCENT, left + width, y + _DESCENT)))
    return found


def boxes(root: ElementTree.Element, *styles: str) -> list[Area]:
    found = []
    for element in root.iter(f"{SVG}rect"):
        if set(styles) & set(element.get("class", "").split()):
            x, y, width, height = (float(element.get(key, "0")) for key in _SIDES)
            found.append((x, y, x + width, y + height))
    return found


_SIDES = ("x", "y", "width", "height")


def overlap(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contains(outer: Area, inner: Area) -> bool:
    return (
        outer[0] <= inner[0] and outer[1] <= inner[1]
        and inner[2] <= outer[2] and inner[3] <= outer[3]
    )  # fmt: skip


# --- geometry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_no_label_lies_on_another(name: str) -> None:
    pairs = combinations(labels(full(name)), 2)
    assert [(one[0], other[0]) for one, other in pairs if overlap(one[1], other[1])] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_label_and_box_is_in_the_picture(name: str) -> None:
    root = full(name)
    whole = tuple(map(float, root.attrib["viewBox"].split()))
    places = [*labels(root), *(("box", box) for box in boxes(root, *_CARDS, "node", "switch"))]
    assert whole[2] == WIDTH
    assert [text for text, place in places if not contains(whole, place)] == []


_CARDS = ("gpu", "nic", "bar", "lost")


@pytest.mark.parametrize("name", NAMES)
def test_a_label_is_in_one_card_or_in_none(name: str) -> None:
    """None that runs over the edge of a card, and no card on another."""
    root = full(name)
    cards = boxes(root, *_CARDS)
    for text, place in labels(root):
        touched = [card for card in cards if overlap(card, place)]
        assert all(contains(card, place) for card in touched), text
        assert len(touched) <= 1, text
    assert not [both for both in combinations(cards, 2) if overlap(*both)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_framed_lies_in_its_node(name: str) -> None:
    root = full(name)
    nodes = boxes(root, "node")
    assert not [both for both in combinations(nodes, 2) if overlap(*both)]
    for inner in boxes(root, "switch", *_CARDS):
        assert sum(contains(node, inner) for node in nodes) == 1


def test_overlap_is_seen() -> None:
    assert overlap((0, 0, 10, 10), (9, 9, 20, 20))
    assert not overlap((0, 0, 10, 10), (10, 0, 20, 10))


# --- what it says ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_description_is_what_topo_prints(name: str) -> None:
    report, nics = reports()[name], cards_of_a_network(reports()[name])
    root = ElementTree.fromstring(draw(report, nics))
    title, described = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert described is not None
    assert (described.text or "").split("\n") == topology_lines(report, nics)
    assert root.attrib["role"] == "img"
    named = [title.attrib["id"], described.attrib["id"]]
    assert root.attrib["aria-labelledby"].split() == named


@pytest.mark.parametrize("name", NAMES)
def test_every_gpu_and_network_card_has_its_card(name: str) -> None:
    said = [text for text, _ in labels(full(name))]
    report = reports()[name]
    for one in report.gpus:
        assert f"GPU {one.index}" in said
    for number in range(len(report.gpus) + 1):
        assert [text for text in said if text.startswith(f"NIC{number} ")]


@pytest.mark.parametrize("name", NAMES)
def test_every_island_is_named_and_every_direct_link_drawn(name: str) -> None:
    root, report = full(name), reports()[name]
    joined = [island for island in islands(report) if len(island) > 1]
    said = [text for text, _ in labels(root)]
    assert sum(text.startswith("NVLink: ") for text in said) == len(joined)
    direct = [pair for pair in report.pairs if pair.nvlinks and pair.via == "direct"]
    behind = {index for pair in report.pairs if "switch" in (pair.via or "")
              for index in (pair.a, pair.b)}  # fmt: skip
    legend = [text for text in said if re.fullmatch(r"NV\d+: \d+ pairs?", text)]
    assert sum(int(text.split()[1]) for text in legend) == len(direct)
    assert len(list(root.iter(f"{SVG}line"))) == len(direct) + len(legend) + len(behind)


def test_what_cuda_sees_is_marked_in_words_and_the_rest_is_hidden() -> None:
    report = answering(gpu(0), gpu(1), gpu(2))
    visible = f"{report.gpus[2].uuid},{report.gpus[0].uuid}"
    said = [text for text, _ in labels(ElementTree.fromstring(draw(report, (), visible)))]
    assert [text for text in said if text in ("CUDA 0", "CUDA 1", "hidden")] == [
        "CUDA 1", "hidden", "CUDA 0",
    ]  # fmt: skip


def test_nothing_is_marked_where_nobody_knows_what_cuda_sees() -> None:
    picture = draw(answering(gpu(0), gpu(1)))
    assert not [text for text, _ in labels(ElementTree.fromstring(picture)) if "CUDA" in text]
    assert 'class="gpu"' in picture


def test_instances_that_are_seen_are_counted() -> None:
    report = answering(mig_gpu(0, 3))
    visible = report.gpus[0].mig_devices[1].uuid
    said = [text for text, _ in labels(ElementTree.fromstring(draw(report, (), visible)))]
    assert "MIG: 1 of 3" in said


def test_a_lost_gpu_is_there_with_its_error() -> None:
    report = answering(gpu(0), lost=(LostGpu(1, "GPU is lost", 15),))
    root = ElementTree.fromstring(draw(report))
    assert "GPU 1: GPU is lost" in [text for text, _ in labels(root)]
    assert len(boxes(root, "lost")) == 1


def test_gpus_at_one_switch_are_framed_together() -> None:
    root = ElementTree.fromstring(draw(reports()["gpu-4x-pxb-pix-sys"]))
    said = [text for text, _ in labels(root)]
    assert said.count("PCIe switch (PIX)") == said.count("PCIe switches (PXB)") == 1
    frames = boxes(root, "switch")
    assert [sum(contains(frame, card) for card in boxes(root, "gpu")) for frame in frames] == [2, 2]


def test_a_network_card_stands_beside_its_nearest_gpu() -> None:
    pairs = (Pair(0, 1, path="SYS"), Pair(0, 2, path="SYS"), Pair(1, 2, path="PIX"))
    report = replace(
        answering(gpu(0, numa_node=0), gpu(1, numa_node=1), gpu(2, numa_node=1)), pairs=pairs
    )
    nics = (
        Nic("near", "", ((0, "SYS"), (1, "PIX"), (2, "PIX"))),
        Nic("node", "", ((0, "NODE"), (1, "SYS"), (2, "SYS"))),
        Nic("far", "", ((0, "SYS"), (1, "SYS"), (2, "SYS"))),
    )
    root = ElementTree.fromstring(draw(report, nics))
    near, node, far = (
        next(place for text, place in labels(root) if text.endswith(name))
        for name in ("near", "node", "far")
    )
    first, second, elsewhere = boxes(root, "node")
    assert contains(boxes(root, "switch")[0], near)
    assert contains(second, near)
    assert contains(first, node)
    assert contains(elsewhere, far)


def test_names_of_the_driver_are_data() -> None:
    name = "<script>alert(1)</script>&\x1b[2J\"'\u202e"
    picture = draw(answering(gpu(0, name)), (Nic("<b>&", "]]>"),), "0")
    root = ElementTree.fromstring(picture)  # raises where it is no XML
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text",
    }  # fmt: skip


def test_it_asks_nobody_for_anything() -> None:
    picture = draw(reports()["h100-8x"])
    addresses = re.findall(r"\w+://[^\"]+", picture)
    assert addresses == ["http://www.w3.org/2000/svg"]  # a namespace, which nobody opens
    assert not [word for word in ("@import", "url(", "<script", "href") if word in picture]


# --- colours -----------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """Return the relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(part * one for part, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [svg.LIGHT, svg.DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out(palette: dict[str, str]) -> None:
    behind = [palette[name] for name in ("back", "node", "switch", "card", "seen")]
    assert min(contrast(palette["text"], one) for one in behind) >= 4.5
    assert contrast(palette["odd"], palette["back"]) >= 4.5
    for line in ("edge", "link"):
        assert min(contrast(palette[line], palette[one]) for one in ("back", "node", "card")) >= 3


def rules() -> dict[str, str]:
    """Return the rules of the style, by what they are for; those for a dark screen last."""
    style = ElementTree.fromstring(draw(answering(gpu(0)))).find(f"{SVG}style")
    assert style is not None
    text = style.text or ""
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert 0 <= depth <= 2, text
    assert depth == 0, text
    plain, _, dark = text.partition("@media screen and (prefers-color-scheme:dark){")
    found = dict(re.findall(r"([^{}]+){([^{}]*)}", plain + dark.partition("}}")[2]))
    found = {name.strip(): body for name, body in found.items()}
    return {**found, "dark": dark.partition("}}")[0].removeprefix("svg.topology{")}


def test_each_colour_that_is_used_is_in_both_palettes() -> None:
    style = rules()
    used = {name for body in style.values() for name in re.findall(r"var\(--(\w+)\)", body)}
    assert used == set(svg.LIGHT) == set(svg.DARK)
    for name in used:
        assert f"--{name}:{svg.LIGHT[name]}" in style["svg.topology"]
        assert f"--{name}:{svg.DARK[name]}" in style["dark"]


def test_every_class_has_a_style() -> None:
    root = full("dgx1-v100-8x")
    styled = set(re.findall(r"\.(\w+)", " ".join(rules())))
    assert {name for one in root.iter() for name in one.get("class", "").split()} <= styled


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
