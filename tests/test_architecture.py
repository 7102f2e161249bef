"""The rules of docs/architecture.md, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from launcher import checks
from launcher.model import run_files, state_files

ROOT = Path(__file__).parents[1]
LAUNCHER = ROOT / "launcher"

# The floors of the house, the lowest first.  Imports run downward only, and within a package in no
# circle.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("model", "paths"),
    ("process", "settings", "gpus"),
    ("detect", "checks"),
    ("plan",),
    ("render", "text"),
    ("box", "doctor", "cluster"),
    ("supervise",),
    ("watch", "pid1"),
    ("cli",),
)
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}
GUEST = "guest"  # programs in the user's Python, which has nothing of ours
PACKAGES = sorted(path.name for path in LAUNCHER.iterdir() if (path / "__init__.py").exists())

# What each package imports of the others: what is lower may be used, and is, for a reason.
USES = {
    "model": set(),
    "paths": set(),
    "process": {"model"},
    "settings": {"model", "paths"},
    "gpus": {"model"},
    "detect": {"model", "paths", "process", "settings"},
    "checks": {"gpus", "model"},
    "plan": {"checks", "gpus", "model", "settings"},
    "render": {"checks", "model", "plan"},  # what a notebook is told has the place's words, too
    "text": {"checks", "gpus", "model", "plan"},  # what is odd is mended in the place's words
    "box": {"model", "paths", "process", "render", "settings"},
    "doctor": {"checks", "detect", "gpus", "model", "process", "settings", "text"},
    "cluster": {"detect", "gpus", "model", "process"},
    "supervise": {"box", "checks", "detect", "model", "process", "settings"},
    "watch": {
        "box", "checks", "detect", "doctor", "gpus", "model", "paths", "process", "settings",
        "supervise", "text",
    },
    "pid1": {
        "box", "checks", "detect", "doctor", "model", "plan", "process", "render", "settings",
        "supervise", "text",
    },
    "cli": {
        "box", "cluster", "detect", "doctor", "gpus", "model", "pid1", "process", "render",
        "settings", "supervise", "text", "watch",
    },
    GUEST: set(),
}  # fmt: skip

PURE = {"model", "gpus", "checks", "plan", "render", "text"}
EFFECTS = {
    "os", "io", "pathlib", "shutil", "subprocess", "socket", "signal", "time", "datetime", "random",
    "secrets", "pynvml", "paramiko", "torch",
}  # fmt: skip

# Each of these has few modules that may import it, and a reason to be there.
ONLY_IN = {
    "pynvml": {"detect.nvml", "detect.nvml_errors", "detect.nvml_links"},
    "supervisor": {
        "supervise.loop", "supervise.options", "supervise.output", "supervise.program",
    },
    "paramiko": {"watch.ready"},
    "cryptography": {"box.certificate", "box.ssh_keys"},
    "torch": {"guest.all_reduce", "guest.collective", "guest.verify"},
}  # fmt: skip


def _modules() -> dict[str, Path]:
    """Return every module of ours: "plan.devices" → its file."""
    found = {}
    for path in sorted(LAUNCHER.rglob("*.py")):
        parts = path.relative_to(LAUNCHER).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()
OF_PURE_PACKAGES = [name for name in MODULES if name.partition(".")[0] in PURE]
OF_GUEST = [name for name in MODULES if name.partition(".")[0] == GUEST]
OURS = {name: path for name, path in MODULES.items() if name not in OF_GUEST}

LONGEST = 300  # lines of a file; near 250 is meant

# On the way from exec to the banner each of these would cost more than it gives, or is another
# process's business (tens of milliseconds each, `python -X importtime`).
NOT_IN_PID_1 = {
    "argparse", "asyncio", "concurrent", "ctypes", "dataclasses", "difflib", "email", "hashlib",
    "http", "importlib.metadata", "inspect", "ipaddress", "logging", "multiprocessing", "paramiko",
    "pynvml", "random", "secrets", "socket", "ssl", "subprocess", "supervisor", "tempfile",
    "threading", "torch", "urllib", "xml",
}  # fmt: skip
# Modules, with ours, beside those of a Python without `site`: each is a third of a millisecond.
MOST_IN_PID_1 = 200


# Each rule asks every file anew, and a file is the same for all of them.


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return everything that is in a file, as `ast.walk` does."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> frozenset[str]:
    """Return every module that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def imported_of_ours(path: Path) -> frozenset[str]:
    """Return our modules that a file imports, as "plan.devices"; a name in one is that module."""
    found = set()
    for name in imported(path):
        if not name.startswith("launcher."):
            continue
        parts = name.split(".")[1:]
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        if parts:
            found.add(".".join(parts))
    return frozenset(found)


def packages_used(package: str) -> set[str]:
    """Return the other packages that one imports."""
    return {
        used.partition(".")[0]
        for name, path in MODULES.items()
        if name.partition(".")[0] == package
        for used in imported_of_ours(path)
    } - {package}


def imported_of_others(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)} - {"launcher"}


@cache
def calls(path: Path) -> tuple[str, ...]:
    """Return the name of everything that a file calls: `print`, `sys.exit`, `Path().open`."""
    return tuple(ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call))


@cache
def attributes(path: Path) -> frozenset[str]:
    """Return every dotted name that a file mentions, as `os.environ`."""
    return frozenset(ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Attribute))


# --- the floors ------------------------------------------------------------------------------


def test_every_package_has_its_floor_and_its_row() -> None:
    assert set(PACKAGES) == {*FLOOR, GUEST} == set(USES)


@pytest.mark.parametrize("package", sorted(FLOOR))
def test_imports_run_downward_only(package: str) -> None:
    assert {used for used in packages_used(package) if FLOOR[used] >= FLOOR[package]} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_uses_what_its_row_says(package: str) -> None:
    assert packages_used(package) == USES[package]


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = TopologicalSorter({name: imported_of_ours(path) for name, path in MODULES.items()})
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", sorted({*FLOOR, GUEST} - {"checks"}))
def test_a_package_s_own_file_is_empty(package: str) -> None:
    assert not imported(MODULES[package])
    assert len(MODULES[package].read_text().splitlines()) <= 1


def test_checks_has_a_file_a_layer() -> None:
    """And the row's type; what rows share is in `facts`, which has no row."""
    files = {name.split(".")[1] for name in MODULES if name.startswith("checks.")} - {"facts"}
    assert files == {*checks.LAYERS, "check"}
    facts = [path for name, path in MODULES.items() if name.startswith("checks.facts")]
    assert not [path for path in facts if "Check" in calls(path)]


# --- pure packages ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", OF_PURE_PACKAGES)
def test_pure_packages_have_no_effects(module: str) -> None:
    assert not imported_of_others(MODULES[module]) & EFFECTS


@pytest.mark.parametrize("module", OF_PURE_PACKAGES)
def test_pure_packages_open_no_file(module: str) -> None:
    touches = {"open", "print", "input"}
    methods = ("read_text", "write_text", "read_bytes", "write_bytes", "open", "exists", "iterdir")
    names = calls(MODULES[module])
    assert not {name for name in names if name in touches or name.split(".")[-1] in methods}


# --- who imports what ------------------------------------------------------------------------


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_heavy_library_has_few_doors(library: str) -> None:
    users = {name for name, path in MODULES.items() if library in imported_of_others(path)}
    assert users == ONLY_IN[library]


def test_what_is_imported_is_declared() -> None:
    """In pyproject.toml, and nothing besides: what a dependency brings along may go with it."""
    theirs = {name for path in OURS.values() for name in imported_of_others(path)}
    theirs -= {*sys.stdlib_module_names, "__future__"}
    declared = {
        re.split(r"[^\w-]", line)[0]
        for line in requires("pytorch-cuda-launcher") or ()
        if "extra" not in line
    }
    brought_by = packages_distributions()
    assert {brought_by[name][0] for name in theirs} == declared


@pytest.mark.parametrize("module", OF_GUEST)
def test_guests_import_nothing_of_ours(module: str) -> None:
    assert not imported_of_ours(MODULES[module])


# --- who does what ---------------------------------------------------------------------------


def test_only_environ_knows_the_environment() -> None:
    environment = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    users = {name for name, path in MODULES.items() if attributes(path) & environment} - set(
        OF_GUEST
    )
    assert users == {"settings.environ"}


def test_only_one_module_forks() -> None:
    forks = {"os.fork", "os.forkpty", "pty.fork"}
    assert {name for name, path in OURS.items() if attributes(path) & forks} == {"process.fork"}


def test_only_cli_prints() -> None:
    printing = {name for name, path in OURS.items() if "print" in calls(path)}
    assert {name.partition(".")[0] for name in printing} == {"cli"}


def test_only_cli_and_the_end_of_a_child_exit() -> None:
    exits = {"sys.exit", "exit", "quit"}
    assert {name for name, path in OURS.items() if exits & set(calls(path))} == {"cli.main"}


def test_only_formats_reveal_secrets() -> None:
    revealing = {
        name
        for name, path in MODULES.items()
        if any(call.endswith(".reveal") for call in calls(path))
    }
    assert revealing == {
        "model.codec",  # for files that only root may read
        "render.jupyter",
        "plan.watch",  # makes of the token what watch sends
        "watch.ready",
        "text.banner",
        "box.state",  # hands the password to chpasswd, through a pipe
    }


# --- names of files ----------------------------------------------------------------------------

# These say what the files of the run and state directories are called; nobody spells one again.
NAMING = {"model.run_files": run_files, "model.state_files": state_files}


@cache
def names_of_files() -> frozenset[str]:
    """Return every name that the two modules have: "plan.json", "ssh", "ssh/sshd_config" …"""
    return frozenset(
        value
        for module in NAMING.values()
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    )


def texts(path: Path) -> Iterator[str]:
    """Yield each string of a file but for docstrings; what an f-string computes is "{}"."""
    skipped: set[ast.AST] = {
        node.value
        for node in nodes(path)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes(path):
        if isinstance(node, ast.JoinedStr):
            skipped |= set(node.values)
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Call) and node.args and _joins(node):
            yield "/".join(
                str(arg.value) if isinstance(arg, ast.Constant) else "{}" for arg in node.args
            )
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.value


def _joins(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] in ("Path", "join")


def spelled(text: str) -> set[str]:
    """Return the names of files that a text spells.

    One with a dot is told by itself; "log" or "ssh/sshd_config" where it follows a folder.
    """
    return {
        name
        for name in names_of_files()
        if name in text
        and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])" if "." in name
                     else rf"^(?:\{{\}}|/run/launcher|/var/lib/launcher)/{name}(?![\w.-])", text)
    }  # fmt: skip


@pytest.mark.parametrize("module", sorted({*MODULES} - {*NAMING}))
def test_the_name_of_a_file_is_spelled_once(module: str) -> None:
    assert {name for text in texts(MODULES[module]) for name in spelled(text)} == set()


def test_no_two_names_are_the_same_file() -> None:
    for module in NAMING.values():
        values = [value for name, value in vars(module).items() if name.isupper()]
        assert len(values) == len(set(values))


@pytest.mark.parametrize(
    "source",
    [
        'f"{run_dir}/plan.json"', 'Path(run_dir, "plan.json")', 'read_value(Plan, "plan.json")',
        'f"{run}/log/{name}.log"', 'os.path.join(run_dir, "banner")', '"/run/launcher/banner"',
        'f"{state_dir}/token"', 'f"{directory}/ssh_host_rsa_key"',
    ],
)  # fmt: skip
def test_a_name_that_is_spelled_again_is_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"found = {source}\n")
    assert {name for text in texts(path) for name in spelled(text)}


def test_what_is_no_python_names_files_that_there_are() -> None:
    """supervisord.conf, sudo and the shells of the image read some of them."""
    sources = [ROOT / "supervisord.conf", *(ROOT / "image").rglob("*")]
    named = {
        name
        for path in sources
        if path.is_file() and path.suffix not in (".png", ".ico")
        for name in re.findall(
            r"(?:/run/launcher|%\(ENV_LAUNCHER_RUN_DIR\)s)/([\w./]+)",
            path.read_text(errors="replace"),
        )
    }
    known = names_of_files()
    copies = {run_files.of_the_user(name) for name in known}
    logs = {name for name in named if name == run_files.log(Path(name).stem)}
    assert run_files.SUPERVISOR_SOCKET in named
    assert named <= known | copies | logs


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small(module: str) -> None:
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= LONGEST


MOST_PARAMETERS = 6


@pytest.mark.parametrize("module", MODULES)
def test_no_function_wants_to_know_everything(module: str) -> None:
    for node in nodes(MODULES[module]):
        if isinstance(node, ast.FunctionDef):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
            assert len(names) <= MOST_PARAMETERS, f"{node.name}({', '.join(names)})"


# --- PID 1 -----------------------------------------------------------------------------------


# Without site: what a venv's .pth files import is nobody's.
BARE = (sys.executable, "-I", "-S", "-c")


@pytest.fixture(scope="module")
def loaded_by_pid_1() -> set[str]:
    """Return what is in memory once PID 1 could print the banner, but for what a child imports."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from launcher.cli.main import entrypoint\n"
        "import launcher.pid1.start, launcher.settings.load\n"
        "launcher.settings.load.load_settings({})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([*BARE, code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded_before_us() -> set[str]:
    """Return what every Python has in memory."""
    bare = subprocess.run(
        [*BARE, "import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(bare.stdout.split())


def test_pid_1_imports_the_standard_library_and_us_only(
    loaded_by_pid_1: set[str], loaded_before_us: set[str]
) -> None:
    strangers = {
        name
        for name in loaded_by_pid_1 - loaded_before_us
        if name.split(".")[0] not in {*sys.stdlib_module_names, "launcher"}
    }
    assert not strangers


def test_pid_1_imports_nothing_slow(loaded_by_pid_1: set[str]) -> None:
    assert not loaded_by_pid_1 & NOT_IN_PID_1


def test_pid_1_imports_little(loaded_by_pid_1: set[str], loaded_before_us: set[str]) -> None:
    """tests/unit/guest/test_launcher_proxy.py counts those of Jupyter."""
    assert len(loaded_by_pid_1 - loaded_before_us) <= MOST_IN_PID_1


def test_pid_1_defines_cheaply() -> None:
    """Forty patterns that nobody used, and typing's NamedTuple: half of what importing us cost."""
    code = (
        f"import re, sys, typing; sys.path.insert(0, {str(ROOT)!r})\n"
        "here = lambda frame: frame.f_globals['__name__']\n"
        "found, compiled, defined = [], re.compile, typing.NamedTuple.__mro_entries__\n"
        "def note(frame, what):\n"
        "    if here(frame).startswith('launcher.'): found.append(here(frame) + ': ' + what)\n"
        "def compile(*given): note(sys._getframe(1), 're.compile'); return compiled(*given)\n"
        "def define(bases): note(sys._getframe(1), 'NamedTuple'); return defined(bases)\n"
        "re.compile, typing.NamedTuple.__mro_entries__ = compile, define\n"
        "import launcher.cli.main, launcher.pid1.begin, launcher.pid1.start\n"
        "print('\\n'.join(found))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["", ""]


# --- the documentation -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooms() -> dict[str, str]:
    """Return the table of docs/architecture.md: package → what belongs there."""
    page = ROOT / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("docs/architecture.md is not written yet")
    rows = re.findall(r"^\| `(\w+)/` \| (.*?) \|$", page.read_text(), flags=re.MULTILINE)
    return dict(rows)


def test_the_architecture_page_has_a_row_for_every_package(rooms: dict[str, str]) -> None:
    assert set(rooms) == set(PACKAGES)


def test_the_architecture_page_says_which_are_pure(rooms: dict[str, str]) -> None:
    assert {package for package, what in rooms.items() if "(pure)" in what} == PURE
