"""What is known of a run and of each of its stages."""

import shlex
from dataclasses import dataclass, field
from typing import Any, Literal

from ...config import command_words
from ...runs.lock import Holder

State = Literal["finished", "running", "unfinished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """One stage. `done`, `total` and `left` are in its `unit`, None if not known.

    `left` is the most that it can be; `counts` are statuses of reflections or of scores.
    """

    stage: str
    state: State
    done: int
    unit: str = "records"
    about: bool = False
    """Whether `done` is estimated, by the replies in a journal."""
    total: int | None = None
    left: int | None = None
    failed: int = 0
    retryable: dict[str, int] = field(default_factory=dict)
    """Of `counts`, what `--retry` takes up: `failed` in all, but for scores."""
    damaged_shards: int = 0
    per_second: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    student: str | None = None
    """What `--student` was, where a selection tells."""
    selected: int | None = None
    stale: bool = False
    """Whether what it was made from was made anew since."""
    command: str | None = None
    """What takes it up or makes it anew, with the options that were given."""
    retry: str | None = None
    """What asks again where that may change something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A folder as it is now: its stages in order, its locks' holders, the commands that go on."""

    run: str
    data: str | None
    holders: list[Holder]
    stages: list[StageStatus]
    next: list[str]


def command_line(command: str, /, **options: Any) -> str:
    """What a user types for these options."""
    return shlex.join(command_words(command, options))


def left_of(total: int | None, done: int) -> int | None:
    """What is left of a total, if that is known."""
    return None if total is None else max(total - done, 0)


def state_of(*, finished: bool, working: bool) -> State:
    """What a stage is."""
    return "running" if working else "finished" if finished else "unfinished"
