"""One task's share of a run that several work on side by side: every n-th shard."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import UsageError


@dataclass(frozen=True, slots=True)
class Share:
    """Task `index` (from 0) of `of`.

    >>> [shard for shard in range(8) if Share(1, 3).takes(shard)]
    [1, 4, 7]
    """

    index: int
    of: int

    def takes(self, shard: int) -> bool:
        """Whether a shard is this task's."""
        return shard % self.of == self.index

    @property
    def whole(self) -> bool:
        """Whether one task does everything."""
        return self.of == 1

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


WHOLE = Share(0, 1)


def share_of(text: str | None, environment: Mapping[str, str]) -> Share:
    """The share that `--shard` names, i/n or all; by default that of a Slurm task, else all.

    >>> slurm = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    >>> share_of(None, slurm | {"SLURM_ARRAY_TASK_MIN": "1"})
    Share(index=2, of=4)
    """
    if text == "all":
        return WHOLE
    if text is None:
        return _slurm(environment) if "SLURM_ARRAY_TASK_ID" in environment else WHOLE
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise UsageError(
            f"--shard takes i/n with i from 0 to n-1, such as 0/4, or all, not {text!r}"
        )
    return Share(int(found[1]), int(found[2]))


def _slurm(environment: Mapping[str, str]) -> Share:
    """By the ids from MIN in steps of STEP; an array with gaps does not tell a task's place."""

    def number(name: str, usual: int | None = None) -> int:
        text = environment.get(f"SLURM_ARRAY_TASK_{name}", "")
        if not text.isdigit() and usual is None:
            raise UsageError(
                f"SLURM_ARRAY_TASK_ID is set, but SLURM_ARRAY_TASK_{name} is {text!r}: give "
                "--shard i/n, or --shard all"
            )
        return int(text) if text.isdigit() else usual or 0

    id, of, first = number("ID"), number("COUNT"), number("MIN")
    step = max(number("STEP", 1), 1)
    last = number("MAX", first + (of - 1) * step)
    index, rest = divmod(id - first, step)
    if rest or last != first + (of - 1) * step or not 0 <= index < of:
        raise UsageError(
            f"the Slurm array of {of} tasks from {first} to {last} has gaps, so task {id} does "
            "not know its share: give --shard i/n, or --shard all"
        )
    return Share(index, of)
