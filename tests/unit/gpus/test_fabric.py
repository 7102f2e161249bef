"""GPUs that NVLink joins worse than their equals: named, and left out while others suffice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from launcher.checks import judge
from launcher.gpus.fabric import TROUBLES, left_out
from launcher.gpus.oddities import oddities
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport
from launcher.plan.devices import plan_devices
from sim import description, driver
from testing.evidences import fails
from testing.machines import machine, settings
from testing.printed import NAMES
from testing.topologies import read_texts, reports

Changes = Mapping[str, Mapping[str, str | None]]

H100, DGX1, BRIDGE = (
    driver.find(name).read_text() for name in ("h100-8x", "dgx1-v100-8x", "rtx3090-2x-nvlink")
)
IDS = {trouble.id for trouble in TROUBLES}
LINKS = ("nvlink 0-3", "nvlink 4-7", "nvlink 8-12", "nvlink 13-17")


def read(text: str, changes: Changes) -> GpuReport:
    (report,) = read_texts([description.edit(text, changes)])
    return report


def said(report: GpuReport) -> dict[str, str]:
    """Return what `launcher topo` says of NVLinks, by its id."""
    return {odd.id: odd.what for odd in oddities(report) if odd.id in IDS}


def warned(report: GpuReport, cuda_fails: bool = False) -> list[str]:
    """Return what the banner and the doctor warn of."""
    seen = Evidence(machine(report), {})
    if cuda_fails:
        seen = seen._replace(trials=(fails(802, "CUDA_ERROR_SYSTEM_NOT_READY"),))
    return [finding.id for finding in judge(seen).warnings if finding.id in IDS]


def chosen(report: GpuReport, wanted: str) -> tuple[list[int], str]:
    plan = plan_devices(report, settings({"LAUNCHER_GPUS": wanted}))
    visible = plan.environment[-1]
    return [int(index) for index in visible.value.split(",")], visible.why


def unreached(*gpus: int, count: int = 8) -> dict[str, str]:
    """Return the rows of P2P over NVLink in which these reach nobody."""
    return {
        str(a): " ".join(
            "X" if a == b else "NS" if {a, b} & set(gpus) else "OK" for b in range(count)
        )
        for a in range(count)
    }


def bridged(to: str, up: int) -> dict[str, str | None]:
    """Return the links of a card of which `up` lead to the other one, and the rest are down."""
    ends = [f"enabled, gpu 00000000:{to}:00.0, p2p"] * up + ["disabled"] * (4 - up)
    return {"nvlink 0-3": None, **{f"nvlink {link}": end for link, end in enumerate(ends)}}


# --- silence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("h20-")])
def test_real_machines_are_in_order(name: str) -> None:
    report = reports()[name]
    assert (said(report), warned(report), left_out(report)) == ({}, [], {})


@pytest.mark.parametrize("name", sorted(path.stem for path in driver.MACHINES.glob("[adhr]*")))
def test_simulated_machines_are_in_order(name: str) -> None:
    if name == "hung-init":
        pytest.skip("it never answers")
    assert said(read(driver.find(name).read_text(), {})) == {}


@pytest.mark.parametrize("down", [("nvlink 0-3",), LINKS[1:]])
def test_where_all_alike_have_links_down_nothing_is_said(down: tuple[str, ...]) -> None:
    report = read(H100, {"gpu *": dict.fromkeys(down, "disabled")})
    assert (said(report), warned(report), left_out(report)) == ({}, [], {})


def test_a_card_with_two_bridges_of_three_is_in_order() -> None:
    """As an H100 NVL, which has 18 links and 12 of them in its connectors."""
    nvl = {"name": "NVIDIA H100 NVL", "nvlink 4-7": "disabled", "nvlink 8-11": "disabled"}
    assert said(read(BRIDGE, {"gpu *": nvl})) == {}


def test_cards_without_a_bridge_are_in_order() -> None:
    down = {"nvlink 0-3": "disabled"}
    assert said(read(BRIDGE, {"gpu 0": down, "gpu 1": down})) == {}


def test_two_partitions_are_on_purpose() -> None:
    other = {"fabric_clique_id": "7"}
    report = read(H100, {f"gpu {index}": other for index in range(4)})
    assert said(report) == {}


def test_instances_need_no_fabric() -> None:
    changes = {"gpu *": {"fabric_state": "not-started", "mig_mode": "enabled"}}
    report = read(H100, {**changes, "p2p nvlink": unreached(*range(8))})
    assert (said(report), warned(report)) == ({}, [])


def test_a_lone_gpu_has_nobody_to_reach() -> None:
    (text,) = [description.select(H100, {3: None})]
    assert said(read(text, {"gpu 0": {"fabric_status": "999"}})) == {}


# --- outside the fabric ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        (
            {"gpu 2": {"fabric_status": "999"}, "p2p nvlink": unreached(2)},
            "18 NVLinks are up (fabric: completed, status 999)",
        ),
        ({"gpu 2": {"fabric_status": "999"}}, "18 NVLinks are up (fabric: completed, status 999)"),
        ({"gpu 2": {"fabric_state": "in-progress"}}, "18 NVLinks are up (fabric: in progress)"),
        ({"gpu 2": {"fabric_clique_id": "7"}}, "18 NVLinks are up (fabric: completed)"),
        ({"p2p nvlink": unreached(2)}, "18 NVLinks are up (fabric: completed)"),
        (  # an A100 board says nothing of its fabric
            {"gpu *": {"fabric_state": None}, "p2p nvlink": unreached(2)},
            "18 NVLinks are up",
        ),
        (
            {"gpu 2": dict.fromkeys(LINKS, "disabled")},
            "no NVLink is up (fabric: completed)",
        ),
    ],
    ids=["both", "status", "state", "clique", "p2p", "a100", "down"],
)
def test_one_gpu_outside_the_fabric_of_its_siblings(changes: Changes, seen: str) -> None:
    report = read(H100, changes)
    told = any(pair.nvlinks and 2 in (pair.a, pair.b) for pair in report.pairs)
    what = f"GPU 2: {seen}; by NVLink it reaches none of its siblings"
    what += ", whatever links and matrix say" if told else ""
    found = {trouble.id: trouble.finding(report) for trouble in TROUBLES}
    assert {name: one.what for name, one in found.items() if one} == {"driver.off_fabric": what}
    fix = found["driver.off_fabric"].fix  # type: ignore[union-attr]
    assert "--gpu-reset -i 00000000:3A:00.0" in fix
    assert fix.endswith("until then LAUNCHER_GPUS=0,1,3,4,5,6,7")
    said_already = judge(Evidence(machine(report), {})).failure is not None
    assert warned(report) == ([] if said_already else ["driver.off_fabric"])


@pytest.mark.parametrize("wanted", ["1", "2", "4", "7"])
def test_the_best_n_go_without_it_while_others_suffice(wanted: str) -> None:
    report = read(H100, {"gpu 0": {"fabric_status": "999"}, "p2p nvlink": unreached(0)})
    gpus, why = chosen(report, wanted)
    assert 0 not in gpus
    assert "; without GPU 0, outside the NVLink fabric" in why


def test_where_they_do_not_suffice_it_comes_along() -> None:
    report = read(H100, {"gpu 0": {"fabric_status": "999"}, "gpu 5": {"fabric_status": "999"}})
    gpus, why = chosen(report, "7")
    assert {1, 2, 3, 4, 6, 7} < set(gpus), "those in the fabric first"
    assert why.count("without GPU") == 1
    gpus, why = chosen(report, "8")
    assert (gpus, "without" in why) == (list(range(8)), False)
    gpus, why = chosen(report, "all")
    assert (gpus, "without" in why) == (list(range(8)), False)


def test_of_two_the_one_that_was_not_taken_is_named() -> None:
    """Neither reaches the other: what each says of itself tells them apart."""
    text = description.select(H100, {0: None, 1: None})
    report = read(text, {"gpu 1": {"fabric_status": "999"}, "p2p nvlink": unreached(1, count=2)})
    assert said(report)["driver.off_fabric"].startswith("GPU 1: 18 NVLinks are up (fabric: comp")
    assert left_out(report) == {1: "outside the NVLink fabric"}
    assert oddities(report)[0].fix.endswith("LAUNCHER_GPUS=index:0")


# --- a board without a fabric --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "seen"),
    [
        ({"fabric_state": "in-progress"}, " (fabric: in progress)"),
        ({"fabric_state": "not-started"}, " (fabric: not started)"),
        ({"fabric_status": "999"}, " (fabric: completed, status 999)"),
        ({"fabric_state": None}, ""),
    ],
)
def test_a_board_on_which_nobody_reaches_anybody(every: dict[str, str | None], seen: str) -> None:
    report = read(H100, {"gpu *": every, "p2p nvlink": unreached(*range(8))})
    assert said(report) == {
        "driver.fabric_down": f"GPUs 0-7: 18 NVLinks are up{seen}; "
        "by NVLink nobody on this board reaches anybody"
    }
    assert left_out(report) == {}
    assert "without" not in chosen(report, "2")[1]


def test_it_is_a_warning_where_cuda_does_not_fail_for_it() -> None:
    slow = {"gpu *": {"fabric_state": "in-progress"}, "p2p nvlink": unreached(*range(8))}
    report = read(H100, slow)
    seen = Evidence(machine(report), {})
    assert judge(seen).failure.id == "driver.fabric_manager"  # type: ignore[union-attr]
    assert (warned(report), warned(report, cuda_fails=True)) == ([], []), "said by the failure"
    works = seen._replace(trials=(fails(802, "")._replace(outcome="ok", code=None),))
    assert [one.id for one in judge(works).warnings if one.id in IDS] == ["driver.fabric_down"]


def test_links_that_are_down_everywhere_are_said_once() -> None:
    down = {"gpu *": dict.fromkeys(LINKS, "disabled")}
    report = read(H100, down)
    assert [odd.id for odd in oddities(report)] == ["topology.nvlinks_down"]
    assert warned(report) == ["driver.fabric_down"]


# --- unhealthy, or fewer links -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (0x1, "its bandwidth is degraded"),
        (0x4, "its routes are being recovered"),
        (0x10, "a route is unhealthy"),
        (0x40, "it recovers from access timeouts"),
        (0x500, "too few NVLinks"),
        (0x8000, "the fabric manager is not connected"),
        (0x511, "its bandwidth is degraded, a route is unhealthy, too few NVLinks"),
    ],
)
def test_the_health_mask_in_words(mask: int, seen: str) -> None:
    report = read(H100, {"gpu 4": {"fabric_health_mask": hex(mask)}})
    text = f"GPU 4: {seen} (fabric health mask {mask:#x})"
    assert said(report) == {"driver.fabric_unhealthy": text}
    assert warned(report) == ["driver.fabric_unhealthy"]
    gpus, why = chosen(report, "5")
    assert 4 not in gpus
    assert "without GPU 4, its fabric is not healthy" in why


@pytest.mark.parametrize("mask", ["0", "0x1aa", "0x51aa"])
def test_a_mask_that_is_well(mask: str) -> None:
    assert said(read(H100, {"gpu 4": {"fabric_health_mask": mask}})) == {}


def test_fewer_links_than_its_equals() -> None:
    report = read(
        H100,
        {
            "gpu 3": {
                "nvlink 13-17": None,
                "nvlink 13-15": "enabled, switch 00000000:0A:00.0, p2p",
                "nvlink 16-17": "disabled",
            }
        },
    )
    text = "GPU 3: 16 of 18 NVLinks are up, its equals have 18 (00000000:5D:00.0)"
    assert said(report) == {"hardware.fewer_nvlinks": text}
    assert warned(report) == ["hardware.fewer_nvlinks"]
    gpus, why = chosen(report, "1")
    assert gpus == [0]
    assert "without GPU 3, fewer NVLinks than its equals" in why


def test_a_link_of_a_mesh_that_is_down_has_two_ends() -> None:
    report = read(DGX1, {"gpu 0": {"nvlink 0": "disabled"}, "gpu 1": {"nvlink 0": "disabled"}})
    assert list(said(report)) == ["hardware.fewer_nvlinks"]
    assert set(left_out(report)) == {0, 1}


@pytest.mark.parametrize(("up", "seen"), [(3, "3 of 4"), (2, "2 of 4"), (1, "1 of 4")])
def test_a_bridge_with_links_down(up: int, seen: str) -> None:
    report = read(BRIDGE, {"gpu 0": bridged("0B", up), "gpu 1": bridged("0A", up)})
    assert said(report)["hardware.fewer_nvlinks"] == (
        f"GPU 0: {seen} links of its bridge are up (00000000:0A:00.0); "
        f"GPU 1: {seen} links of its bridge are up (00000000:0B:00.0)"
    )


def test_a_mesh_of_cards_of_an_unknown_kind_has_no_bridges() -> None:
    """Six links each, to several others: what is left over of four is no half a bridge."""
    assert said(read(DGX1, {"gpu *": {"name": "NVIDIA Something"}})) == {}


@pytest.mark.parametrize(("count", "seen"), [("1", "once"), ("7", "7 times")])
def test_links_that_had_to_recover(count: str, seen: str) -> None:
    errors = {"link_recovery_errors": count, "link_replay_errors": "12"}
    report = read(H100, {"gpu 6": errors})
    text = f"its NVLinks had to recover {seen} since the driver took it (12 replays, 0 CRC errors)"
    assert said(report) == {"hardware.nvlink_errors": f"GPU 6: {text}"}
    assert warned(report) == ["hardware.nvlink_errors"]
    assert left_out(report) == {}


def test_replays_and_crc_errors_alone_are_how_links_work() -> None:
    errors = {"link_recovery_errors": "0", "link_replay_errors": "5", "link_crc_errors": "9"}
    report = read(H100, {"gpu *": errors})
    assert report.gpus[0].nvlink_errors == (0, 5, 9)
    assert said(report) == {}
