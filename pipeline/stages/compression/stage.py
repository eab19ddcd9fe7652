"""`curate bpc`: sums over the documents, intervals, groups, and the difference to a base."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...base.progress import Progress, say
from ...base.tables import shown
from ...config import BpcConfig, Dtype
from ...errors import CurateError
from ...inputs.documents import read_texts
from ...inputs.ingest import Intake
from ...inputs.model_files import revision_of, short_name, told_apart
from ...inputs.readers import Source, open_source
from ...method.statistics.compression import (
    Compression,
    Difference,
    Document,
    compression,
    difference,
)
from .documents_file import Row, row_of, rows_in_parts
from .measuring import Measured, Measuring

DEFAULT_WINDOW, DEFAULT_STRIDE = 1900, 512
SATURATED = 3_000_000
"""Characters from which on the published correlation with benchmarks no longer grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the numbers depend on beside the corpus, resolved."""

    window: int
    stride: int
    tokenization: str
    dtype: Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class BpcResult:
    """The corpus under the student, by group, and beside the base."""

    student: str
    settings: Settings
    total: Compression
    groups: dict[str, Compression]
    base: str | None
    difference: Difference | None
    statuses: dict[str, int]
    rejected: int
    out: Path | None
    already_done: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            **asdict(self.total),
            **asdict(self.settings),
            "student": self.student,
            "groups": {name: asdict(group) for name, group in self.groups.items()},
            "base": self.base,
            "difference": asdict(self.difference) if self.difference else None,
            "statuses": self.statuses,
            "rejected": self.rejected,
        }


@dataclass(slots=True)
class _Corpus:
    """What is kept of each document, in the corpus's order."""

    documents: list[Document] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        self.documents.append(Document(row["characters"], row["bytes"], row["tokens"], row["nats"]))
        self.groups.append(row["group"])
        self.statuses[row["status"]] += 1

    def by_group(self) -> dict[str, Compression]:
        groups: dict[str, list[Document]] = {}
        for document, group in zip(self.documents, self.groups, strict=True):
            if group is not None and document.nats is not None:
                groups.setdefault(group, []).append(document)
        return {name: compression(documents) for name, documents in sorted(groups.items())}


def measure(config: BpcConfig) -> BpcResult:
    """Measure the corpus under the student and, with `base`, under a second model.

    Raises CurateError for a window above a model's context, and for a corpus without text.
    """
    source, intake, settings = open_source(config.data), Intake(), _settings(config)
    done = config.out is not None and config.out.exists()
    corpus = _measured(config, source, settings, intake)
    if not any(document.nats is not None for document in corpus.documents):
        counts = {**corpus.statuses, "rejected": intake.num_rejected}
        counted = ", ".join(f"{number} {name}" for name, number in counts.items())
        raise CurateError(f"{source.name} has no text to measure: {counted}")
    student, base = short_name(config.student), config.base and short_name(config.base)
    if base and config.base:
        student, base = told_apart((student, base), (config.student, config.base))
    return BpcResult(
        student=student,
        settings=settings,
        total=compression(corpus.documents),
        groups=corpus.by_group(),
        base=base,
        difference=_difference(config, source, settings, corpus),
        statuses=dict(corpus.statuses),
        rejected=intake.num_rejected,
        out=config.out,
        already_done=done,
    )


def _settings(config: BpcConfig) -> Settings:
    """Window, stride and dtype resolved against the models' contexts."""
    from ...models.devices import pick_device, pick_dtype
    from ...models.loading import context_of, load_config

    models = [(config.student, config.revision), (config.base, config.base_revision)]
    window = config.window or DEFAULT_WINDOW
    for model, revision in models:
        context = model and context_of(load_config(model, revision))
        if not context or window <= context:
            continue
        if config.window is not None:
            raise CurateError(
                f"--window {window} is above the context of {model}, {context} tokens: give at "
                f"most {context}"
            )
        window = context
    stride = config.stride or min(DEFAULT_STRIDE, window)
    if stride > window:
        raise CurateError(f"--stride {stride} is above the window of {window} tokens")
    device = pick_device(config.device)
    dtype = pick_dtype(device) if config.dtype == "auto" else config.dtype
    return Settings(window=window, stride=stride, tokenization=config.tokenization, dtype=dtype)


# --- one model over the corpus --------------------------------------------------------------------


def _measured(config: BpcConfig, source: Source, settings: Settings, intake: Intake) -> _Corpus:
    """The corpus under the student; with `--out`, parts that are finished are not measured anew."""

    def rows(skip: int) -> Iterator[Row]:
        return map(row_of, _under(config, source, settings, intake, skip))

    identity = _identity(source, config, settings)
    corpus = _Corpus()
    for row in rows(0) if config.out is None else rows_in_parts(config.out, identity, rows):
        corpus.add(row)
    return corpus


def _under(
    config: BpcConfig, source: Source, settings: Settings, intake: Intake, skip: int = 0
) -> Iterator[Measured]:
    """The documents under the student, without the first `skip`."""
    from ...models.devices import pick_device
    from ...models.loading import load_tokenizer
    from ...scoring.model import load_student
    from ...scoring.scorer import Scorer
    from ...scoring.tokens import Tokenization
    from ...templates import Template

    model, revision = config.student, config.revision
    tokenizer = load_tokenizer(model, revision)
    no_prompt = Template("vicuna")  # documents have no prompt in front
    tokenization = Tokenization(
        tokenizer, no_prompt, name=config.tokenization, max_length=settings.window + 1
    )
    if getattr(tokenizer, "chat_template", None):
        say(
            f"note: {model} has a chat template; that bits a character go with benchmark scores "
            "was shown for base models"
        )
    student = load_student(
        model, revision=revision, device=pick_device(config.device), dtype=settings.dtype
    )
    with (
        closing(Scorer(student, batch_tokens=config.batch_tokens)) as scorer,
        Progress("bpc", total=config.limit or source.count(), unit="documents") as progress,
    ):
        measuring = Measuring(scorer, tokenization, window=settings.window, stride=settings.stride)
        progress.advance(skip)
        for measured in measuring.documents(read_texts(source, config, intake), skip=skip):
            progress.advance()
            yield measured


def _difference(
    config: BpcConfig, source: Source, settings: Settings, corpus: _Corpus
) -> Difference | None:
    if config.base is None:
        return None
    other = replace(config, student=config.base, revision=config.base_revision)
    base = _under(other, source, settings, Intake())
    return difference(corpus.documents, [measured.document() for measured in base])


# --- the file -------------------------------------------------------------------------------------


def _identity(source: Source, config: BpcConfig, settings: Settings) -> dict[str, Any]:
    return {
        "command": "bpc",
        "input": source.fingerprint,
        "text_column": config.text_column,
        "by": config.by,
        "limit": config.limit,
        "student": short_name(config.student),
        "revision": revision_of(config.student, config.revision),
        **asdict(settings),
    }


# --- in words -------------------------------------------------------------------------------------


def lines(result: BpcResult) -> Iterator[str]:
    """For people."""
    total, settings = result.total, result.settings
    yield f"{result.student}: {_ratios(total)}"
    yield (
        f"{total.documents} documents, {total.characters} characters, {total.bytes} bytes, "
        f"{total.tokens} scored tokens; {settings.tokenization} tokenization, window "
        f"{settings.window}, stride {settings.stride}, {settings.dtype}"
    )
    for name, group in result.groups.items():
        yield f"  {name}: {_ratios(group)}, {group.documents} documents"
    if result.difference is not None:
        minus = shown(result.difference.bits_per_character, "+.4f", result.difference.interval)
        yield f"minus {result.base}: {minus} bits a character on the same documents"
    if lossy := result.statuses.get("lossy"):
        yield (
            f"{lossy} documents lose characters in this tokenizer (counted as `lossy`): they are "
            "not compressed without loss, and the numbers are too low"
        )
    for status in ("empty", "failed"):
        if number := result.statuses.get(status):
            yield f"{number} documents are {status} and count for nothing"
    if result.rejected:
        yield f"{result.rejected} rows have no text"
    if total.characters < SATURATED:
        yield f"fewer than {SATURATED} characters: go by the interval"


def _ratios(found: Compression) -> str:
    character = shown(found.bits_per_character, ".4f", found.bits_per_character_interval)
    byte = shown(found.bits_per_byte, ".4f", found.bits_per_byte_interval)
    return f"{character} bits a character, {byte} bits a byte"
