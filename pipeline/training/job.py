"""What a training is given, what it reports, and what it measures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.shared.training import Recipe
from .chat_template import Serving
from .folder.checkpoints import CHECKPOINTS
from .rows import TrainingData


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """One optimiser step, as it is done."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float


Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained on what, and how."""

    model: str
    revision: str | None
    template: str
    recipe: Recipe
    data: TrainingData[Any]
    serving: Serving
    out: Path
    state: Any  # accelerate's PartialState: which process this is of how many
    bf16: bool
    cpu: bool

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, which are whole or not there."""
        return self.out / CHECKPOINTS


@dataclass(slots=True, kw_only=True)
class Training:
    """What is measured while it runs: losses in nats, tokens and seconds of this session."""

    report: Report
    resumed_from: int | None = None
    held_out_before: float | None = None
    held_out_after: float | None = None
    tokens: float = 0
    started: float = 0
    seconds: float = 0
