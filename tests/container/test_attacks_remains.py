"""What a box leaves and shares: its port, its memory, its run directory, in real containers."""

from __future__ import annotations

import json
import re

from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll

# Binds sshd's port as soon as it is free, on both families, and answers nobody.
TAKE_THE_PORT = """
import socket, time
print("tries", flush=True)
while True:
    try:
        mine = socket.create_server(("", 22))
        break
    except OSError:
        pass
print("has it", flush=True)
time.sleep(600)
"""


def reason(box: Box) -> str:
    return box.exec("launcher", "healthcheck", check=False).stdout.strip()


def test_who_takes_the_port_of_sshd_is_no_healthy_service(box: Boxes) -> None:
    started = box("-e", "GRANT_SUDO=no")
    started.wait_for_banner()
    started.exec("sh", "-c", "cat > /workspace/take.py", user="dev", stdin=TAKE_THE_PORT)
    taker = "nohup python3 -u /workspace/take.py > /workspace/said 2>&1 &"
    started.exec("sh", "-c", taker, user="dev")
    started.exec("launcher", "stop", "ssh")
    assert poll(lambda: "has it" in started.exec("cat", "/workspace/said").stdout, timeout=60)
    stopped = "ssh: it was stopped; start it: launcher restart sshd"
    assert poll(lambda: reason(started) == stopped, timeout=60, interval=0.5)
    # sshd goes on with the other family, or cannot start.
    started.exec("launcher", "start", "ssh", check=False)
    assert poll(lambda: reason(started) not in (stopped, ""), timeout=60, interval=0.5)
    assert re.search(r"ssh: (a program of uid 1000 listens on port 22|it ended)", reason(started))
    started.wait_for_log("launcher: ssh is not ready: ")


def test_what_serves_the_user_is_killed_before_what_restarts_it(box: Boxes) -> None:
    started = box()
    server = kernel.connect(started)
    score = "cat /proc/{}/oom_score_adj"
    watch = json.loads(started.exec("cat", "/run/launcher/programs.json").stdout)["watch"]["pid"]
    ours = int(started.exec("sh", "-c", score.format(watch)).stdout)
    assert int(started.exec("sh", "-c", score.format(1)).stdout) == ours
    assert int(started.exec("sh", "-c", score.format("$(pgrep -o sshd)")).stdout) == ours + 100
    assert started.exec("launcher", "exec", "--", "cat", "/proc/self/oom_score_adj").stdout == (
        f"{ours + 100}\n"
    )
    with server.kernel() as notebook:
        assert notebook.run(f"print(open('{score.format('self')[4:]}').read())").strip() == (
            str(ours + 100)
        )


def test_a_run_directory_is_kept_for_another_uid_and_holds_no_secret(box: Boxes) -> None:
    """As Compose keeps an image's volumes over `up` with changed settings."""
    first = box("-e", "NB_UID=1234", "-e", "HF_TOKEN=hf_0123456789")
    assert kernel.connect(first).answers()
    assert first.stop() < 10
    found = box.run(
        "-rlE", "hf_0123456789|token=", "/run/launcher",
        options=("--volumes-from", first.name, "--entrypoint", "/bin/grep"),
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (1, b"")
    third = box("--volumes-from", first.name, "-e", "NB_UID=4321")
    assert "NOT READY" not in third.wait_for_banner()
    assert kernel.connect(third).answers()


def test_a_command_that_sees_the_host_s_processes_is_healthy(box: Boxes) -> None:
    started = box("--pid", "host", command=("sleep", "600"))
    started.wait_for_log("no usable GPU")
    assert reason(started) == ""
    services = box("--pid", "host")
    services.wait_for_banner()
    assert "this box runs a command" not in services.exec("launcher", "status").stdout


def test_root_is_told_whose_a_box_of_another_user_is(box: Boxes) -> None:
    started = box("--user", "1000")
    started.wait_for_banner()
    asked = started.docker("exec", "-u", "0", started.name, "launcher", "status", check=False)
    assert "the box here is of uid 1000: come in as it (docker exec -u 1000 …)" in asked.stderr
    as_told = started.docker("exec", "-u", "1000", started.name, "launcher", "status", check=False)
    assert "jupyter" in as_told.stdout


# Two ranks of a real torchrun's.  The first time, one eats all memory, once what stands beside the
# torchrun has seen both (it holds a pidfd of each); the second time they wait.
HUNGRY = """
import glob, os, time

def is_seen():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if "launcher.cluster.beside" in open(path).read().split(chr(0))[:5]:
                folder = path.replace("cmdline", "fd")
                held = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
                return sum("pidfd" in target for target in held) == 3
        except OSError:
            pass

while os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    time.sleep(0.05)
    if os.environ["RANK"] == "1" and is_seen():
        x = [bytearray(b"x" * (1 << 24)) for _ in iter(int, 1)]
while not os.path.exists("/tmp/enough"):
    time.sleep(0.05)
"""


def _train_until_killed(started: Box) -> None:
    """A rank that is killed for want of memory is named, and why, while the job goes on."""
    started.exec("sh", "-c", "cat > /tmp/hungry.py", stdin=HUNGRY)
    torchrun = "launcher torchrun --nproc-per-node=2 --max-restarts=1 /tmp/hungry.py"
    started.exec("sh", "-c", f"({torchrun}; echo ended $?) > /tmp/said 2>&1 &")
    try:
        assert poll(lambda: _deaths(started), timeout=120, interval=0.5)
    finally:
        started.exec("touch", "/tmp/enough")
    assert poll(lambda: "ended" in started.exec("cat", "/tmp/said").stdout, timeout=60)
    said = started.exec("cat", "/tmp/said").stdout
    assert "ended 0" in said
    line = re.search(r"launcher: rank 1 \(local rank 1, pid \d+\) on .* was killed by .*", said)
    assert line, said
    assert line[0].endswith(f"{OF_MEMORY}, the box is out of memory: its limit is 0.684 GiB")


OF_MEMORY = "SIGKILL: the kernel killed it for want of memory"


def _deaths(started: Box) -> bool:
    status = json.loads(started.exec("launcher", "status", "--json").stdout)
    found = [death["by"] for job in status["jobs"] for death in job["deaths"]]
    return bool(found) and all(by.startswith(OF_MEMORY) for by in found)


def test_what_the_kernel_kills_for_want_of_memory_is_said_and_counted(box: Boxes) -> None:
    started = box("--memory", "700m", "--memory-swap", "700m", "-e", "LAUNCHER_SERVICES=ssh")
    started.wait_for_banner()
    eat = "x = [bytearray(b'x' * (1 << 24)) for _ in iter(int, 1)]"
    eaten = started.docker(
        "exec", started.name, "launcher", "exec", "--", "python", "-c", eat, check=False
    )
    assert eaten.returncode == 137
    said = started.wait_for_log(r"launcher: the kernel killed a process in this box: .*")[0]
    assert "its limit is 0.684 GiB" in said
    assert "what has most now: " in said
    assert "docker run --memory=" in said
    counted = started.exec("launcher", "status").stdout
    assert "1 process was killed for want of it" in counted
    _train_until_killed(started)
    assert reason(started) == ""
