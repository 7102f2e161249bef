"""Put a rank on the CPUs beside its GPU, then become what torchrun was to start.

`torchrun … rank.py LISTS KIND WORD…`: LISTS has a list of CPUs for each local rank, as the kernel
writes them, with a colon between two; KIND is what the words are: a script, a module or a program.
Memory follows the CPUs: the kernel takes it from the node that first touches it.
"""

from __future__ import annotations

import os
import sys


def cpus_of(text: str) -> set[int]:
    """Read "0-3,8" (kernel.org, admin-guide/cputopology)."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def bind(lists: str, rank: int) -> None:
    """Bind this process; a rank without a list, or beyond them, stays where it is."""
    mine = lists.split(":")[rank : rank + 1]
    if not mine or not mine[0]:
        return
    try:
        os.sched_setaffinity(0, cpus_of(mine[0]))
    except OSError as err:  # a cpuset that shrank meanwhile: slower, and no reason to end a job
        said = f"launcher: rank {rank} is not bound to CPUs {mine[0]}: {err.strerror}"
        print(said, file=sys.stderr, flush=True)


def main(lists: str, kind: str, *words: str) -> None:
    bind(lists, int(os.environ["LOCAL_RANK"]))
    before = {"script": [sys.executable, "-u"], "module": [sys.executable, "-u", "-m"]}
    argv = [*before.get(kind, []), *words]
    try:
        os.execvp(argv[0], argv)
    except OSError as err:
        sys.exit(f"launcher: cannot run {argv[0]!r}: {err.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
