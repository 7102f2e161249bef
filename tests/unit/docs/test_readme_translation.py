"""README.zh-CN.md is README.md in Chinese: the same commands, names and links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = {"README.md": "README.zh-CN.md", "README.zh-CN.md": "README.md"}
BLOCK = re.compile(r"^```.*?^```$|(?:^ {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def sections(page: str) -> list[str]:
    return re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)


BOTH = list(zip(sections("README.md"), sections("README.zh-CN.md"), strict=False))


def test_both_have_the_same_sections() -> None:
    assert len(sections("README.md")) == len(sections("README.zh-CN.md")) > 5


@pytest.mark.parametrize(("english", "chinese"), BOTH, ids=range(len(BOTH)))
def test_code_blocks_are_the_same(english: str, chinese: str) -> None:
    assert BLOCK.findall(chinese) == BLOCK.findall(english)


@pytest.mark.parametrize(("english", "chinese"), BOTH, ids=range(len(BOTH)))
def test_inline_commands_are_the_same(english: str, chinese: str) -> None:
    """In whatever order: sentences are built differently."""
    english, chinese = (BLOCK.sub("", page) for page in (english, chinese))
    assert Counter(INLINE.findall(chinese)) == Counter(INLINE.findall(english))


@pytest.mark.parametrize(("english", "chinese"), BOTH, ids=range(len(BOTH)))
def test_links_are_the_same(english: str, chinese: str) -> None:
    translated = [PAGES.get(link, link) for link in LINK.findall(english)]
    assert Counter(LINK.findall(chinese)) == Counter(translated)


@pytest.mark.parametrize(("page", "other"), PAGES.items())
def test_each_links_to_the_other(page: str, other: str) -> None:
    assert f"]({other})" in sections(page)[0]


@pytest.mark.parametrize("page", PAGES)
def test_what_it_links_to_is_there(page: str) -> None:
    links = {link.partition("#")[0] for part in sections(page) for link in LINK.findall(part)}
    assert [link for link in links if not (ROOT / link).exists()] == []
