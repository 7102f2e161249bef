"""A scenario: what is wrong with a machine, and what the doctor must make of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.checks import LAYERS
from sim import description, driver
from testing.doctor.server import PATIENCE, PROJECT, Server
from testing.doctor.tree import LIBRARIES, Changes, NotPossible, Step, Tree, release

STAND_IN = Path(__file__).parent / "stand_in"
DEADLINE = "10"  # for what answers, in seconds
SHORT = {"LAUNCHER_DETECT_TIMEOUT": "1.5"}  # for what never does


@dataclass(frozen=True)
class Scenario:
    """One cause, built from the outside."""

    id: str
    cause: str  # in a sentence, for docs/doctor.md
    expects: str | None = None  # id of the one failure
    names: tuple[str, ...] = ()  # what its fix, or the warning's, must name
    dropped: tuple[str, ...] = ()  # what the fix leaves out
    seen: tuple[str, ...] = ()  # what it must have seen: the exact code or words
    warns: tuple[str, ...] = ()  # ids of the warnings that are expected
    machine: str = "rtx3090-2x-nvlink"
    gpus: tuple[int, ...] | None = None  # those that the container was given; None = all
    changes: Changes = field(default_factory=dict)  # of the machine's description
    tree: tuple[Step, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    torch: Mapping[str, object] | str = field(default_factory=dict)  # or the path of a real one
    # Packages beside it: their version, and that of the PyTorch that they were built for.
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()  # a command that runs the doctor; "ROOT" in it is the tree
    started_well: bool = False  # the box was started before this happened to it
    needs_root: bool = False  # it is about what root may and others may not
    at_start: bool = False  # judged with what a start knows, which tries nothing
    collective: bool = False  # the GPUs are let talk to each other

    @property
    def exit_status(self) -> int:
        if self.expects is None:
            return 0
        return 10 + 1 + LAYERS.index(self.expects.partition(".")[0])


@dataclass(frozen=True)
class Outcome:
    """What came of a run of the doctor."""

    status: int
    document: Mapping[str, object]
    said: str  # on standard error

    @property
    def failure(self) -> Mapping[str, str] | None:
        found = self.document["failure"]
        assert found is None or isinstance(found, dict)
        return found

    @property
    def told_otherwise(self) -> list[object]:
        """Return the layers of which --steps told another thing first, but for new warnings."""
        told, layers = self.document["told"], self.document["layers"]
        assert isinstance(told, list)
        assert isinstance(layers, list)
        return [
            (before, after)
            for before, after in zip(told, layers, strict=False)
            if before != {**after, "status": after["status"].replace("warning", before["status"])}
        ]

    @property
    def warnings(self) -> dict[str, Mapping[str, str]]:
        found = self.document["warnings"]
        assert isinstance(found, list)
        return {warning["id"]: warning for warning in found}


class Stage:
    """Where scenarios are played one after the other, each in the folder of the one before.

    A server has imported the doctor for all of them that begin like most do; the others are run by
    a Python of their own.
    """

    def __init__(self, built: Path) -> None:
        """Make it; `built` is where the simulator's libraries were compiled."""
        # Not in pytest's own folder, which nobody but root may enter.
        self._base = Path(tempfile.mkdtemp(prefix="launcher-doctor-"))
        self._base.chmod(0o755)
        self._folder = self._base / "machine"
        self._built = built
        self._folder.mkdir()
        _, environ = prepare(Scenario("any", ""), self._folder, built)
        self._server = Server(environ)

    def close(self) -> None:
        self._server.close()
        shutil.rmtree(self._base)

    def play(self, scenario: Scenario) -> Outcome | NotPossible:
        """Build the scenario's machine, run the doctor on it, remove it."""
        self._remove()
        self._folder.mkdir()
        try:
            return self._play(scenario)
        except NotPossible as reason:
            return reason
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._folder.exists():
            release(self._folder)
            shutil.rmtree(self._folder)

    def _play(self, scenario: Scenario) -> Outcome:
        if scenario.needs_root and os.geteuid() != 0:
            raise NotPossible("only root can make that machine")
        tree, environ = prepare(scenario, self._folder, self._built)
        root = str(tree.root)
        if scenario.started_well:
            started = self._run("start_box", [root], environ)
            assert started.returncode == 0, started.stderr
        for step in scenario.tree:
            step(tree)
        tree.check()
        wrapper = tuple(word.replace("ROOT", root) for word in scenario.wrapper)
        if wrapper:
            _check(wrapper)
        how = ["--at-start"] if scenario.at_start else []
        how += ["--collective"] if scenario.collective else []
        done = self._run("run_doctor", [root, *how], environ, wrapper)
        try:
            return Outcome(done.returncode, json.loads(done.stdout), done.stderr)
        except json.JSONDecodeError:
            said = f"{scenario.id}: status {done.returncode}\n{done.stderr}"
            raise AssertionError(said) from None

    def _run(
        self,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        wrapper: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        if not wrapper and self._server.can(environ):
            return self._server.run(module, arguments, environ, self._base)
        return subprocess.run(
            [*wrapper, sys.executable, "-m", f"testing.doctor.{module}", *arguments],
            cwd=PROJECT,
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def prepare(scenario: Scenario, folder: Path, built: Path) -> tuple[Tree, dict[str, str]]:
    """Return the machine before anything happened to it, and its user's environment."""
    text = description.edit(driver.find(scenario.machine).read_text(), scenario.changes)
    if scenario.gpus is not None:
        text = description.select(text, dict.fromkeys(scenario.gpus))
    tree = Tree(folder, text, built)
    tree.make()
    return tree, _environ(scenario, folder, tree)


def _check(wrapper: tuple[str, ...]) -> None:
    if shutil.which(wrapper[0]) is None:
        raise NotPossible(f"{wrapper[0]} is not installed")
    done = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(done.stderr.strip())


def _environ(scenario: Scenario, folder: Path, tree: Tree) -> dict[str, str]:
    """Return the environment of the user's programs."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LAUNCHER_RUN_DIR": str(folder / "run"),
        "LAUNCHER_DETECT_TIMEOUT": DEADLINE,
        "NVIDIA_VISIBLE_DEVICES": "all",
        "LD_LIBRARY_PATH": f"/{LIBRARIES}",
        **scenario.environ,
    }
    # The loader of this machine knows nothing of the tree: it needs the real names.
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        if name in environ:
            environ[name] = ":".join(f"{tree.outside}{path}" for path in environ[name].split(":"))
    if isinstance(scenario.torch, str):
        return {**environ, "PYTHONPATH": scenario.torch}
    described = folder / "torch.json"
    described.write_text(json.dumps(scenario.torch))
    packages = f"{STAND_IN}:{_put_beside(scenario, folder)}"
    return {**environ, "PYTHONPATH": packages, "STAND_IN_TORCH": str(described)}


def _put_beside(scenario: Scenario, folder: Path) -> Path:
    """Install, as far as their metadata go, the packages that were built for some PyTorch."""
    packages = folder / "packages"
    packages.mkdir()
    for name, (version, torch) in scenario.beside.items():
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        said = {"Metadata-Version": "2.1", "Name": name, "Version": version}
        said["Requires-Dist"] = f"torch=={torch}"
        (info / "METADATA").write_text("".join(f"{key}: {text}\n" for key, text in said.items()))
    return packages
