"""Jupyter's kernels, and why one is gone that the system killed for want of memory.

JupyterLab says that a kernel "appears to have died", since it knows no more.  So the cell that ran
is told, where a kernel writes its errors; where none ran, the next one is.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError
from traitlets import TraitError, Unicode

_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as the largest page-aligned 64-bit number
_LIMITS = ("memory.max", "memory.limit_in_bytes")
_KILLS = ("memory.events", "memory.oom_control")
_KILLED = r"^oom_kill (\d+)$"

_RECENT = 10.0  # seconds; a large process takes a while to be gone

Header = dict[str, Any]  # of a message: jupyter-client, "Messaging in Jupyter"


class Kernels(AsyncMappingKernelManager):  # type: ignore[misc]
    """Starts kernels also after the workspace went away: at home; lists them while one starts."""

    def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        """Leave out a kernel that is only being made: it has no activity yet, and the list of all
        would be an error 500 to whoever asks meanwhile.
        """
        try:
            return dict(super().kernel_model(kernel_id))
        except TraitError:
            raise HTTPError(404, f"Kernel does not run yet: {kernel_id}") from None

    async def start_kernel(self, **options: Any) -> str:
        try:
            os.getcwd()
        except OSError:  # jupyter_client asks for it, whatever directory the kernel gets
            os.chdir(os.path.expanduser("~"))
        return str(await super().start_kernel(**options))

    def cwd_for_path(self, path: str, **options: Any) -> str:
        folder = str(super().cwd_for_path(path, **options))
        # What was removed below a mount can be entered, but has no name: no kernel starts there.
        return folder if os.stat(folder).st_nlink else os.path.expanduser("~")


class _Known:
    """What is known of one kernel."""

    def __init__(self) -> None:
        self.running: dict[str, Header] = {}  # the requests whose cells run, by id
        self.why = ""  # the kernel before this one died; "" = of itself, or none did
        self.where: Header | None = None  # the request by which that is told


_KNOWN: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()  # by kernel manager


def _known(kernel: Any) -> _Known:
    return _KNOWN.setdefault(kernel, _Known())


class Restarter(AsyncIOLoopKernelRestarter):
    """Notices at each look whether the system has killed, so that a death has its reason."""

    more_memory = Unicode("", config=True, help="How the box is given more memory.")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kills, self._rose = kills(), float("-inf")
        for event in ("restart", "dead"):  # before those of the connections, which tell it
            self.add_callback(self._find_out, event)

    async def poll(self) -> None:  # type: ignore[override]
        self._look()
        await super().poll()

    def _look(self) -> None:
        before, self._kills = self._kills, kills()
        if self._kills > before:
            self._rose = time.monotonic()

    def _find_out(self) -> None:
        known = _known(self.kernel_manager)
        cut_off, known.running = [*known.running.values()], {}
        process = getattr(self.kernel_manager.provisioner, "process", None)
        status = getattr(process, "returncode", None)
        self._look()
        if status == -signal.SIGKILL and time.monotonic() - self._rose < _RECENT:
            fix = f", or {self.more_memory}" if self.more_memory else ""
            known.why = (
                f"The system killed this kernel: {reason()}. Its variables are gone.\n"
                f"  fix: use less at a time{fix}"
            )
            known.where = next(iter(cut_off), None)  # the others wait in its queue
        elif known.where:  # it died of something else than the one before
            known.why = ""


class Connection(ZMQChannelsWebsocketConnection):  # type: ignore[misc]
    """A page's connection to a kernel.

    A page shows what answers a request of its own; of the others' it takes no notice.
    """

    def on_kernel_restarted(self) -> None:
        self._tell()
        super().on_kernel_restarted()  # a page forgets its requests when it hears that

    def on_restart_failed(self) -> None:
        self._tell()
        super().on_restart_failed()

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        super().handle_outgoing_message(stream, outgoing_msg)
        # Of a kernel that says something else than it should: what it says has been handed on.
        with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
            self._note(outgoing_msg)

    def _note(self, message: list[Any]) -> None:
        """Remember which cells run."""
        _, (_, header, parent, _, content, *_) = self.session.feed_identities(message)
        if b'"status"' not in header or self.session.unpack(header)["msg_type"] != "status":
            return
        request = self.session.unpack(parent)
        if request["msg_type"] != "execute_request":
            return
        known, id = _known(self.kernel_manager), request["msg_id"]
        if self.session.unpack(content)["execution_state"] != "busy":
            known.running.pop(id, None)
            return
        known.running[id] = request
        if known.why and known.where in (None, request):  # every connection hears of this request
            known.where = request
            self._tell()

    def _tell(self) -> None:
        known = _known(self.kernel_manager)
        if known.why and known.where:
            with contextlib.suppress(WebSocketClosedError):  # that page is gone
                self.write_stderr(known.why, known.where)


def kills() -> int:
    """Return how many processes of the box the system has killed; 0 where nothing says it."""
    for text in _texts(_KILLS):
        if found := re.search(_KILLED, text, re.MULTILINE):
            return int(found[1])
    return 0


def reason() -> str:
    """Return what is said of a process that was killed so, as launcher/detect/cgroup does."""
    limits = [int(text) for text in map(str.strip, _texts(_LIMITS)) if text.isdecimal()]
    limit = min((size for size in limits if size < _UNLIMITED), default=None)
    told = "" if limit is None else f": its limit is {limit / 2**30:.3g} GiB"
    return f"the box is out of memory{told}"


def _texts(names: tuple[str, ...]) -> Iterator[str]:
    """Yield what these files say of our memory cgroup, of either version, and of those above."""
    for folder in _groups():
        for name in names:
            with contextlib.suppress(OSError), open(f"{folder}/{name}", encoding="ascii") as file:
                yield file.read()


def _groups() -> Iterator[str]:
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as stream:
        for line in stream:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            mount = "/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup"
            inside = [part for part in path.split("/") if part and part != ".."]
            for depth in range(len(inside), -1, -1):
                yield "/".join((mount, *inside[:depth]))
