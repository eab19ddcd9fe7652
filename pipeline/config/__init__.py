"""One frozen dataclass a command, each field documented and checked."""

import math
import re
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from ..base.sharding import WHOLE, Share
from ..errors import UsageError

EngineName = Literal["auto", "openai", "vllm", "transformers", "recorded"]
Schedule = Literal["all", "selective"]
Role = Literal["teacher", "judge", "model"]
"""What a model that is asked is called where a user reads of it."""
TemplateName = Literal["auto", "vicuna", "alpaca", "wizardlm", "chat"]
"""What `--template` takes beside a file; `auto` is `chat` where the tokenizer has one."""
TokenizationName = Literal["exact", "reference"]
Dtype = Literal["float32", "bfloat16", "float16"]
DtypeOption = Literal["auto", "float32", "bfloat16", "float16"]
AnswerFormat = Literal["alpaca_eval", "mt_bench", "jsonl"]
RankBy = Literal["ifd", "rifd"]
ExportFormat = Literal["llama-factory", "axolotl", "trl", "jsonl"]
Dedup = Literal["near", "exact", "off"]
Executor = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """How DATA is read."""

    data: str
    """A file, a folder, a hub id, or `-`."""
    instruction_column: str | None = None
    input_column: str | None = None
    output_column: str | None = None
    strict: bool = False
    """An unusable row is an error instead of a counted rejection."""
    limit: int | None = None
    """Take only the first records."""

    def __post_init__(self) -> None:
        _positive("--limit", self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model is asked, how it is reached and what it may cost."""

    model: str | None = None
    role: Role = "teacher"
    engine: EngineName = "auto"
    base_url: str | tuple[str, ...] | None = None
    """One server, or several that serve the same model."""
    replies: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    """From the environment only; never written."""
    journal: Path | None = None
    """Where replies are kept; the run's own folder if None."""
    concurrency: int = 64
    rpm: float | None = None
    """At most so many requests a minute."""
    tpm: float | None = None
    """At most so many tokens, prompt and completion, a minute."""
    batch_api: bool = False
    """Ask through batch jobs, at half the price."""
    batch_poll: float = 60.0
    """Seconds between two looks at a batch job, at most."""
    max_tokens: int = 2048
    temperature: float = 0.0
    seed: int | None = None
    max_cost: float | None = None
    """USD."""
    max_total_tokens: int | None = None
    price_in: float | None = None
    """USD per million prompt tokens."""
    price_out: float | None = None
    """USD per million completion tokens."""
    prices: Path | None = None
    """A table of prices that extends the published ones."""
    retry: tuple[str, ...] = ()
    """Statuses whose requests are asked again."""
    prompts: Path | None = None
    """A folder with prompts of one's own."""
    revision: str | None = None
    """What pins the model's weights: a hub id's commit; a folder is pinned by its files."""
    device: str = "auto"
    """Where the `transformers` engine runs."""
    engine_args: tuple[str, ...] = ()
    """Options of the `vllm` engine's server, passed on as they are."""

    def __post_init__(self) -> None:
        _positive("--concurrency", self.concurrency)
        _positive("--rpm", self.rpm)
        _positive("--tpm", self.tpm)
        _positive("--batch-poll", self.batch_poll)
        _positive("--max-tokens", self.max_tokens)
        _positive("--max-total-tokens", self.max_total_tokens)
        _positive("--max-cost", self.max_cost)
        if self.temperature < 0:
            raise UsageError(f"--temperature must not be negative, not {self.temperature}")
        if self.max_cost is not None and self.max_total_tokens is not None:
            raise UsageError("give --max-cost or --max-total-tokens, not both")
        if len(set(self.base_urls)) < len(self.base_urls):
            raise UsageError("--base-url is given twice with the same address")
        allowed = ("failed", "unparsed", "truncated", "refused")
        for status in self.retry:
            if status not in allowed:
                raise UsageError(f"--retry takes {', '.join(allowed)}, not {status!r}")

    @property
    def base_urls(self) -> tuple[str, ...]:
        """All servers."""
        if isinstance(self.base_url, str):
            return (self.base_url,)
        return self.base_url or ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectConfig:
    """`curate reflect`."""

    input: InputConfig
    teacher: ModelConfig
    out: Path | None = None
    """The run; None where the input is one."""
    schedule: Schedule = "all"
    dedup: Dedup = "off"
    """Whether records whose instruction repeats an earlier one are left out."""
    dedup_threshold: float = 0.8
    """Of `near`: the Jaccard similarity of the sets of three words in a row."""

    share: Share = WHOLE
    """Which shards are this task's, of several that work side by side."""

    def __post_init__(self) -> None:
        budgets = (self.teacher.max_cost, self.teacher.max_total_tokens)
        if not self.share.whole and budgets != (None, None):
            raise UsageError(
                f"--max-cost and --max-total-tokens cannot be kept by one task of {self.share.of}, "
                "which does not know what the others spend: leave them out, or give --shard 0/1"
            )
        if not self.share.whole and self.teacher.batch_api:
            raise UsageError("--batch-api gathers the requests of a whole run: give --shard 0/1")
        _choice("--dedup", self.dedup, get_args(Dedup))
        if not 0 < self.dedup_threshold <= 1:
            raise UsageError(
                f"--dedup-threshold must be above 0 and at most 1, not {self.dedup_threshold}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """`curate judge A B`."""

    first: str
    second: str
    judge: ModelConfig
    columns: InputConfig
    """How A and B are read; its `limit` counts pairs."""
    questions: str | None = None
    """The set that MT-Bench's files of answers name by id."""
    out: Path | None = None
    """A folder, or the file of the verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig:
    """`curate generate`."""

    input: InputConfig
    model: ModelConfig
    out: Path
    format: AnswerFormat | None = None
    """Told by the file's ending and the data if None."""
    template: str | None = None
    """Of a model run here; what its training.json names, else `auto`, if None."""

    def __post_init__(self) -> None:
        check_template(self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """`curate evaluate`."""

    model: str
    tasks: tuple[str, ...]
    base: str | None = None
    """What the model was trained from; measured beside it."""
    revision: str | None = None
    base_revision: str | None = None
    include_path: Path | None = None
    """A folder with task definitions of one's own."""
    limit: int | None = None
    """Samples of a task, and of each part of a group."""
    batch_size: int = 8
    device: str = "auto"
    dtype: DtypeOption = "auto"
    out: Path | None = None

    def __post_init__(self) -> None:
        _positive("--limit", self.limit)
        _positive("--batch-size", self.batch_size)
        _choice("--dtype", self.dtype, get_args(DtypeOption))
        if not self.tasks:
            raise UsageError("--tasks is empty: give names such as arc_challenge,hellaswag")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """The student and how it scores. What a score depends on is in `identity`."""

    student: str
    revision: str | None = None
    template: str = "auto"
    tokenization: TokenizationName = "exact"
    max_length: int | None = None
    batch_tokens: int | None = None
    device: str = "auto"
    dtype: DtypeOption = "auto"
    score_all: bool = False
    executor: Executor = "local"
    """Where it scores: on the devices of this machine, or on a Ray cluster."""
    workers: int | None = None
    """How many of Ray's, a GPU or CPU each; all that the cluster has if None."""

    def __post_init__(self) -> None:
        check_template(self.template)
        _choice("--tokenization", self.tokenization, get_args(TokenizationName))
        _choice("--dtype", self.dtype, get_args(DtypeOption))
        _positive("--max-length", self.max_length)
        _positive("--batch-tokens", self.batch_tokens)
        _choice("--executor", self.executor, get_args(Executor))
        _positive("--workers", self.workers)
        if self.workers is not None and self.executor != "ray":
            raise UsageError("--workers is for --executor ray; --device names devices of this one")
        if self.executor == "ray" and self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                "--executor ray places its workers itself: --device takes auto, cpu or cuda, not "
                f"{self.device!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectConfig:
    """`curate select`."""

    input: InputConfig
    scoring: ScoringConfig
    out: Path | None = None
    max_ifd: float = 1.0
    max_rifd: float = 1.0
    only_improved: bool = False
    top: str | None = None
    rank_by: RankBy = "ifd"
    share: Share = WHOLE
    """Which shards are this task's to score, of several that work side by side."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation sets: no row that is kept repeats `ngram` words in a row of one."""
    ngram: int = 13
    diverse: int | None = None
    """So many rows that are unlike one another: of those within `top`, else of the best ones."""

    def __post_init__(self) -> None:
        _choice("--rank-by", self.rank_by, get_args(RankBy))
        if self.scoring.executor == "ray" and not self.share.whole:
            raise UsageError(
                f"--executor ray shares the shards out itself, not share {self.share}: give "
                "--shard 0/1"
            )
        _positive("--ngram", self.ngram)
        _positive("--diverse", self.diverse)
        if "-" in self.decontaminate:
            raise UsageError("--decontaminate takes files, folders and hub ids, not `-`")
        for option, value in (("--max-ifd", self.max_ifd), ("--max-rifd", self.max_rifd)):
            if not value > 0:
                raise UsageError(f"{option} must be positive, not {value}")
        if self.top is not None:
            _check_top(self.top)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """`curate score`."""

    input: InputConfig
    scoring: ScoringConfig
    out: Path


OF_TEACHER = {"model": "--teacher", "revision": "--teacher-revision", "device": "--teacher-device"}


def option_words(config: InputConfig | ModelConfig) -> list[str]:
    """The options as they would be typed, without those at their defaults and without secrets.

    An address or engine options that may hold a key are left out.

    >>> option_words(ModelConfig(model="m", max_tokens=99))
    ['--teacher', 'm', '--max-tokens', '99']
    """
    words = []
    for option in fields(config):
        value, name = getattr(config, option.name), "--" + option.name.replace("_", "-")
        if isinstance(config, ModelConfig):
            name = OF_TEACHER.get(option.name, name)
        if value == option.default or option.name in ("data", "api_key", "retry"):
            continue
        values = value if isinstance(value, tuple) else (value,)
        if option.name == "engine_args":
            values = (shlex.join(values),)
        for one in values:
            if not _may_hold_a_key(option.name, str(one)):
                words += [name] if one is True else [name, str(one)]
    return words


def _may_hold_a_key(name: str, value: str) -> bool:
    if name == "base_url":
        return bool({"@", "?"} & set(value))
    return name == "engine_args" and "key" in value.lower()


def check_template(value: str | None) -> None:
    """UsageError for what is neither a template's name nor a file."""
    if value in (None, *get_args(TemplateName)) or Path(str(value)).is_file():
        return
    names = ", ".join(get_args(TemplateName))
    raise UsageError(f"--template takes {names} or a file; there is no file {value!r}")


def _check_top(top: str) -> None:
    most = 100.0 if top.endswith("%") else math.inf
    number = re.fullmatch(r"\d+(?:\.\d+)?%|\d+", top)
    if not number or not 0 < float(top.rstrip("%")) <= most:
        raise UsageError(f"--top takes a share such as 2% or a number, above 0, not {top!r}")


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} takes {', '.join(allowed)}, not {value!r}")


def _positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{option} must be positive, not {value}")
