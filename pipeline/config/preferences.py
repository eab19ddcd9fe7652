"""Settings of preference pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import UsageError
from . import InputConfig, _choice, _positive

Choose = Literal["best-worst", "rso"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig:
    """`curate pairs`."""

    input: InputConfig
    """A run, a file of verdicts, rated samples, or demonstrations where `against` is given."""
    out: Path
    student: str | None = None
    """Whose scores of a run decide: a folder's name in scores/, or its beginning."""
    against: str | None = None
    """A model's answers, over which the data's own are preferred."""
    choose: Choose = "best-worst"
    """How pairs are made of several rated samples."""
    tier: float = 0.0
    """Of best-worst: the width of the best and of the worst tier, a part of the range of scores."""
    beta: float = 0.5
    """Of rso: in units of the ratings, how far worse ones are accepted."""
    keep: int = 8
    """Of rso: the samples that are accepted; half as many pairs."""
    min_margin: float | None = None
    max_length_ratio: float | None = None
    balance_length: bool = False
    decontaminate: tuple[str, ...] = ()
    ngram: int = 13
    seed: int = 0

    def __post_init__(self) -> None:
        _choice("--choose", self.choose, get_args(Choose))
        if not 0 <= self.tier < 0.5:
            raise UsageError(
                f"--tier must be at least 0 and below 0.5, not {self.tier}: from there on the best "
                "and the worst tier meet"
            )
        _positive("--beta", self.beta)
        _positive("--ngram", self.ngram)
        if self.keep < 2:
            raise UsageError(f"--keep must be at least 2, not {self.keep}")
        if self.min_margin is not None and not self.min_margin >= 0:
            raise UsageError(f"--min-margin must not be negative, not {self.min_margin}")
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1:
            raise UsageError(f"--max-length-ratio must be at least 1, not {self.max_length_ratio}")
        if self.min_margin is not None and self.against is not None:
            raise UsageError("--min-margin is for scored answers: demonstrations have no score")
        if self.tier and self.choose == "rso":
            raise UsageError("--tier is for --choose best-worst, not for rso")
