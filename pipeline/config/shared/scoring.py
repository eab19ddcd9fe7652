"""The student and how it scores; `curate score`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...errors import UsageError
from ..options.fields import check_fields, embedded, option
from .inputs import InputConfig, out_option

TemplateName = Literal["auto", "vicuna", "alpaca", "wizardlm", "chat"]
"""What `--template` takes beside a file; `auto` is `chat` where the tokenizer has one."""
TokenizationName = Literal["exact", "reference"]
Dtype = Literal["float32", "bfloat16", "float16"]
DtypeOption = Literal["auto", "float32", "bfloat16", "float16"]
Executor = Literal["local", "ray"]


def device_option() -> Any:
    """Where a model of the command itself computes."""
    return option("auto", help="Where it computes: auto, cpu, cuda or cuda:N[,N…].")


def dtype_option() -> Any:
    """In which precision it computes."""
    return option("auto", help="auto: bfloat16 on a GPU that has it, else float32.")


def check_template(value: str | None) -> None:
    """UsageError for what is neither a template's name nor a file."""
    if value in (None, *get_args(TemplateName)) or os.path.isfile(str(value)):
        return
    names = ", ".join(get_args(TemplateName))
    raise UsageError(f"--template takes {names} or a file; there is no file {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """The student and how it scores. What a score depends on is in `identity`."""

    student: str = option(help="The model to be trained: a folder or a hub id.")
    revision: str | None = option(
        None, name="student_revision", help="The student's revision on the hub."
    )
    template: str = option(
        "auto",
        help="The student's prompt template: vicuna, alpaca, wizardlm, chat (the tokenizer's own), "
        "a Jinja file, or auto: chat where the tokenizer has one, else vicuna.",
    )
    tokenization: TokenizationName = option(
        "exact", help="exact, or reference: what the released scripts do."
    )
    max_length: int | None = option(
        None, help="Tokens of a scored sequence [default: 2048 or the student's context].", min=1
    )
    batch_tokens: int | None = option(
        None, help="Tokens of a packed row; changes speed, not scores.", min=1
    )
    device: str = device_option()
    dtype: DtypeOption = dtype_option()
    score_all: bool = option(False, help="Score all candidates, not only what a decision needs.")
    executor: Executor = option(
        "local",
        help="Where it scores: on this machine, or on the Ray cluster that RAY_ADDRESS names.",
    )
    workers: int | None = option(
        None, help="Ray's workers, a GPU or a CPU each [default: all the cluster has].", min=1
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_template(self.template)
        if self.workers is not None and self.executor != "ray":
            raise UsageError("--workers is for --executor ray; --device names devices of this one")
        if self.executor == "ray" and self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                "--executor ray places its workers itself: --device takes auto, cpu or cuda, not "
                f"{self.device!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """`curate score`; all candidates are scored."""

    input: InputConfig = embedded("Input")
    scoring: ScoringConfig = embedded("Scoring", without=("score_all",))
    out: Path = out_option(help="The Parquet file to write.")
