"""What the watch knows of the GPUs, and a watch after it needs to know.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launcher.model.named_tuple import NamedTuple


class GpuRecord(NamedTuple):
    """What was said of them, by the index of the start."""

    lost: str = ""  # what the log says is lost
    xids: Mapping[int, Mapping[int, int]] = {}  # how often each came, the one that came last last
    resets: Mapping[int, str] = {}  # why those are not healthy that need a reset
    troubles: Mapping[int, Mapping[str, str]] = {}  # what got worse, by the id of its check

    @property
    def kinds(self) -> Iterator[tuple[int, int]]:
        """Yield each Xid that came, as (GPU, code)."""
        for gpu, codes in self.xids.items():
            yield from ((gpu, code) for code in codes)

    def with_xid(self, gpu: int, code: int, count: int, reset: str) -> GpuRecord:
        codes = dict(self.xids.get(gpu, {}))
        if count:
            codes[code] = codes.pop(code, 0) + count
        resets = {**self.resets, gpu: reset} if reset else self.resets
        return self._replace(xids={**self.xids, gpu: codes}, resets=resets)

    def with_loss(self, lost: str) -> GpuRecord:
        """Return what is known once others are lost; with "", once all are there again.

        What came back was reset, as far as anybody knows.
        """
        return self._replace(lost=lost, resets=self.resets if lost else {})

    def with_resets(self, told: Mapping[str, str]) -> GpuRecord:
        """Return what is known after a look: by index, why it needs a reset; "" = it does not."""
        now = {int(index): why for index, why in told.items()}
        both = {**self.resets, **now}
        return self._replace(resets={index: why for index, why in both.items() if why})

    def with_troubles(
        self, told: Mapping[str, Mapping[str, str]], holding: Mapping[str, Iterable[str]]
    ) -> GpuRecord:
        """Return what is known after a look: what was said now, and what is so still, by index."""
        both = {
            int(gpu): {**self.troubles.get(int(gpu), {}), **told.get(gpu, {})} for gpu in holding
        }
        kept = {
            gpu: {check: words for check, words in known.items() if check in holding[str(gpu)]}
            for gpu, known in both.items()
        }
        return self._replace(troubles={gpu: known for gpu, known in kept.items() if known})

    def to_json(self) -> dict[str, Any]:
        return {
            "lost": self.lost,
            "xids": {str(gpu): {str(code): n for code, n in codes.items()}
                     for gpu, codes in self.xids.items()},
            "resets": {str(gpu): why for gpu, why in self.resets.items()},
            "troubles": {str(gpu): dict(known) for gpu, known in self.troubles.items()},
        }  # fmt: skip


def from_json(told: object) -> GpuRecord:
    """Return what another watch wrote; what is none of it counts as nothing."""
    try:
        assert isinstance(told, dict)
        return GpuRecord(
            lost=str(told["lost"]),
            xids={int(gpu): {int(code): int(n) for code, n in codes.items()}
                  for gpu, codes in told["xids"].items()},
            resets={int(gpu): str(why) for gpu, why in told["resets"].items()},
            troubles={int(gpu): {str(check): str(words) for check, words in known.items()}
                      for gpu, known in told.get("troubles", {}).items()},
        )  # fmt: skip
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        return GpuRecord()
