"""`curate generate` and `curate judge`: answers, and what a judge says of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option
from .shared.models import ModelConfig, asked_model
from .shared.scoring import check_template

AnswerFormat = Literal["alpaca_eval", "mt_bench", "jsonl"]
JUDGE_TOKENS = 1024
"""New tokens of a verdict, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig:
    """`curate generate`."""

    input: InputConfig = embedded(
        "Input",
        help={"data": "An evaluation set: any data with a column of instructions, or of turns."},
        without=("output_column", "turns"),
    )
    model: ModelConfig = asked_model("Model that answers", "model", without=("replies", "prompts"))
    out: Path = out_option(help="The file to write.")
    format: AnswerFormat | None = option(
        None, help="What is written [default: alpaca_eval; for .jsonl jsonl, mt_bench with turns]."
    )
    samples: int | None = option(
        None,
        help="So many answers a question, as a file of samples: Parquet, or JSON Lines.",
        min=1,
    )
    template: str | None = option(
        None, help="The prompt of a model run here [default: what it was fine-tuned with, or auto]."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_template(self.template)
        if self.samples is not None and self.format is not None:
            raise UsageError("--format is of one answer a question, not of --samples")
        if (self.samples or 1) > 1 and not self.model.temperature:
            raise UsageError(
                f"--samples {self.samples} needs a --temperature above 0: at 0 all answers are one"
            )
        if self.model.engine == "recorded":
            raise UsageError("generate asks a model: --engine recorded has only a teacher's or a "
                             "judge's replies")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """`curate judge A B`, or the count of a log; the `limit` of `columns` counts pairs."""

    first: str = option(
        "",
        name="a",
        help="The first model's answers: instruction, input, output.",
        argument=True,
        place="in",
    )
    second: str = option(
        "",
        name="b",
        help="The second model's answers to the same instructions.",
        argument=True,
        place="in",
    )
    judge: ModelConfig = asked_model(
        "Judge", "judge", default={"max_tokens": JUDGE_TOKENS}, without=("prompts",)
    )
    columns: InputConfig = embedded(
        "Input", supply={"data": lambda options: options["a"]}, without=("strict", "turns")
    )
    from_log: Path | None = option(
        None,
        help="Count recorded judgements instead: reviews in both orders, AlpacaEval annotations or "
        "MT-Bench ratings, told by their columns.",
    )
    rate: bool = option(
        False, help="Rate each answer of A, perhaps several to an instruction, from 0 to 5."
    )
    times: int = option(1, help="Of --rate: so many ratings an answer, averaged.", min=1)
    eft: Path | None = option(
        None,
        help="Of --rate, where people ranked the answers: write the judge's reviews that order "
        "them as the ranks do, JSON Lines for `curate finetune`.",
    )
    questions: str | None = option(
        None,
        help="The evaluation set, where A or B is a file of MT-Bench's answers (first turns).",
        place="in",
    )
    out: Path | None = out_option(
        None,
        help="A folder, or the file of the verdicts [default: a folder named after A and B]; of "
        "--rate the file of rated answers, Parquet or JSON Lines.",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rate:
            self._check_rating()
        elif self.from_log is None and not (self.first and self.second):
            raise UsageError(
                "two files of answers are needed, A and B, or --from-log FILE; or one with --rate"
            )
        if self.eft is not None and not self.rate:
            raise UsageError("--eft is of --rate: give one file of ranked answers and --rate")
        if self.from_log is not None and (self.first or self.judge.model):
            raise UsageError("--from-log counts what is recorded: give no answers and no --judge")

    def _check_rating(self) -> None:
        if not self.first or self.second or self.questions:
            raise UsageError("--rate takes one file of answers, A, and no --questions")
        if self.times > 1 and not self.judge.temperature and self.judge.replies is None:
            raise UsageError(
                f"--times {self.times} needs a --temperature above 0: at 0 all ratings are one"
            )
