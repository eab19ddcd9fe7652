"""`curate pairs`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option

Choose = Literal["best-worst", "rso"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig:
    """`curate pairs`."""

    input: InputConfig = embedded(
        "Input",
        help={
            "data": "A run; a file of verdicts by `curate judge`; rated samples, also "
            "UltraFeedback's and distilabel's; or, with --against, demonstrations."
        },
        without=("strict", "limit"),
    )
    out: Path = out_option(help="The folder of pairs.")
    student: str | None = option(
        None, help="Whose r-IFD of a run chooses: a folder's name in scores/, or its start."
    )
    against: str | None = option(
        None, help="A model's answers, over which the data's own are preferred.", place="in"
    )
    choose: Choose = option(
        "best-worst",
        help="Of several rated samples: the best over the worst, or pairs of those that "
        "statistical rejection (rso) accepts.",
    )
    tier: float = option(
        0.0,
        help="Of best-worst: chosen is the shortest answer within this part of the range of "
        "ratings below the best, rejected the longest within as much above the worst.",
        min=0,
    )
    beta: float = option(
        0.5,
        help="Of rso, in units of the ratings: the smaller, the more the best are accepted.",
        above=0,
    )
    keep: int = option(8, help="Of rso: the samples of a prompt that are accepted.", min=2)
    min_margin: float | None = option(
        None, help="Leave out pairs whose scores are closer; of a run, whose log r-IFDs are.", min=0
    )
    max_length_ratio: float | None = option(
        None, help="Leave out pairs of which one answer is more times as long.", min=1
    )
    balance_length: bool = option(
        False,
        help="Leave out the least clear pairs until the chosen answer is as often the longer as "
        "the shorter one.",
    )
    decontaminate: tuple[str, ...] = option(
        (),
        help="Leave out what repeats this evaluation set: a file, folder or hub id; repeatable.",
        place="in",
    )
    ngram: int = option(13, help="So many words in a row are a repetition.", min=1)
    seed: int = option(0, help="Of rso; with a record's id it seeds what is accepted.")

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tier < 0.5:
            raise UsageError(
                f"--tier must be below 0.5, not {self.tier}: from there on the best and the worst "
                "tier meet"
            )
        if self.min_margin is not None and self.against is not None:
            raise UsageError("--min-margin is for scored answers: demonstrations have no score")
        if self.tier and self.choose == "rso":
            raise UsageError("--tier is for --choose best-worst, not for rso")
