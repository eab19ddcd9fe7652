"""`curate select`."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..base.processes.sharding import Share
from ..errors import UsageError
from .comparison import SETS
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option, share_option
from .shared.scoring import ScoringConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RankBy = Literal["ifd", "rifd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectConfig:
    """`curate select`."""

    input: InputConfig = embedded("Input")
    scoring: ScoringConfig = embedded("Scoring")
    out: Path | None = out_option(None, help="The run directory; not needed if DATA is one.")
    name: str | None = option(
        None, help="Name these thresholds: the selection stands beside others of the run."
    )
    max_ifd: float = option(1.0, help="Keep a row only if its IFD is below this.", above=0)
    max_rifd: float = option(1.0, help="Keep a row only if its r-IFD is below this.", above=0)
    only_improved: bool = option(False, help="Keep only rows whose response was replaced.")
    prefer_passing: bool = option(
        False,
        help="Not the paper's: a version whose IFD is not below --max-ifd loses to one whose is.",
    )
    top: str | None = option(None, help="Keep only the best: a share such as 2%, or a number.")
    rank_by: RankBy = option("ifd", help="What is best: highest IFD or lowest r-IFD.")
    share: Share = share_option()
    decontaminate: tuple[str, ...] = option(
        (),
        help="Reject what repeats this evaluation set: a file, folder or hub id; repeatable.",
        place="in",
    )
    ngram: int = option(13, help="So many words in a row are a repetition.", min=1)
    diverse: int | None = option(
        None,
        help="Keep N rows that are unlike one another, chosen from those within --top, else from "
        "the best 4 N.",
        min=1,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scoring.executor == "ray" and not self.share.whole:
            raise UsageError(
                f"--executor ray shares the shards out itself, not share {self.share}: give "
                "--shard all"
            )
        if self.name is not None and (self.name in SETS or not _NAME.fullmatch(self.name)):
            raise UsageError(
                "--name takes letters, digits, `_`, `.` and `-`, and no name of a baseline "
                f"({', '.join(SETS)}), not {self.name[:80]!r}"
            )
        if "-" in self.decontaminate:
            raise UsageError("--decontaminate takes files, folders and hub ids, not `-`")
        if self.top is not None:
            _check_top(self.top)


def _check_top(top: str) -> None:
    most = 100.0 if top.endswith("%") else math.inf
    number = re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?%|\d{1,15}", top)
    if not number or not 0 < float(top.rstrip("%")) <= most:
        raise UsageError(f"--top takes a share such as 2% or a number, above 0, not {top[:80]!r}")
