"""The user's torchrun: where it is, and which options it takes.  Its source is read, not run.

Importing PyTorch takes seconds.  torch/distributed/run.py, get_args_parser().
"""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.detect.user_python import package_files
from launcher.model.named_tuple import NamedTuple
from launcher.paths.folder import read_text

# Of PyTorch 2.6, where the source is not found: those that take no value, and all others.
_FLAGS = ("--standalone", "--module", "--no-python", "--run-path", "--use-env")
_VALUES = (
    "--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--rdzv-conf",
    "--max-restarts", "--monitor-interval", "--start-method", "--role", "--log-dir", "--redirects",
    "--tee", "--local-ranks-filter", "--node-rank", "--master-addr", "--master-port",
    "--local-addr", "--logs-specs",
)  # fmt: skip
_SHORT = {"-m": "--module", "-r": "--redirects", "-t": "--tee"}


class Option(NamedTuple):
    """One option of torchrun's."""

    dest: str  # "nproc_per_node", as PET_NPROC_PER_NODE has it
    takes_value: bool


class Torchrun(NamedTuple):
    """The program, and its options by each of their names, written with dashes."""

    argv: tuple[str, ...]  # () = there is none
    python: str  # the interpreter that it runs in
    options: Mapping[str, Option]

    @property
    def dests(self) -> frozenset[str]:
        return frozenset(option.dest for option in self.options.values())


def find_torchrun(environ: Mapping[str, str], python: str) -> Torchrun:
    """Return the first torchrun of PATH, else that of `python`."""
    places = (environ.get("PATH", os.defpath), os.path.dirname(python))
    found = next(filter(None, (shutil.which("torchrun", path=place) for place in places)), None)
    if found:
        interpreter = _interpreter(found)
        # Of an environment that stands above another one, it is that one's.
        source = _source(found, interpreter) or _source(python, python)
        return Torchrun((found,), interpreter, _read_options(source) or _known())
    source = _source(python, python)
    if source is None:
        return Torchrun((), python, _known())
    return Torchrun((python, "-m", "torch.distributed.run"), python, _read_options(source))


def _interpreter(script: str) -> str:
    """Return what its first line names, else the Python beside it."""
    try:
        first = read_text(script, 1000).partition("\n")[0]
    except OSError:
        first = ""
    words = first.removeprefix("#!").split()
    beside = os.path.join(os.path.dirname(script), "python")
    return words[0] if first.startswith("#!/") and "python" in words[0] else beside


def _source(program: str, python: str) -> Path | None:
    """Return torch/distributed/run.py of a program's environment, or of one below that."""
    prefixes = dict.fromkeys(
        Path(path).parent.parent for path in (program, python, os.path.realpath(python))
    )
    files = (
        found for prefix in prefixes for found in package_files(prefix, "torch/distributed/run.py")
    )
    return next(files, None)


def _known() -> dict[str, Option]:
    long = {name: Option(_dest(name), False) for name in _FLAGS}
    long |= {name: Option(_dest(name), True) for name in _VALUES}
    return long | {short: long[name] for short, name in _SHORT.items()}


def _dest(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _read_options(source: Path | None) -> dict[str, Option]:
    """Return the options that a run.py adds to its parser; nothing where it cannot be read."""
    try:
        tree = ast.parse(read_text(str(source))) if source else None
    except (OSError, ValueError, SyntaxError):
        return {}
    return dict(_added(tree)) if tree else {}


def _added(tree: ast.AST) -> Iterator[tuple[str, Option]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(".add_argument"):
            continue
        given = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        names = [name for name in given if isinstance(name, str) and name.startswith("-")]
        long = next((name for name in names if name.startswith("--")), None)
        if long is None:
            continue
        words = {word.arg: ast.unparse(word.value).strip("'\"") for word in node.keywords}
        flag = words.get("action") in ("check_env", "store_true", "store_false", "help")
        option = Option(words.get("dest") or _dest(long), not flag)
        yield from ((_dashed(name), option) for name in names)


def _dashed(name: str) -> str:
    return name if not name.startswith("--") else "--" + name[2:].replace("_", "-")
