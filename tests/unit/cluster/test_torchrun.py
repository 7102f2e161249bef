"""The command that `launcher torchrun` becomes: words, arguments and reasons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cluster.job import Job, find_job
from launcher.cluster.options import UnknownOption, empty_variables, read_words
from launcher.cluster.place import Surroundings
from launcher.cluster.rendezvous import Choice, Reach, choose_arguments, choose_variables, notes
from launcher.detect.torchrun import Option, find_torchrun
from launcher.model.errors import BadSetting
from launcher.model.printable import printable
from testing.local_box import LAUNCHER
from tests.unit.cluster import recorded
from tests.unit.cluster.recorded import RECORDED

KNOWN = find_torchrun({"PATH": ""}, "/nonexistent/bin/python").options
EIGHT = Choice("--nproc-per-node", "8", "CUDA sees 8 × NVIDIA H100")
HERE = Reach("10.0.0.3", is_master=False)

# --- words -----------------------------------------------------------------------------------


def test_words_are_told_apart() -> None:
    typed = ["--dry-run", "--nnodes", "2", "--node_rank=1", "-t3", "-m", "pkg.train"]
    typed += ["--nnodes", "9", "--dry-run"]
    words = read_words(typed, KNOWN, {})
    assert words.script == ("pkg.train", "--nnodes", "9", "--dry-run")
    assert (words.dry_run, words.json) == (True, False)
    assert {dest: said.value for dest, said in words.given.items()} == {
        "nnodes": "2", "node_rank": "1", "tee": "3", "module": "1",
    }  # fmt: skip
    assert [word for _, taken in words.options for word in taken] == typed[1:6]


def test_a_beginning_that_one_option_has_will_do() -> None:
    assert read_words(["--nnod=2", "x"], KNOWN, {}).given["nnodes"].value == "2"


@pytest.mark.parametrize("word", ["--no-such", "--rdzv", "-x", "--node-rank"])
def test_a_word_that_is_no_option_is_refused(word: str) -> None:
    with pytest.raises(UnknownOption, match=word):
        read_words([word], KNOWN, {})


def test_variables_of_torchrun_are_options() -> None:
    environ = {"PET_NNODES": "2", "PET_STANDALONE": "0", "PET_NO_PYTHON": "1", "PET_RDZV_ID": ""}
    given = read_words(["--nnodes=3", "x"], KNOWN, environ).given
    assert {(dest, *said) for dest, said in given.items()} == {
        ("nnodes", "3", "--nnodes"), ("no_python", "1", "PET_NO_PYTHON"),
    }  # fmt: skip
    assert empty_variables(environ) == ("PET_RDZV_ID",)


SOURCE = """
def get_args_parser():
    parser.add_argument("--nnodes", action=env, type=str)
    parser.add_argument("--master_port", action=env)
    parser.add_argument("-m", "--module", action=check_env)
    parser.add_argument("--event-log-handler", "--event_log_handler", action=env)
    parser.add_argument("--shiny", action="store_true", dest="bright")
    parser.add_argument("training_script", type=str)
"""


def test_the_options_are_those_of_the_user_s_pytorch(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "torchrun"
    run = tmp_path / "lib/python3.11/site-packages/torch/distributed/run.py"
    for path, text in ((program, f"#!{tmp_path}/bin/python\n"), (run, SOURCE)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    program.chmod(0o755)
    found = find_torchrun({"PATH": str(program.parent)}, "/nonexistent/bin/python")
    assert found.argv == (str(program),)
    assert found.options["--shiny"] == Option("bright", takes_value=False)
    assert found.options["-m"] == found.options["--module"] == Option("module", takes_value=False)
    assert found.options["--master-port"].takes_value
    assert "--tee" not in found.options
    assert find_torchrun({"PATH": ""}, str(tmp_path / "bin/python")).argv == (str(program),)
    above = tmp_path / "workspace" / "bin" / "torchrun"  # of an environment above that one
    above.parent.mkdir(parents=True)
    above.write_text(f"#!{above.parent}/python\n")
    above.chmod(0o755)
    found = find_torchrun({"PATH": str(above.parent)}, str(tmp_path / "bin/python"))
    assert (found.argv, found.python) == ((str(above),), str(above.parent / "python"))
    assert "--shiny" in found.options
    program.unlink()
    assert find_torchrun({"PATH": ""}, str(tmp_path / "bin/python")).argv[1:] == (
        "-m", "torch.distributed.run",
    )  # fmt: skip
    assert find_torchrun({"PATH": ""}, "/nonexistent/bin/python").argv == ()


# --- arguments -------------------------------------------------------------------------------


def arguments(name: str, *typed: str, reach: Reach = HERE) -> list[str]:
    node = RECORDED[name]
    given = read_words([*typed, "x"], KNOWN, node.environ).given
    job = find_job(given, node.surroundings, 8)
    return [one.word for one in choose_arguments(job, given, EIGHT, reach)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", ["--standalone"]),
        ("slurm step", ["--nnodes=4", "--node-rank=1", "--master-addr=rack0gpu1",
                        "--master-port=61000"]),
        ("pytorchjob to 2023", ["--nnodes=3", "--node-rank=2", "--master-addr=bert-master-0",
                                "--master-port=23456"]),
        ("indexed job", ["--node-rank=1", "--master-addr=llm-0.workers.ml.svc.cluster.local",
                         "--master-port=29500"]),
        ("trainer", []),  # PET_* has all but the processes, which torchrun reads itself
        ("pytorchjob elastic", ["--local-addr=10.0.0.3",
                                "--rdzv-conf=read_timeout=600,is_host=0"]),
    ],
)  # fmt: skip
def test_arguments_are_those_that_nobody_gave(name: str, expected: list[str]) -> None:
    count = [] if name == "trainer" else [EIGHT.word]  # its PET_NPROC_PER_NODE
    assert arguments(name) == count + expected


@pytest.mark.parametrize(
    ("typed", "reach", "expected"),
    [
        (("--nnodes=2:4", "--rdzv-endpoint=[fd00::1]:7000"), Reach("fd00::1", True),
         ["--rdzv-backend=c10d", "--local-addr=fd00::1",
          "--rdzv-conf=read_timeout=600,is_host=1"]),
        (("--nnodes=2", "--master-addr=fd00::1"), Reach(),
         ["--rdzv-backend=c10d", "--rdzv-endpoint=[fd00::1]:29500",
          "--rdzv-conf=read_timeout=600"]),
        (("--nnodes=2:4", "--master-addr=m", "--rdzv-conf=is_host=1,join_timeout=9"), HERE,
         ["--rdzv-backend=c10d", "--rdzv-endpoint=m:29500", "--local-addr=10.0.0.3",
          "--rdzv-conf=is_host=1,join_timeout=9,read_timeout=600"]),
        (("--nnodes=2", "--node-rank=1", "--rdzv-endpoint=m:1"), HERE, []),
        (("--nnodes=2", "--rdzv-backend=etcd-v2", "--rdzv-endpoint=m:1"), HERE, []),
        (("--rdzv-backend=c10d", "--rdzv-endpoint=m:1", "--nnodes=1"), HERE, []),
        ((), Reach(own_name_is_known=False), ["--standalone", "--local-addr=localhost"]),
    ],
)  # fmt: skip
def test_what_is_typed_stays(typed: tuple[str, ...], reach: Reach, expected: list[str]) -> None:
    assert arguments("nothing", *typed, reach=reach) == [EIGHT.word, *expected]


def test_static_without_a_rank_is_refused() -> None:
    with pytest.raises(BadSetting, match="--node-rank=R"):
        arguments("nothing", "--nnodes=2", "--rdzv-backend=static", "--master-addr=m")


OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


@pytest.mark.parametrize(
    ("typed", "environ", "expected"),
    [
        ((), {}, {}),
        (("--max-restarts=0",), {}, {}),
        (("--max-restarts=3",), {}, {OWN_STORE: "1"}),
        (("--max-restarts=3",), {OWN_STORE: "0"}, {}),
        (("--nnodes=2:4", "--master-addr=m"), {}, {OWN_STORE: "1"}),
        (("--nnodes=2", "--master-addr=m"), {}, {OWN_STORE: "1"}),
        (("--nnodes=2", "--node-rank=0", "--master-addr=m"), {}, {}),
        (
            ("--nnodes=2", "--node-rank=0", "--master-addr=m", "--max-restarts=3"),
            {},
            {OWN_STORE: "1"},
        ),
        (
            (
                "--nnodes=2",
                "--node-rank=0",
                "--master-addr=m",
                "--max-restarts=3",
                "--rdzv-backend=static",
            ),
            {},
            {},
        ),
    ],
    ids=["one", "never", "again", "user", "elastic", "no rank", "static", "several", "theirs"],
)
def test_ranks_that_start_anew_find_no_old_addresses(
    typed: tuple[str, ...], environ: dict[str, str], expected: dict[str, str]
) -> None:
    given = read_words([*typed, "x"], KNOWN, environ).given
    job = find_job(given, Surroundings(environ), 8)
    chosen = choose_variables(job, given, environ)
    assert {one.name: one.value for one in chosen if one.why} == expected


@pytest.mark.parametrize("name", ["slurm step", "pytorchjob to 2023", "runpod"])
def test_ranks_that_start_anew_meet_anew(name: str) -> None:
    """By static one that is early finds the addresses of the round before, and hangs or fails."""
    words = arguments(name, "--max-restarts=1")
    assert "--rdzv-backend=c10d" in words
    assert not any(word.startswith(("--node-rank", "--master-")) for word in words)
    assert "--rdzv-backend=c10d" not in arguments(name, "--max-restarts=0")
    assert "--rdzv-backend=c10d" not in arguments(name)


@pytest.mark.parametrize(
    ("typed", "is_master", "hosts"),
    [(("--node-rank=1", "--master-addr=m"), True, "0"),
     (("--node-rank=0", "--master-addr=m"), False, "1"),
     (("--node-rank=2", "--rdzv-endpoint=m:1"), True, "1"), (("--master-addr=m",), True, "1")],
    ids=["one address", "behind a service", "an endpoint", "no rank"],
)  # fmt: skip
def test_one_node_hosts(typed: tuple[str, ...], is_master: bool, hosts: str) -> None:
    words = ("--nnodes=3", "--max-restarts=1", *typed)
    found = arguments("nothing", *words, reach=Reach("10.0.0.3", is_master))
    assert f"--rdzv-conf=read_timeout=600,is_host={hosts}" in found


def test_who_wants_static_for_them_is_told() -> None:
    words = ("--max-restarts=1", "--rdzv-backend=static")
    given = read_words([*words, "x"], KNOWN, recorded.STEP).given
    job = find_job(given, Surroundings(recorded.STEP), 8)
    (note,) = notes(job, given, HERE)
    assert note.startswith("--max-restarts and --rdzv-backend=static: ")
    given = read_words([words[0], "x"], KNOWN, recorded.STEP).given
    assert list(notes(job, given, HERE)) == []


@pytest.mark.parametrize(
    ("rank", "master", "reach", "begin"),
    [
        (1, "127.0.0.1", HERE, "--master-addr=127.0.0.1 is each machine's own address"),
        (0, "localhost", Reach("127.0.0.1", True), "--master-addr=localhost is each"),
        (0, "m", HERE, "this is node 0, and --master-addr=m is none of its addresses"),
        (0, "m", Reach("10.0.0.3", True), ""),
        (0, "m", Reach(), ""),
        (1, "m", HERE, ""),
    ],
)
def test_a_master_by_which_nobody_finds_node_0_is_said(
    rank: int, master: str, reach: Reach, begin: str
) -> None:
    typed = ["--nnodes=2", f"--node-rank={rank}", f"--master-addr={master}", "x"]
    given = read_words(typed, KNOWN, {}).given
    said = list(notes(find_job(given, Surroundings({}), 8), given, reach))
    assert [note[: len(begin)] for note in said] == ([begin] if begin else [])


def test_every_argument_has_its_reason() -> None:
    for node in RECORDED.values():
        given = read_words(["x"], KNOWN, node.environ).given
        job = find_job(given, node.surroundings, 8)
        assert all(one.why for one in choose_arguments(job, given, EIGHT, HERE))


def test_slurm_s_id_names_an_elastic_job() -> None:
    given = read_words(["--nnodes=2:4", "x"], KNOWN, {}).given
    job: Job = find_job(given, Surroundings(recorded.STEP), 8)
    words = [one.word for one in choose_arguments(job, given, EIGHT, HERE)]
    assert "--rdzv-id=9072.0.0" in words
    assert "--rdzv-endpoint=rack0gpu1:61000" in words


# --- the command, whole ------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose torchrun prints what it was given."""
    program = tmp_path / "bin" / "torchrun"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps({'argv': sys.argv[1:], 'environ': dict(os.environ)}))\n"
    )
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "LAUNCHER_RUN_DIR": "/nonexistent/run", "CUDA_VISIBLE_DEVICES": ""}


def run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCHER, "torchrun", *words], env=environ, cwd="/", capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_it_becomes_torchrun(environment: dict[str, str]) -> None:
    empty = {"PET_STANDALONE": ""}
    done = run({**environment, **empty}, "--nproc-per-node=2", "train.py", "--json", "a b")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["argv"] == ["--standalone", "--nproc-per-node=2", "train.py", "--json", "a b"]
    assert "PET_STANDALONE" not in answer["environ"]
    assert int(answer["environ"]["OMP_NUM_THREADS"]) >= 1
    first, note = done.stderr.splitlines()
    assert first == "launcher: torchrun on this machine: 2 processes"
    assert note.startswith("launcher: PET_STANDALONE is set to nothing")


def test_dry_run_says_why_and_runs_nothing(environment: dict[str, str]) -> None:
    environ = {**environment, **recorded.RUNPOD, "PRIMARY_ADDR": "127.0.0.1",
               "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "3"}  # fmt: skip
    done = run(environ, "--dry-run", "--nproc-per-node=8", "train.py", "--lr", "1e-3")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["--nnodes=2", "NUM_NODES"] in rows
    assert ["--node-rank=1", "NODE_RANK"] in rows
    assert ["--nproc-per-node=8", "yours"] in rows
    assert done.stdout.splitlines()[-1].endswith("--nproc-per-node=8 train.py --lr 1e-3")
    assert "OMP_NUM_THREADS" not in done.stdout
    data = json.loads(run(environ, "--json", "--nproc-per-node=8", "train.py").stdout)
    assert (data["node"], data["nodes"], data["platform"]) == (1, [2, 2], "RunPod")


def test_dry_run_waits_for_no_name(environment: dict[str, str]) -> None:
    words = ("--nnodes=2", "--node-rank=1", "--master-addr=no-such-host.invalid", "x.py")
    done = run(environment, "--dry-run", *words)  # a run would give it a minute, as `run` does
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "no-such-host.invalid has no address yet: a run gives it 60 s" in said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({**recorded.RUNPOD, "NODE_RANK": "a\n\x1b[31m"}, "NODE_RANK='a\\n\\x1b[31m': expected"),
        ({**recorded.RUNPOD, "PRIMARY_ADDR": "127.0.0.1", "MASTER_ADDR": "127.9.9.9 x"},
         "MASTER_ADDR='127.9.9.9 x': expected a host's name or address"),
        ({**recorded.RUNPOD, "PRIMARY_ADDR": "10.0.0.1", "MASTER_ADDR": "10.0.0.2"},
         "PRIMARY_ADDR says that node 0 is 10.0.0.1, but MASTER_ADDR says 10.0.0.2"),
        ({"PET_NO_PYTHON": "yes"}, "PET_NO_PYTHON='yes': expected 1, or 0 for no"),
    ],
)  # fmt: skip
def test_what_cannot_be_ends_with_78(
    environment: dict[str, str], environ: dict[str, str], said: str
) -> None:
    done = run({**environment, **environ}, "--nproc-per-node=8", "x.py")
    assert (done.returncode, done.stdout) == (78, "")
    assert said in done.stderr


def test_what_a_terminal_would_obey_is_escaped(environment: dict[str, str]) -> None:
    hostile = {"PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "::1",
               "PET_RDZV_ID": "\x1b[31m\nforged"}  # fmt: skip
    done = run({**environment, **hostile}, "--dry-run", "train.py")
    assert "--rdzv-id=\\x1b[31m\\nforged" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "word", ["a b", "it's", "a\nb", "\x1b[31m", "back\\slash\n'", "\udcff", "\u202e"]
)
def test_the_command_that_is_shown_is_the_command(environment: dict[str, str], word: str) -> None:
    done = run(environment, "--dry-run", "--nproc-per-node=1", word)
    shown = done.stdout.splitlines()[-1]
    assert printable(shown) == shown
    typed = subprocess.run(
        ["bash", "-c", shown], env={**environment, "LC_ALL": "C.UTF-8"}, capture_output=True,
        check=True,
    )  # fmt: skip
    assert json.loads(typed.stdout)["argv"][-1] == word


def test_a_value_is_shown_as_far_as_one_reads_it(environment: dict[str, str]) -> None:
    long = {"NCCL_IB_HCA": "x" * 65536, "OMPI_MCA_orte_default_hostfile": "y" * 65536}
    done = run({**environment, **long}, "--dry-run", "--nnodes=2", "--node-rank=0",
               "--master-addr=127.0.0.1", "x.py")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) < 4000


def test_without_pytorch_it_says_what_is_missing() -> None:
    bare = {"PATH": "/usr/bin:/bin", "LAUNCHER_PYTHON": "/nonexistent/bin/python"}
    done = run({**bare, "LAUNCHER_RUN_DIR": "/nonexistent/run"}, "train.py")
    assert done.returncode == 78
    assert "there is no torchrun on PATH nor beside /nonexistent/bin/python" in done.stderr


def test_without_a_script_there_is_nothing_to_run(environment: dict[str, str]) -> None:
    done = run(environment, "--nnodes=1")
    assert done.returncode == 2
    assert "the script to run is missing" in done.stderr
