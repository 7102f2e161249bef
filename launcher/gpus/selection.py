"""The best N of these GPUs, exactly.  Pure.

Best means, in this order: the strongest weakest link, the largest sum of links, the most pairs
on one NUMA node, the most pairs with P2P, the most free memory, the lowest PCI addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from launcher.gpus.topology import strength
from launcher.model.machine import Gpu, Pair

Pairs = Mapping[tuple[int, int], Pair]


def best_set(
    gpus: Sequence[Gpu], pairs: Pairs, size: int, required: Sequence[Gpu] = ()
) -> tuple[Gpu, ...]:
    """Return the best `size` of `gpus` with all `required` among them, in PCI order.

    Raises ValueError where there are fewer, and where `required` are more or not of `gpus`.

    Exact: for each possible weakest link, the strongest first, the sets whose every pair is at
    least that strong are grown one GPU at a time.  The rest of the order is a single integer in
    mixed radix, which adds up pair by pair.
    """
    if not 1 <= size <= len(gpus):
        raise ValueError(f"cannot choose {size} of {len(gpus)} GPUs")
    missing = [str(gpu.index) for gpu in required if gpu not in gpus]
    if missing or len(required) > size:
        what = f"GPU {', '.join(missing)}" if missing else f"{len(required)} GPUs"
        raise ValueError(f"cannot choose {size} of {len(gpus)} GPUs with {what} among them")
    candidates = sorted(gpus, key=lambda gpu: gpu.pci_bus_id or "")
    links = _table(candidates, pairs, strength)
    fixed = tuple({candidates.index(gpu) for gpu in required})
    search = _Search(_worth(candidates, pairs, links, size), size, fixed)
    for weakest in sorted({link for row in links for link in row}, reverse=True):
        joined = [
            sum(1 << b for b, link in enumerate(row) if b != a and link >= weakest)
            for a, row in enumerate(links)
        ]
        if chosen := search.heaviest(joined):
            return tuple(candidates[place] for place in sorted(chosen))
    raise AssertionError("with the weakest link of all, every set is a candidate")


def _table(gpus: Sequence[Gpu], pairs: Pairs, value: Callable[[Pair], int]) -> list[list[int]]:
    def of(a: Gpu, b: Gpu) -> int:
        pair = pairs.get((a.index, b.index))
        return value(pair) if pair else 0

    return [[of(a, b) for b in gpus] for a in gpus]


class _Worth:
    """What a set is worth: `single[g]` for each member and `pair[a][b]` for each pair, added up."""

    def __init__(self, single: list[int], pair: list[list[int]]) -> None:
        self.single = single
        self.pair = pair


def _worth(gpus: Sequence[Gpu], pairs: Pairs, links: list[list[int]], size: int) -> _Worth:
    """Put the tie-breakers below the sum of links: each one's unit exceeds all that is below it."""
    free = [gpu.memory_free or 0 for gpu in gpus]
    most_pairs = size * (size - 1) // 2
    p2p_unit = sum(sorted(free)[-size:]) + 1
    node_unit = p2p_unit * (most_pairs + 1)
    link_unit = node_unit * (most_pairs + 1)
    p2p = _table(gpus, pairs, lambda pair: int(pair.p2p == "OK"))
    pair = [
        [
            links[a][b] * link_unit
            + _same_node(gpus[a], gpus[b]) * node_unit
            + p2p[a][b] * p2p_unit
            for b in range(len(gpus))
        ]
        for a in range(len(gpus))
    ]
    return _Worth(free, pair)


def _same_node(a: Gpu, b: Gpu) -> bool:
    return a.numa_node is not None and a.numa_node == b.numa_node


class _Search:
    """Grows cliques and keeps the heaviest; the first found of equals has the lowest addresses.

    What each GPU would add to the set so far is kept in one big integer, a field for each GPU:
    taking a GPU in is then one addition, which makes 8 of 16 a matter of milliseconds.
    """

    def __init__(self, worth: _Worth, size: int, fixed: tuple[int, ...] = ()) -> None:
        count = len(worth.single)
        most = max(worth.single, default=0) + size * max(map(max, worth.pair))
        width = most.bit_length() + 1
        self._size = size
        self._fixed = fixed
        self._mask = (1 << width) - 1
        self._shifts = [width * place for place in range(count)]
        self._start = sum(value << width * place for place, value in enumerate(worth.single))
        self._rows = [
            sum(value << width * place for place, value in enumerate(row)) for row in worth.pair
        ]

    def heaviest(self, joined: list[int]) -> tuple[int, ...] | None:
        """Return the heaviest set whose members all join; `joined[g]` are g's neighbours."""
        self._joined = joined
        self._best: tuple[int, ...] | None = None
        self._most = -1
        open_, adds, total = (1 << len(joined)) - 1, self._start, 0
        for place in self._fixed:
            if not open_ >> place & 1:
                return None
            total += adds >> self._shifts[place] & self._mask
            open_ &= joined[place]
            adds += self._rows[place]
        if len(self._fixed) == self._size:
            return self._fixed
        self._grow(self._fixed, self._size - len(self._fixed), open_, adds, total)
        return self._best

    def _grow(self, chosen: tuple[int, ...], left: int, open_: int, adds: int, total: int) -> None:
        while open_.bit_count() >= left:
            lowest = open_ & -open_
            place = lowest.bit_length() - 1
            open_ ^= lowest
            value = total + (adds >> self._shifts[place] & self._mask)
            if left > 1:
                rest = open_ & self._joined[place]
                self._grow((*chosen, place), left - 1, rest, adds + self._rows[place], value)
            elif value > self._most:
                self._most, self._best = value, (*chosen, place)
