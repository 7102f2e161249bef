"""The checks of the layer "resources": what working CUDA needs beside itself.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from launcher.checks.check import Check, plural
from launcher.checks.facts import forbidden, rdma
from launcher.checks.facts.how_to_run import has_options, place_of, tell
from launcher.checks.facts.taken import devices_of, holders, in_use, memory_full
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu

_GIB = 1 << 30

_PROHIBITED, _EXCLUSIVE = 2, 3  # nvmlComputeMode_t

# nvmlClocksEventReason* of nvml.h.  Not here: 0x1 idle, 0x2 application clocks and 0x4 the power
# cap, which is how a busy GPU normally runs.
_IDLE, _HW_SLOWDOWN, _SW_THERMAL, _HW_THERMAL, _POWER_BRAKE = 0x1, 0x8, 0x20, 0x40, 0x80

# A process of PyTorch's has some dozens of threads, and a job several processes of them.
_FEW_PROCESSES = 512
_MANY_FILES = 1 << 20  # fs.nr_open as the kernel has it: more was allowed on purpose, or by mistake


# --- GPUs that are taken -------------------------------------------------------------------------


def _in_mode(seen: Evidence, mode: int) -> list[Gpu]:
    return [gpu for gpu in seen.gpus if gpu.compute_mode == mode]


def _all_prohibited(seen: Evidence) -> str | None:
    return _prohibited(seen) if len(_in_mode(seen, _PROHIBITED)) == len(seen.gpus) else None


def _some_prohibited(seen: Evidence) -> str | None:
    return None if _all_prohibited(seen) else _prohibited(seen)


def _prohibited(seen: Evidence) -> str | None:
    gpus = _in_mode(seen, _PROHIBITED)
    return f"{_names(gpus)}: compute mode Prohibited (2)" if gpus else None


def _exclusive_in_use(seen: Evidence) -> str | None:
    """As a start sees it; where PyTorch was run, it knows whether there was room for it.

    Under MPS, which is recommended in this mode, all share one server's context.
    """
    mps = seen.machine.host.sharing.mps
    under_mps = bool(mps) or any(name.startswith("CUDA_MPS_") for name in seen.environ)
    mode = _in_mode(seen, _EXCLUSIVE)
    busy = [one for gpu in mode for one in devices_of(gpu) if in_use(one.itself)]
    if not busy or under_mps or seen.torch is not None:
        return None
    names = ", ".join(one.name for one in busy)
    if all(one.itself is one.gpu for one in busy):
        names = _names([one.gpu for one in busy])
    return f"{names}: compute mode Exclusive_Process (3), and {holders(seen, busy[0].itself)}"


def _see_the_rest(seen: Evidence) -> str:
    if place_of(seen.machine.host) == "plain":
        return "sudo nvidia-smi, and end what holds it; or choose others: LAUNCHER_GPUS=idle"
    return (
        "on the host: nvidia-smi names them, as it does in a box that sees the host's processes "
        f"({tell(seen.machine.host, 'option', '--pid=host')}); end what holds it, or choose "
        "others: LAUNCHER_GPUS=idle"
    )


def _names(gpus: Sequence[Gpu]) -> str:
    return f"GPU{'s' * (len(gpus) > 1)} {', '.join(str(gpu.index) for gpu in gpus)}"


# --- vGPUs ---------------------------------------------------------------------------------------


def _not_licensed(seen: Evidence) -> str | None:
    without = [gpu for gpu in seen.gpus if gpu.licensed is False]
    return f"{_names(without)} ({without[0].name}): a vGPU without a licence" if without else None


# --- GPUs that are slowed down -------------------------------------------------------------------


def _slowed(what: str, *bits: int, unless: int = 0) -> Callable[[Evidence], str | None]:
    """Return a check: some GPU's clocks are held down by one of `bits`, and by none of `unless`."""

    def check(seen: Evidence) -> str | None:
        slow = [gpu for gpu in seen.gpus if _is_slowed(gpu.slowdown or 0, sum(bits), unless)]
        if not slow:
            return None
        return f"{_names(slow)}: {what}, clocks event reasons {slow[0].slowdown:#x}"

    return check


def _is_slowed(reasons: int, by: int, unless: int) -> bool:
    return bool(reasons & by) and not reasons & unless


# --- limits of the container ---------------------------------------------------------------------


def _shm(seen: Evidence) -> str | None:
    shm = seen.limits.shm
    return f"/dev/shm is {shm >> 20} MiB" if shm is not None and shm < _GIB else None


def _threads(seen: Evidence) -> str | None:
    limit = seen.limits.pids
    few = limit is not None and limit < _FEW_PROCESSES
    return f"{limit} processes and threads at most (pids.max)" if few else None


def _files(seen: Evidence) -> str | None:
    limit = seen.limits.nofile
    if limit is not None and limit <= _MANY_FILES:
        return None
    return f"{limit or 'any number of'} files may be open in one process (ulimit -n)"


def _cpus(seen: Evidence) -> str | None:
    cpus, count = seen.limits.cpus, len(seen.gpus)
    limited = cpus.usable < cpus.online  # a machine that has no more is what it is
    few = f"{cpus.usable:g} of {cpus.online} CPUs for {plural(count, 'GPU')}"
    return few if limited and cpus.usable < count else None


def _host_name(seen: Evidence) -> str | None:
    name, address = seen.machine.host.hostname, seen.machine.host.loopback
    return f"the host name {name} is {address} in /etc/hosts" if address else None


# --- what mends it -------------------------------------------------------------------------------


def _compute_mode(mode: int) -> Callable[[Evidence], str]:
    def fix(seen: Evidence) -> str:
        which = ",".join(str(gpu.index) for gpu in _in_mode(seen, mode))
        return f"on the host: sudo nvidia-smi -i {which} -c DEFAULT"

    return fix


def _share_or_reset(seen: Evidence) -> str:
    mps = tell(seen.machine.host, "mps")
    return f"{_compute_mode(_EXCLUSIVE)(seen)}; where MPS has it, share that: {mps}"


def _told(need: str) -> Callable[[Evidence], str]:
    """Return what mends a limit, in the words of the place."""
    return lambda seen: tell(seen.machine.host, need)


def _more_cpus(seen: Evidence) -> str:
    wanted = 4 * len(seen.gpus)
    return tell(seen.machine.host, "cpus", wanted, wanted - 1)


def _name_it(seen: Evidence) -> str:
    host = seen.machine.host
    variable = f"GLOO_SOCKET_IFNAME={host.interface or 'INTERFACE'}"
    add = f"--add-host {host.hostname}:ADDRESS"
    place = tell(host, "option", add) if has_options(host) else "its line of /etc/hosts"
    return (
        f"for jobs on several nodes: {tell(host, 'variable', variable)}, or an address of this "
        f"machine in its place: {place}"
    )


_BUSY = '46: "CUDA-capable device(s) is/are busy or unavailable"'
_SLOWER = "its clocks are lowered: everything on it runs slower"
_SOCKETS = "jobs on several nodes fall back to TCP, ten times slower, and say so only at INFO"

CHECKS: tuple[Check, ...] = (
    Check("resources.compute_prohibited", _all_prohibited,
          f"CUDA lists them, and whatever computes fails with {_BUSY}",
          _compute_mode(_PROHIBITED)),
    Check("resources.some_prohibited", _some_prohibited,
          f"CUDA lists it, and whatever computes there fails with {_BUSY}",
          _compute_mode(_PROHIBITED), warning=True),
    Check("resources.exclusive_in_use", _exclusive_in_use,
          f"a second process fails with {_BUSY}",
          _share_or_reset, warning=True),
    Check("resources.memory_full", memory_full,
          "PyTorch runs out of memory there",
          _see_the_rest,
          warning=True),
    Check("resources.not_licensed", _not_licensed,
          "CUDA works for some twenty minutes, then it slows down or fails",
          "on the host, the VM of the vGPU: sudo systemctl restart nvidia-gridd; nvidia-smi -q | "
          "grep -i license; a token of the licence server belongs in /etc/nvidia/ClientConfigToken",
          warning=True),
    Check("resources.thermal_slowdown", _slowed("too hot", _SW_THERMAL, _HW_THERMAL),
          _SLOWER,
          "on the host: clear fans and air flow; nvidia-smi -q -d TEMPERATURE,PERFORMANCE",
          warning=True),
    Check("resources.power_brake", _slowed("power brake by the power supply", _POWER_BRAKE),
          _SLOWER,
          "on the host: check power supply and cables; nvidia-smi -q -d POWER,PERFORMANCE",
          warning=True),
    Check("resources.hardware_slowdown",
          _slowed("hardware slowdown", _HW_SLOWDOWN, unless=_IDLE | _HW_THERMAL | _POWER_BRAKE),
          "its clocks are halved or lower, unless they were just changing",
          "on the host: nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE, while it computes",
          warning=True),
    Check("resources.shm", _shm,
          "DataLoader workers and NCCL run out of shared memory", _told("shm"), warning=True),
    Check("resources.rdma_not_passed", rdma.not_passed, _SOCKETS, rdma.pass_on, warning=True),
    Check("resources.rdma_forbidden", rdma.forbidden,
          f'NCCL: "Unable to open device"; {_SOCKETS}', rdma.let_in, warning=True),
    Check("resources.rdma_port", rdma.port_down,
          "NCCL leaves it out: what goes through it takes another way, or TCP, and that rank sets "
          "everybody's pace", rdma.bring_up, warning=True),
    Check("resources.rdma_gid", rdma.no_address,
          'NCCL cannot connect to other nodes: "ibv_modify_qp failed"', rdma.give_address,
          warning=True),
    Check("resources.rdma_peer_memory", rdma.no_peer_memory,
          "between nodes everything goes through the CPU's memory: half as fast, or less",
          "on the host: sudo modprobe nvidia-peermem; for every start: echo nvidia-peermem | sudo "
          "tee /etc/modules-load.d/nvidia-peermem.conf; or the driver's open kernel module, which "
          "has dma-buf", warning=True),
    Check("resources.memlock", rdma.little_locked,
          'NCCL fails over RDMA: "ibv_reg_mr … Cannot allocate memory"', _told("memlock"),
          warning=True),
    Check("resources.threads", _threads,
          'DataLoader workers fail: "can\'t start new thread"', _told("pids"), warning=True),
    Check("resources.system_calls", forbidden.others,
          "programs that fall back where a kernel is older fail here: threads, test -w, make",
          forbidden.update, warning=True),
    Check("resources.files", _files,
          "programs that close each one that might be open take half a minute for it, the NVIDIA "
          "driver among them", _told("nofile"), warning=True),
    Check("resources.host_name", _host_name,
          "gloo and torchrun give that to other nodes, which then wait for nobody",
          _name_it, warning=True),
    Check("resources.cpus", _cpus,
          "GPUs wait for their processes and DataLoader workers", _more_cpus, warning=True),
)  # fmt: skip
