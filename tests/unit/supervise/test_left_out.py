"""What supervise does not import with supervisor, in an interpreter of its own."""

from __future__ import annotations

import pytest

from testing import fresh_python

LEFT_OUT = {
    "decimal", "email", "gzip", "hashlib", "html", "http", "http.client", "importlib.metadata",
    "importlib.resources", "mimetypes", "platform", "random", "shutil", "ssl", "supervisor.web",
    "tempfile", "traceback", "xml.etree.ElementTree", "zipfile",
}  # fmt: skip
MOST = 170  # modules in supervise, beside those that every Python has


def run(code: str) -> str:
    begin = (
        "before = set(sys.modules)\n"
        "from launcher.pid1 import boot, supervisor\n"
        "loop = supervisor._import_loop()\n"
    )
    return fresh_python.run(begin + code)


def test_it_is_not_imported() -> None:
    code = (
        "from types import ModuleType\n"
        "found = [name for name in set(sys.modules) - before\n"
        "         if type(sys.modules[name]) is ModuleType]\n"
        "print(*found)"
    )
    found = set(run(code).split())
    assert not found & LEFT_OUT
    assert len(found) <= MOST


@pytest.mark.parametrize(
    "use",
    [
        "from supervisor.options import import_spec; "
        "print(import_spec('os:getpid')() == __import__('os').getpid())",
        "from supervisor.compat import md5; print(md5(b'').hexdigest()[:4] == 'd41d')",
        "from supervisor import xmlrpc; from io import StringIO; "
        "print([one.tag for _, one in xmlrpc.iterparse(StringIO('<a/>'))] == ['a'])",
        "from supervisor import http; print('NoneType' in http.traceback.format_exc())",
        "from supervisor import options; print(options.platform.node() == "
        "__import__('platform').node())",
        "from supervisor import options; fd, path = options.tempfile.mkstemp(); "
        "print(__import__('os').path.exists(path)); __import__('os').remove(path)",
        "from xmlrpc.client import Decimal; print(str(Decimal('1.0')) == '1.0')",
        "import email, http.client, ssl, zipfile, importlib.metadata, html.parser; "
        "print(html.unescape('&lt;') == '<' and http.client.HTTPSConnection is not None)",
    ],
)
def test_who_uses_one_gets_the_real_one(use: str) -> None:
    assert run(use) == "True"


def test_a_page_is_not_served() -> None:
    code = (
        "from supervisor.web import supervisor_ui_handler\n"
        "print(supervisor_ui_handler(None).match(object()))"
    )
    assert run(code) == "False"
