"""Rows of sampled answers -> rivals: ours, UltraFeedback's `completions`, distilabel's lists."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import pvariance
from typing import Any

from ...config import InputConfig
from ...inputs.ingest import Intake, whole_values
from ...inputs.readers import Row, Source
from ...method.preferences.rivals import Answer, Rivals
from ...records import Message, Origin, PairSource
from .grouping import grouped
from .prompts import Unusable, id_of, prompt_of

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer of a row, as JSON holds it between reading and grouping."""

    prompt: Sequence[Message]
    text: str
    sample: int | None
    model: str | None
    reply_key: str | None
    rating: float | None
    variance: float
    cut: bool

    def fields(self) -> dict[str, Any]:
        """The values by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def answer(self, place: int) -> Answer:
        """The answer, numbered by its place where it has no number of its own."""
        sample = place if self.sample is None else self.sample
        return Answer(
            text=self.text,
            origin=Origin(sample=sample, model=self.model, reply_key=self.reply_key),
            reward=self.rating,
            score=self.rating,
            variance=self.variance,
            fault="truncated" if self.cut else None,
        )


def rated_rivals(
    source: Source, columns: InputConfig, intake: Intake, made_by: PairSource
) -> Iterator[Rivals]:
    """All samples of each prompt, whatever their order in the data; unusable rows are counted."""
    found = (
        (id, sample.fields())
        for row, samples in usable_rows(source, columns, intake)
        for id in [id_of(row.values, samples[0].prompt)]
        for sample in samples
    )
    for id, group in grouped(found):
        samples = _in_order([Sample(**fields) for fields in group])
        yield Rivals(
            id=id,
            prompt=samples[0].prompt,
            answers=[sample.answer(place) for place, sample in enumerate(samples)],
            source=made_by,
        )


def usable_rows(
    source: Source, columns: InputConfig, intake: Intake
) -> Iterator[tuple[Row, list[Sample]]]:
    """Each row with its samples, one at least; the others are counted with their reason."""
    for row in source.rows():
        intake.rows += 1
        try:
            if not isinstance(row, Row):
                raise Unusable(row.reason)
            values = whole_values(row.values)
            samples = list(_samples(values, prompt_of(values, columns), columns))
            if not samples:
                raise Unusable("no answer in it")
        except Unusable as error:
            intake.reject(row.place, str(error))
            continue
        intake.records += 1
        yield row, samples


def _in_order(samples: list[Sample]) -> list[Sample]:
    """In the order in which they were sampled, where that is known."""
    return sorted(samples, key=lambda one: math.inf if one.sample is None else one.sample)


def _samples(values: Values, prompt: Sequence[Message], columns: InputConfig) -> Iterator[Sample]:
    if isinstance(values.get("completions"), list):
        parts = _ultrafeedback(values["completions"])
    elif isinstance(values.get("generations"), list):
        parts = _distilabel(values)
    else:
        parts = iter([_ours(values, columns.output_column or "output")])
    for part in parts:
        known = {"sample": None, "reply_key": None, "variance": 0.0, "cut": False} | part
        yield Sample(prompt=prompt, **known)


def _ours(values: Values, output: str) -> dict[str, Any]:
    """A row of `curate generate --samples`; `ratings` are those whose mean is `rating`."""
    if not isinstance(values.get(output), str):
        raise Unusable(f"no text in {output!r}")
    ratings = [n for n in map(_number, values.get("ratings") or ()) if n is not None]
    sample = values.get("sample")
    return {
        "text": values[output],
        "sample": sample if isinstance(sample, int) else None,
        "model": values.get("model") or values.get("generator"),
        "reply_key": values.get("reply_key"),
        "rating": _number(values.get("rating")),
        "variance": pvariance(ratings) if len(ratings) > 1 else 0.0,
        "cut": values.get("finish_reason") == "length",
    }


def _ultrafeedback(completions: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The rating is the mean of the aspects' ratings, which `overall_score` contradicts at times.

    Without aspects it is `fine-grained_score`, else `overall_score`.
    """
    for one in completions:
        if not isinstance(one, dict) or not isinstance(one.get("response"), str):
            raise Unusable("a completion without a text in 'response'")
        aspects = one.get("annotations")
        found = [_number(aspect.get("Rating")) for aspect in _objects(aspects)]
        known = [rating for rating in found if rating is not None]
        rating = sum(known) / len(known) if known else None
        for name in ("fine-grained_score", "overall_score"):
            rating = _number(one.get(name)) if rating is None else rating
        yield {"text": one["response"], "model": one.get("model"), "rating": rating}


def _objects(annotations: Any) -> list[dict[str, Any]]:
    """The aspects, of which a few come as a list of one."""
    found = annotations.values() if isinstance(annotations, dict) else ()
    flat = [part for one in found for part in (one if isinstance(one, list) else [one])]
    return [part for part in flat if isinstance(part, dict)]


def _distilabel(values: Values) -> Iterator[dict[str, Any]]:
    texts, ratings = values["generations"], values.get("ratings")
    if not isinstance(ratings, list) or len(ratings) != len(texts):
        raise Unusable("'generations' and 'ratings' are not lists of one length")
    models = values.get("generation_models") or values.get("model_names") or ()
    for place, (text, rating) in enumerate(zip(texts, ratings, strict=True)):
        model = models[place] if len(models) == len(texts) else values.get("model_name")
        named = model if isinstance(model, str) else None
        yield {"text": text or "", "model": named, "rating": _number(rating)}


def _number(value: Any) -> float | None:
    """A finite number, also as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
