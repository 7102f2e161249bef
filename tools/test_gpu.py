"""Test on this machine's GPU: `make test-gpu`.  No container, no network where there are wheels.

The suite is tests/gpu.  It runs in an environment of its own in a temporary folder, made of this
python3 (whose PyTorch it sees) and of the wheels in WHEELHOUSE, which pip fetches where that folder
is not there.  No setting of the GPU is changed.  The report is build/gpu-report.txt and .json.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[1]
WHEELHOUSE = PROJECT / ".whl"
REPORT = PROJECT / "build" / "gpu-report"

# Of the notebook set that the image has, those that a kernel needs; the pins are the image's.
_OWN = ("nvidia-ml-py", "supervisor", "paramiko", "cryptography")
_NOTEBOOK = ("jupyterlab", "jupyter_server", "ipykernel")
_OF_THE_TESTS = ("websocket-client",)
_PIN = re.compile(r'^\s*"?([A-Za-z0-9_.-]+==[^\s",#]+)', re.MULTILINE)


def requirements() -> list[str]:
    """Return what the suite needs beside pytest and PyTorch, as the project pins it."""
    text = (PROJECT / "pyproject.toml").read_text()
    pins = _PIN.findall(text + (PROJECT / "image" / "requirements.txt").read_text())
    wanted = (*_OWN, *_NOTEBOOK, *_OF_THE_TESTS)
    return [pin for pin in pins if pin.partition("==")[0] in wanted]


def provide(folder: Path, wheelhouse: Path) -> Path:
    """Make the environment in `folder`; return its Python."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    needed = requirements() + ([] if importlib.util.find_spec("pytest") else ["pytest"])
    where = ["--no-index", "--find-links", str(wheelhouse)] if wheelhouse.is_dir() else []
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python),
        "install", "--quiet", "--no-compile", *where, *needed,
    )  # fmt: skip
    packages = next(folder.glob("lib/python3*/site-packages"))
    shutil.copytree(PROJECT / "launcher", packages / "launcher")
    shutil.copy(PROJECT / "supervisord.conf", packages)
    own = [*site.getsitepackages(), site.getusersitepackages()]  # PyTorch is there
    added = "; ".join(f"site.addsitedir({path!r})" for path in own if os.path.isdir(path))
    (packages / "machine.pth").write_text(f"import site; {added}\n")
    command = folder / "bin" / "launcher"
    command.write_text(
        f"#!{python} -I\nimport sys\nfrom launcher.cli.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    # As in an image, where nothing is compiled at the first start; what cannot be is left as it is.
    subprocess.run([python, "-m", "compileall", "-q", "-j", "0", packages], check=False)
    return python


def _run(*command: str) -> None:
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(f"error: {' '.join(command)}: exit status {code}")


def run(python: Path, report: Path, arguments: list[str]) -> int:
    """Run the suite; return pytest's exit status."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    environ |= {
        "PATH": f"{python.parent}:{os.environ.get('PATH', os.defpath)}",
        "LAUNCHER_REAL_GPU": "1",
        "GPU_REPORT": str(report),
    }
    pytest = [
        str(python), "-m", "pytest", "--confcutdir=tests/gpu", "-p", "no:cacheprovider", "-q",
        "tests/gpu", *arguments,
    ]  # fmt: skip
    return subprocess.run(pytest, cwd=PROJECT, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tools.test_gpu", description=__doc__)
    parser.add_argument("--requirements", action="store_true", help="print what pip is to fetch")
    parsed, arguments = parser.parse_known_args()  # the rest is pytest's: -k doctor …
    if parsed.requirements:
        print("\n".join(requirements()))
        return 0
    wheelhouse = Path(os.environ.get("WHEELHOUSE") or WHEELHOUSE).absolute()
    report = Path(os.environ.get("GPU_REPORT") or REPORT).absolute()
    with tempfile.TemporaryDirectory(prefix="launcher-gpu-") as folder:
        code = run(provide(Path(folder) / "python", wheelhouse), report, arguments)
    print(f"report: {report}.txt, {report}.json")
    return code


if __name__ == "__main__":
    sys.exit(main())
