"""One version: the package's, the wheel's, the image's label and the changelog's newest release."""

from __future__ import annotations

import re
from pathlib import Path

from launcher import __version__
from tools import image

ROOT = Path(__file__).parents[3]
RELEASE = re.compile(r"^## \[?(\d+\.\d+\.\d+)\]? - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
SECTION = re.compile(r"^### (.+)$", re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_wheel_takes_its_version_from_the_package() -> None:
    """What the wheel in the image really says: tests/container/test_image.py."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    _, _, project = pyproject.partition("\n[project]\n")
    project, _, _ = project.partition("\n[")
    assert not re.search(r"^version\b", project, re.MULTILINE)
    assert re.search(r'^dynamic = \["version"\]', project, re.MULTILINE)
    assert '[tool.setuptools.dynamic]\nversion = {attr = "launcher.__version__"}\n' in pyproject


def test_the_image_is_labelled_with_the_version_of_the_package() -> None:
    command = image.build_command("docker", tag="t", arguments={}, environ={})
    assert f"VERSION={__version__}" in command
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^ARG VERSION=(.+)$", dockerfile, re.MULTILINE) == ["unknown"]
    assert 'org.opencontainers.image.version="$VERSION"' in dockerfile


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package() -> None:
    releases = RELEASE.findall(changelog())
    assert releases[0][0] == __version__
    dates = [date for _, date in releases]
    assert dates == sorted(dates, reverse=True)


def test_the_changelog_says_nothing_twice() -> None:
    """An entry is what a list item says; a release has each kind of change once."""
    for release in re.split(r"^## ", changelog(), flags=re.MULTILINE)[1:]:
        kinds = SECTION.findall(release)
        assert len(kinds) == len(set(kinds))
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        beginnings = [entry[:40] for entry in re.split(r"^\* ", release, flags=re.MULTILINE)[1:]]
        assert len(beginnings) == len(set(beginnings))
