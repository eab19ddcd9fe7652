"""`curate bpc`, `curate solve` and `curate check`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .options.fields import check_fields, embedded, option
from .shared.inputs import LIMIT, InputConfig, out_option
from .shared.models import ModelConfig, asked_model
from .shared.scoring import DtypeOption, TokenizationName, dtype_option

CheckerName = Literal["auto", "choice", "word", "number", "math", "text"]
Strategy = Literal["direct", "cot", "many-shot", "unsupervised", "pseudocode"]
WITH_SHOTS: tuple[Strategy, ...] = ("many-shot", "unsupervised")


@dataclass(frozen=True, slots=True, kw_only=True)
class BpcConfig:
    """`curate bpc`."""

    data: str = option(
        help="The corpus: a file or folder of JSON, JSONL, CSV, Parquet or Arrow, or a hub id.",
        argument=True,
        place="in",
    )
    student: str = option(help="The model that compresses: a folder or a hub id.")
    revision: str | None = option(
        None, name="student_revision", help="The student's revision on the hub."
    )
    base: str | None = option(
        None, help="A second model; its bits are subtracted, paired by document."
    )
    base_revision: str | None = option(None, help="The base's revision on the hub.")
    text_column: str | None = option(
        None, help="The column of the texts [default: text, else the response]."
    )
    window: int | None = option(
        None, help="Tokens that are read at once [default: 1900, or the context].", min=1
    )
    stride: int | None = option(
        None, help="Tokens that each later window scores [default: 512, or the window].", min=1
    )
    tokenization: TokenizationName = option(
        "exact",
        help="exact: each document alone, every token scored once; reference: one stream of all, "
        "as in the paper's code.",
    )
    by: str | None = option(None, help="A column; its values are measured as groups too.")
    out: Path | None = out_option(None, help="A Parquet file with a row for each document.")
    strict: bool = option(False, help="Stop at the first row without a text.")
    limit: int | None = option(None, help=LIMIT, min=1)
    device: str = option("auto", help="Where it computes: auto, cpu, cuda or cuda:N.")
    dtype: DtypeOption = dtype_option()
    batch_tokens: int | None = option(
        None, help="Tokens of a packed row; changes speed, not numbers.", min=1
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise UsageError(
                f"--stride {self.stride} is above --window {self.window}: tokens between two "
                "windows would not be scored"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRules:
    """How answers are checked, and which problems become training rows."""

    checker: CheckerName = option(
        "auto",
        help="How answers are compared; auto goes by each question's options and given answer. "
        "math takes the extra [math].",
    )
    keep: int = option(1, help="At most so many different right solutions of a problem.", min=1)
    min_pass_rate: float = option(
        0.0,
        help="Leave out problems of which a smaller part of the samples is right.",
        min=0,
        max=1,
    )
    max_pass_rate: float = option(
        1.0, help="Leave out problems of which a larger part of the samples is right.", min=0, max=1
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_pass_rate > self.max_pass_rate:
            raise UsageError(
                f"--min-pass-rate {self.min_pass_rate} is above --max-pass-rate "
                f"{self.max_pass_rate}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """`curate check`."""

    input: InputConfig = embedded(
        "Input",
        help={
            "data": "A run of `curate solve`, or a data set of replies: a question, an answer and "
            "a reply in each row; rows of one id are samples of one problem.",
            "output_column": "The column of the reply [default: reply, else output].",
        },
    )
    rules: CheckRules = embedded("Checking")
    answer_column: str = option("answer", help="The column of the right answer.")
    task_column: str = option("task", help="The column that names a problem's task.")
    out: Path | None = out_option(None, help="The run directory; not needed if DATA is one.")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveConfig:
    """`curate solve`; the answers are checked at its end."""

    input: InputConfig = embedded(
        "Input",
        help={
            "data": "Problems with answers: a question and its right answer in each row.",
            "instruction_column": "The column of the question [default: instruction, else "
            "question, problem or prompt].",
        },
        without=("output_column",),
    )
    teacher: ModelConfig = asked_model(
        "Teacher", "teacher", default={"temperature": 1.0}, without=("prompts",)
    )
    rules: CheckRules = embedded("Checking")
    out: Path = out_option(help="The run directory.")
    strategy: Strategy = option(
        "cot",
        help="How: direct, the answer alone; cot, step by step; many-shot, behind solved problems; "
        "unsupervised, behind unsolved ones; pseudocode, by a program of the task that is "
        "simulated, never run.",
    )
    samples: int = option(4, help="Replies a problem.", min=1)
    shots: str | None = option(
        None,
        help="Problems that stand before the question: a run of `curate solve`, whose solved/ is "
        "drawn from, or a data set.",
        place="in",
    )
    num_shots: int = option(25, help="At most so many shots.", min=1)
    shots_seed: int = option(0, help="Seed of the draw and the order of the shots.")
    answer_column: str = option("answer", help="The column of the right answer.")
    task_column: str = option("task", help="The column that names a problem's task.")
    instructor: str | None = option(
        None, help="Of pseudocode: the model that writes it [default: the teacher]."
    )
    instructor_url: str | None = option(
        None, help="The instructor's OpenAI-compatible server [default: --base-url]."
    )
    dry_run: bool = option(False, help="Only say what it would cost.", record=False)

    def __post_init__(self) -> None:
        check_fields(self)
        greedy = self.teacher.temperature == 0 and self.teacher.engine != "recorded"
        if self.samples > 1 and greedy and self.teacher.replies is None:
            raise UsageError(
                f"--samples {self.samples} at --temperature 0 would pay for the same reply "
                f"{self.samples} times: give a higher temperature, or --samples 1"
            )
        if (self.shots is None) == (self.strategy in WITH_SHOTS):
            needs = "needs --shots FILE|RUN" if self.shots is None else "takes no --shots"
            raise UsageError(f"--strategy {self.strategy} {needs}")
        instructed = self.instructor is not None or self.instructor_url is not None
        if instructed and self.strategy != "pseudocode":
            raise UsageError("--instructor and --instructor-url are for --strategy pseudocode")
