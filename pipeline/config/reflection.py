"""`curate reflect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..base.processes.sharding import Share
from ..errors import UsageError
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option, share_option
from .shared.models import ModelConfig, asked_model

Schedule = Literal["all", "selective"]
Dedup = Literal["near", "exact", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectConfig:
    """`curate reflect`; `schedule` is an option of `curate run`."""

    input: InputConfig = embedded("Input")
    teacher: ModelConfig = asked_model("Teacher", "teacher")
    out: Path | None = out_option(None, help="The run directory; not needed if DATA is one.")
    schedule: Schedule = "all"
    dedup: Dedup = option(
        "off",
        help="Leave out records whose instruction repeats an earlier one: near, or exact (the same "
        "words).",
    )
    dedup_threshold: float = option(
        0.8,
        help="Of --dedup near: the Jaccard similarity of the sets of three words in a row.",
        above=0,
        max=1,
    )
    share: Share = share_option()
    dry_run: bool = option(False, help="Only say what it would cost.", record=False)

    def __post_init__(self) -> None:
        check_fields(self)
        budgets = (self.teacher.max_cost, self.teacher.max_total_tokens)
        if not self.share.whole and budgets != (None, None):
            raise UsageError(
                f"--max-cost and --max-total-tokens cannot be kept by one task of {self.share.of}, "
                "which does not know what the others spend: leave them out, or give --shard all"
            )
        if not self.share.whole and self.teacher.batch_api:
            raise UsageError("--batch-api gathers the requests of a whole run: give --shard all")
