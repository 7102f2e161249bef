"""Start JupyterLab, in half its usual time, with the launcher's configuration.

    python jupyter.py CONFIG.json

CONFIG has "default" (a user's own Jupyter configuration overrides it) and "final" (nothing
does: another port than the published one would be of no use), "arguments" for Jupyter's command
line, "python": of kernels, "packages": the environment on the workspace that it is of, or "";
"hub": whether a JupyterHub lets people in; "page": what our extension (launcher_page) shows
of what was decided, and "metrics_token": what opens its metrics alone, "" for nothing;
"more_memory": how the box is given more, where a kernel was killed for want of it.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import json
import logging
import os
import random
import re
import signal
import site
import socket
import sys
from importlib.util import find_spec
from typing import Any, ClassVar, NoReturn

# What is imported stays: collecting it again and again costs a tenth of the start.
gc.disable()

# jsonschema[format-nongpl] compiles some 35 Lark grammars for iri formats that no Jupyter
# schema uses: about one second of every start (jupyter_server#1559).  jsonschema guards the
# import, so it only drops those formats.  Kernels are other processes and do not inherit it.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

CANNOT = 78  # exit status: another start would end the same way (supervise/program.py)


def give_up(what: str, fix: str) -> NoReturn:
    """End as what cannot run here, with what is wrong and how to mend it."""
    print(f"{what}\n  fix: {fix}", flush=True)
    sys.exit(CANNOT)


try:
    import zmq
    from jupyter_client.connect import LocalPortCache
    from jupyter_server.serverapp import ServerApp
    from tornado.ioloop import IOLoop
    from traitlets.config import Config

    if find_spec("jupyterlab") is None:  # ipykernel alone brings most of these along
        raise ModuleNotFoundError("No module named 'jupyterlab'", name="jupyterlab")
except ModuleNotFoundError as err:
    give_up(
        f"Jupyter is not installed for {sys.executable}, so there are no notebooks: {err}.",
        "name the Python that has it (LAUNCHER_PYTHON=/usr/bin/python3), install it\n"
        "       (pip install jupyterlab), or start without it (LAUNCHER_SERVICES=ssh)",
    )

# What an ordinary start says is said within this time; then Jupyter's log opens.
QUIET_SECONDS = 1.5
# In a query, and in one that stands quoted in another, where an ampersand is %26 (RFC 3986).
_TOKEN = re.compile(r"(token=)[^&\s'\"]+|(token%3[Dd])(?:(?!%26)[^&\s'\"])+")
_MEMORY_LIMITS = (
    "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)  # fmt: skip
_LEAST_BODY, _MOST_BODY = 64 << 20, 512 << 20  # bytes; the second is Jupyter's own
UNUSED = 83  # exit status: ended by ServerApp.shutdown_no_activity_timeout (supervise/program.py)
_TRIED_PORTS = 100
_DEFAULT_END = 32768  # where Linux begins to choose


class Ports(LocalPortCache):
    """Finds ports for kernels where the system never takes one for an outgoing connection.

    jupyter_client lets the system choose, and the kernel binds it a second later.  While a class
    starts its notebooks, somebody's connection has it by then, and the kernel dies.
    """

    def find_available_port(self, ip: str) -> int:
        for port in random.sample(self.candidates(), _TRIED_PORTS):
            if port in self.currently_used_ports:
                continue
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind((ip, port))
                self.currently_used_ports.add(port)
                return port
        return int(super().find_available_port(ip))

    @staticmethod
    def candidates() -> range:
        """Return the upper half of what is below the system's own choice (ip(7))."""
        try:
            with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as stream:
                end = int(stream.read().split()[0])
        except OSError:  # not Linux's own network
            end = 0
        return range(end // 2, end) if end > 4096 else range(_DEFAULT_END // 2, _DEFAULT_END)


class Server(ServerApp):  # type: ignore[misc]
    """Jupyter Server that leaves the URL and the token to the launcher's banner."""

    configuration: ClassVar[dict[str, Any]] = {}
    unused: ClassVar[bool] = False

    def load_config_file(self, suppress_errors: bool = True) -> None:
        self.update_config(Config(self.configuration["default"]))
        self.update_config(Config(kernel_classes(self.configuration["more_memory"])))
        super().load_config_file(suppress_errors)
        self.update_config(Config(self.configuration["final"]))

    def init_webapp(self) -> None:
        # It warns of listening on every address: in a container nothing else can be reached.
        self.log.addFilter(
            lambda record: "listening on all IP addresses" not in record.getMessage()
        )
        self.log.addFilter(name_the_setting)
        super().init_webapp()

    def shutdown_no_activity(self) -> None:
        """End as what nobody uses: whoever restarts us is to see that it was meant."""
        before = getattr(self, "_stopping", False)
        super().shutdown_no_activity()
        if getattr(self, "_stopping", False) and not before:
            Server.unused = True

    def start_app(self) -> None:
        super().start_app()
        gc.freeze()
        gc.enable()
        IOLoop.current().call_later(QUIET_SECONDS, logging.disable, logging.NOTSET)


def kernel_classes(more_memory: str) -> dict[str, Any]:
    """Return the configuration by which Jupyter uses our kernels; `more_memory`: how it is had."""
    from launcher_kernels import Connection, Kernels, Restarter

    return {
        "ServerApp": {
            "kernel_manager_class": Kernels,
            "kernel_websocket_connection_class": Connection,
        },
        "AsyncIOLoopKernelManager": {"restarter_class": Restarter},
        "Restarter": {"more_memory": more_memory},
    }


def main() -> None:
    path = sys.argv[1]
    with open(path, encoding="utf-8") as stream:
        Server.configuration = json.load(stream)
    choose_folder(Server.configuration["default"]["ServerApp"])
    limit_bodies(Server.configuration["default"]["ServerApp"])
    if not zmq.has("curve"):  # built without encryption: asking for it would be an error
        Server.configuration["default"].pop("KernelManager")
    logging.disable(logging.INFO)  # warnings still come through
    # Python ignores it, and what a server ignores its terminals ignore, too.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    # Jupyter hands websocket timeouts to tornado in another unit (jupyter_server's WebSocketMixin
    # counts milliseconds), and tornado says so at the first kernel; it has no effect.
    logging.setLogRecordFactory(record_without_token)
    logging.getLogger("tornado.general").addFilter(
        lambda record: "websocket_ping_timeout" not in record.getMessage()
    )
    Ports.instance()  # a singleton: jupyter_client uses the one that is there
    provide_data_folder()
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:  # PYTHONSAFEPATH: our extension is found all the same
        sys.path.append(here)
    if Server.configuration["packages"]:
        add_packages(Server.configuration["packages"], Server.configuration["python"])
    from launcher_late import late_libraries

    with late_libraries():
        app = starter(Server.configuration["hub"])
    app.serverapp_class = Server
    app.launch_instance(argv=Server.configuration["arguments"])
    if Server.unused:
        sys.exit(UNUSED)


def add_packages(folder: str, python: str) -> None:
    """Let Jupyter import extensions of the workspace's environment, and start kernels in that.

    They come last: its own parts stay the image's, so that no package keeps it from starting.
    """
    for packages in glob.glob(f"{glob.escape(folder)}/lib/python3*/site-packages"):
        site.addsitedir(packages)
    sys.executable = python  # which jupyter_client takes for a kernel's "python"


def record_without_token(*arguments: Any, **named: Any) -> logging.LogRecord:
    """Make a record without the token: whoever logs a request that failed writes its whole URL.

    Jupyter, tornado and their extensions log by many names.
    """
    record = logging.LogRecord(*arguments, **named)
    with contextlib.suppress(Exception):  # a message that does not fit its arguments
        text = record.getMessage()
        if "token" in text:
            record.msg, record.args = _TOKEN.sub(r"\1\2[secret]", text), ()
    return record


def provide_data_folder() -> None:
    """Let Jupyter keep its data in this run's folder where the home cannot hold any.

    On a read-only root each of its extensions would log a traceback.
    """
    from jupyter_core.paths import jupyter_data_dir

    try:
        os.makedirs(jupyter_data_dir(), 0o700, exist_ok=True)
    except OSError:
        os.environ["JUPYTER_DATA_DIR"] = os.environ["JUPYTER_RUNTIME_DIR"]


_REFUSED = re.compile(r"Blocking Cross Origin .*?Origin: (https?://[\w.:\[\]-]{1,260}), Host: ")


def name_the_setting(record: logging.LogRecord) -> bool:
    """Say how to allow an origin that Jupyter refuses: its page opens, and no kernel connects."""
    if refused := _REFUSED.search(record.getMessage()):
        said = f"{record.getMessage()}; to allow this page: LAUNCHER_ALLOW_ORIGIN={refused[1]}"
        record.msg, record.args = said, ()
    return True


def limit_bodies(server: dict[str, Any]) -> None:
    """Let no request fill the box's memory: tornado holds it all, and asks for the token later."""
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as stream:
            most = max(_LEAST_BODY, min(_MOST_BODY, int(stream.read()) // 16))
            server.update(max_body_size=most, max_buffer_size=most)


def choose_folder(server: dict[str, Any]) -> None:
    """Open the home directory where the workspace went away while the box ran."""
    folder = server["root_dir"]
    if not os.path.isdir(folder):
        server["root_dir"] = os.path.expanduser("~")
        print(f"{folder} is gone: Jupyter opens in {server['root_dir']}", flush=True)


def starter(hub: bool) -> Any:
    """Return the application to launch: JupyterLab, or a hub's, which loads JupyterLab too."""
    from jupyterlab.labapp import LabApp

    if not hub:
        return LabApp
    try:
        from jupyterhub.singleuser.extension import JupyterHubSingleUser
    except ModuleNotFoundError as err:
        give_up(
            f"A JupyterHub started this box, and {sys.executable} has no jupyterhub: {err}.",
            "install that of the hub's version in the image: pip install jupyterhub==VERSION",
        )
    return JupyterHubSingleUser


if __name__ == "__main__":
    main()
