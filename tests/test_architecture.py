"""The rules of docs/architecture.md, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAUNCHER = ROOT / "launcher"
MODULES = {path.stem: path for path in sorted(LAUNCHER.glob("*.py")) if path.stem != "__init__"}
MODULES["checks"] = LAUNCHER / "checks" / "__init__.py"
# The table of checks has a file for each layer; what they share is in these two.
CHECKS = sorted((LAUNCHER / "checks").glob("[!_]*.py"))
GUEST = sorted((LAUNCHER / "guest").glob("*.py"))
EVERY_FILE = [*MODULES.values(), *CHECKS, *GUEST, LAUNCHER / "__init__.py"]

PURE = {
    "errors", "model", "host", "machine", "codec", "checks", "plan", "access", "notes", "render",
    "report", "banner", "hostkey", "devices", "threads", "topology", "selection", "oddities",
    "topo", "visibility", "visible_entries", "record", "evidence", "diagnosis",
    "identity", "name_files", "shortcomings",
    "settings", "peer_names", "outside", "caches", "environment", "doors", "jupyter_config",
    "sshd_config", "hub", "restarts", "gpu_changes", "news", "status",
}  # fmt: skip
PURE_FILES = [MODULES[module] for module in sorted(PURE)] + CHECKS
EFFECTS = {
    "os", "io", "pathlib", "shutil", "subprocess", "socket", "signal", "time", "datetime", "random",
    "secrets", "pynvml", "paramiko", "torch",
}  # fmt: skip

# Each of these has one module that may import it, and a reason to be there.
ONLY_IN = {
    "pynvml": {"nvml", "nvml_fields", "nvml_links"},
    "supervisor": {"box_options", "program_output", "supervise", "supervised"},
    "paramiko": {"ready"},
    "torch": set(),
}

# What each module may import of ours.  A stage imports values (model, errors), formats (codec)
# and tools, never another stage; only these three know the order of the stages.
CONDUCTORS = {"cli", "doctor", "pipeline", "start"}
MAY_IMPORT = {
    "errors": set(),
    "host": set(),
    "machine": {"host"},
    "model": {"host"},
    "hostkey": set(),
    "processes": set(),
    "programs": set(),
    "pump": set(),
    "help": set(),
    "accepts": {"model", "programs"},
    "codec": {"model"},
    "settings": {"accepts", "model"},
    "key_sources": {"hostkey", "model"},
    "folders": {"errors"},
    "environ": {"folders"},
    "peer_names": set(),
    "config": {
        "accepts", "environ", "errors", "folders", "key_sources", "model", "outside", "peer_names",
        "settings",
    },
    # detect; the three of NVML and `locality` are parts of it
    "nvml_fields": set(),
    "nvml_links": {"machine", "nvml_fields"},
    "nvml": {"machine", "nvml_fields", "nvml_links"},
    "locality": {"detect", "machine"},
    "mounts": {"host"},
    "accounts": {"host"},
    "detect": {"accounts", "host", "machine", "mounts"},
    "driver": {"codec", "detect", "host", "init", "locality", "machine", "nvml"},
    # what the machine means
    "topology": {"machine"},
    "selection": {"machine", "topology"},
    "visible_entries": {"machine"},
    "visibility": {"machine", "visible_entries"},
    "oddities": {"machine", "model", "topology"},
    "checks": {"checks", "evidence", "model"},
    "evidence": {"host", "machine"},
    # the doctor's evidence
    "bounded": {"become", "host", "processes"},
    "inventory": {"evidence"},
    "trials": {"bounded", "codec", "evidence", "host", "inventory", "machine", "visibility"},
    "probe": {"bounded", "codec", "detect", "evidence", "host", "inventory", "machine", "trials"},
    "record": {"machine"},
    # plan; `devices`, `threads`, `notes`, `access` and `environment` are parts of it
    "environment": {"model", "settings"},
    "devices": {
        "errors", "machine", "model", "selection", "settings", "topology", "visibility",
    },
    "threads": {"machine", "model"},
    "identity": {"errors", "host", "model", "settings"},
    "shortcomings": {"host", "identity", "model", "settings"},
    "notes": {
        "checks", "evidence", "host", "hostkey", "machine", "model", "settings", "shortcomings",
    },
    "access": {"errors", "hub", "machine", "model", "outside", "settings", "shortcomings"},
    "outside": {"accepts", "model"},
    "caches": {"host", "model"},
    "hub": {"errors", "model"},
    "plan": {
        "access", "caches", "devices", "environment", "errors", "identity", "machine", "model",
        "notes", "programs", "settings", "threads",
    },
    # render
    "doors": {"environment", "model"},
    "jupyter_config": {"model"},
    "sshd_config": {"doors", "model"},
    "name_files": {"host", "model"},
    "render": {"codec", "doors", "jupyter_config", "machine", "model", "sshd_config"},
    # say
    "report": {"evidence", "machine", "model"},
    "diagnosis": {"checks", "codec", "evidence", "model", "report"},
    "banner": {"caches", "host", "hostkey", "machine", "model", "report", "topology", "watched"},
    "topo": {"machine", "model", "oddities", "report", "topology"},
    # run
    "become": {"codec", "errors", "model", "processes"},
    "home": {"model", "name_files", "service"},
    "hooks": {"become", "errors", "folders", "processes", "pump"},
    "post_start": {"become", "codec", "model"},
    "preparation": {
        "become", "certificate", "environ", "errors", "home", "host", "identity", "machine",
        "model", "post_start", "render", "service", "settings",
    },
    "certificate": {"errors", "model", "service", "settings"},
    "control": {"errors", "programs"},
    "ssh_keys": {"hostkey", "model"},
    "service": {"errors", "key_sources", "model", "ssh_keys"},
    "init": {"become", "errors", "processes", "pump"},
    "command": {"become", "init", "processes"},
    "restarts": set(),
    "out_of_memory": {"detect"},
    "drop_ins": {"errors", "model", "programs"},
    "program_output": set(),
    "supervised": {"drop_ins", "init", "out_of_memory", "programs", "restarts"},
    "box_options": {
        "become", "drop_ins", "environ", "errors", "model", "out_of_memory", "program_output",
        "pump", "running", "service", "supervised",
    },
    "supervise": {
        "become", "box_options", "codec", "drop_ins", "environ", "errors", "model", "programs",
        "pump", "service",
    },
    # watch
    "watched": {"errors"},
    "ready": {"hostkey", "model", "watched"},
    "health": {"watched"},
    "news": {"programs", "watched"},
    "roll_call": {"environ"},
    "gpu_changes": {"machine", "model"},
    "gpu_look": {
        "checks", "codec", "detect", "evidence", "gpu_changes", "machine", "model", "nvml", "probe",
        "report",
    },
    "gpu_watch": {"gpu_look", "machine", "news", "roll_call", "watched"},
    "announce": {
        "banner", "checks", "codec", "errors", "machine", "model", "probe", "programs", "ready",
        "report", "service", "ssh_keys", "sshd_config", "watched",
    },
    "status": {"news", "programs", "report"},
    "keys": {
        "errors", "hostkey", "key_sources", "model", "running", "service", "ssh_keys",
        "sshd_config",
    },
    "running": {"codec", "environ", "errors", "machine", "model"},
    "watch": {"announce", "gpu_watch", "health", "news", "programs", "ready", "watched"},
}  # fmt: skip

LONGEST = 300  # lines of a file; near 250 is meant

# On the way from exec to the banner each of these would cost more than it gives, or is another
# process's business (tens of milliseconds each, `python -X importtime`).
NOT_IN_PID_1 = {
    "argparse", "asyncio", "concurrent", "ctypes", "difflib", "email", "hashlib", "http",
    "importlib.metadata", "logging", "multiprocessing", "paramiko", "pynvml", "random", "secrets",
    "socket", "ssl", "subprocess", "supervisor", "tempfile", "threading", "torch", "urllib.request",
    "xml",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "launcher":
            names |= {f"launcher.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative import"
            names.add(node.module)
    return names


def imported_of_ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("launcher.")}


def imported_of_others(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)} - {"launcher"}


def calls(path: Path) -> Iterator[str]:
    """Yield the name of everything that a file calls: `print`, `sys.exit`, `Path().open`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def attributes(path: Path) -> set[str]:
    """Return every dotted name that a file mentions, as `os.environ`."""
    tree = ast.parse(path.read_text())
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


# --- pure modules ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: path.stem)
def test_pure_modules_have_no_effects(path: Path) -> None:
    assert not imported_of_others(path) & EFFECTS


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: path.stem)
def test_pure_modules_open_no_file(path: Path) -> None:
    touches = {"open", "print", "input"}
    methods = ("read_text", "write_text", "read_bytes", "write_bytes", "open", "exists", "iterdir")
    found = {name for name in calls(path) if name in touches or name.split(".")[-1] in methods}
    assert not found


# --- who imports what ------------------------------------------------------------------------


def test_every_module_has_its_row() -> None:
    assert set(MODULES) == set(MAY_IMPORT) | CONDUCTORS


@pytest.mark.parametrize("module", sorted(MAY_IMPORT))
def test_stages_do_not_import_each_other(module: str) -> None:
    assert imported_of_ours(MODULES[module]) == MAY_IMPORT[module]


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_checks_see_the_evidence_and_nothing_else(path: Path) -> None:
    words = {
        "visibility",
        "visible_entries",
    }  # what the user's own value means is one of the causes
    assert imported_of_ours(path) - words <= {"checks", "evidence", "host", "machine", "model"}


def test_nothing_imports_the_conductors_but_they_themselves() -> None:
    users = {name for name, path in MODULES.items() if imported_of_ours(path) & CONDUCTORS}
    assert users == {"cli", "doctor", "pipeline", "start"}  # and entrypoint.py, which imports cli


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_heavy_library_has_one_door(library: str) -> None:
    users = {name for name, path in MODULES.items() if library in imported_of_others(path)}
    assert users == ONLY_IN[library]


def test_of_the_guests_only_verify_imports_torch() -> None:
    assert {path.stem for path in GUEST if "torch" in imported_of_others(path)} == {"verify"}


@pytest.mark.parametrize("path", GUEST, ids=lambda path: path.stem)
def test_guests_import_nothing_of_ours(path: Path) -> None:
    assert not imported_of_ours(path)


# --- who does what ---------------------------------------------------------------------------


def test_only_environ_knows_the_environment() -> None:
    environment = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    users = {name for name, path in MODULES.items() if attributes(path) & environment}
    assert users == {"environ"}


def test_only_cli_prints() -> None:
    assert {name for name, path in MODULES.items() if "print" in calls(path)} == {"cli"}


def test_only_cli_and_the_end_of_a_child_exit() -> None:
    exits = {"sys.exit", "exit", "quit"}
    assert {name for name, path in MODULES.items() if exits & set(calls(path))} == {"cli"}


def test_only_formats_reveal_secrets() -> None:
    revealing = {
        name
        for name, path in MODULES.items()
        if any(call.endswith(".reveal") for call in calls(path))
    }
    assert revealing == {
        "codec",  # for files that only root may read
        "jupyter_config",
        "banner",
        "service",  # hands the password to chpasswd, through a pipe
    }


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.stem)
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST


# --- PID 1 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded_by_pid_1() -> set[str]:
    """Return what is in memory once PID 1 could print the banner, but for what a child imports."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from launcher.cli import entrypoint\n"
        "import launcher.start, launcher.config\n"
        "launcher.config.load({})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_pid_1_imports_the_standard_library_and_us_only(loaded_by_pid_1: set[str]) -> None:
    # A venv's .pth files run before us; what they import (a finder of editable installs) is theirs.
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    strangers = {
        name
        for name in loaded_by_pid_1 - set(bare.stdout.split())
        if name.split(".")[0] not in {*sys.stdlib_module_names, "launcher"}
    }
    assert not strangers


def test_pid_1_imports_nothing_slow(loaded_by_pid_1: set[str]) -> None:
    assert not loaded_by_pid_1 & NOT_IN_PID_1


# --- the documentation -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooms() -> dict[str, str]:
    """Return the table of docs/architecture.md: module → what belongs there."""
    page = ROOT / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("docs/architecture.md is not written yet")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", page.read_text(), flags=re.MULTILINE)
    return dict(rows)


def test_the_architecture_page_lists_the_modules(rooms: dict[str, str]) -> None:
    assert set(rooms) == set(MODULES)


def test_the_architecture_page_says_which_are_pure(rooms: dict[str, str]) -> None:
    said = {module for module, what in rooms.items() if "(pure)" in what}
    # Nothing but values; the page need not say so.
    values = {"host", "machine", "model", "errors", "codec"}
    assert said == PURE - values
