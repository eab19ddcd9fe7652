"""`curate evaluate`."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .options.fields import check_fields, option
from .shared.inputs import out_option
from .shared.scoring import DtypeOption, device_option, dtype_option


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """`curate evaluate`."""

    model: str = option(help="The model to measure: a folder or a hub id.")
    tasks: tuple[str, ...] = option(
        help="lm-eval's names, with commas: arc_challenge,hellaswag,mmlu,truthfulqa_mc2."
    )
    base: str | None = option(None, help="A model to set beside it, such as its base.")
    revision: str | None = option(
        None, name="model_revision", help="The model's revision on the hub."
    )
    base_revision: str | None = option(None, help="The base model's.")
    include_path: Path | None = option(
        None, help="A folder with task definitions (YAML) of your own."
    )
    limit: int | None = option(None, help="Only the first N samples of each task.", min=1)
    batch_size: int = option(8, help="Sequences at once.", min=1)
    device: str = device_option()
    dtype: DtypeOption = dtype_option()
    out: Path | None = out_option(
        None, help="A JSON file; finished tasks are kept beside it until all are."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tasks:
            raise UsageError("--tasks is empty: give names such as arc_challenge,hellaswag")
