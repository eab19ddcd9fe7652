"""Sampled answers: ours, in and out; UltraFeedback's `completions`, distilabel's `generations`.

Preference pairs are two answers, ranked.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..base.files import write_json_lines, write_parquet
from ..config import InputConfig
from ..pair_records import SAMPLE_SCHEMA, Sample, TextPair
from .columns.prompts import id_of, prompt_of
from .columns.texts import whole_values
from .ingest import Intake, Unusable, require_records, usable_rows
from .pairs import pair_of
from .readers import Source

Values = Mapping[str, Any]


def read_samples(source: Source, columns: InputConfig, intake: Intake) -> Iterator[Sample]:
    """The answers of all rows, one or several a row; unusable rows are counted with the reason.

    Raises CurateError where no row is usable.
    """
    read = partial(_samples, columns=columns)
    for _, samples in usable_rows(source, intake, read, strict=columns.strict):
        intake.records += 1
        yield from samples
    require_records(source, intake)


def write_samples(out: Path, samples: Sequence[Sample]) -> None:
    """Write a Parquet file, or JSON Lines where the name does not end in `.parquet`."""
    rows = [sample.values() for sample in samples]
    if out.suffix == ".parquet":
        write_parquet(out, pa.Table.from_pylist(rows, SAMPLE_SCHEMA))
    else:
        write_json_lines(out, rows)


def _samples(values: Values, columns: InputConfig) -> list[Sample]:
    values, output = whole_values(values), columns.output_column or "output"
    if {"chosen", "rejected"} <= values.keys() and output not in values:
        return _of_pair(pair_of(values))
    prompt = prompt_of(values, columns)
    id = id_of(values, prompt)
    if isinstance(values.get("completions"), list):
        parts = _ultrafeedback(values["completions"])
    elif isinstance(values.get("generations"), list):
        parts = _distilabel(values)
    else:
        parts = iter([_ours(values, output)])
    samples = [Sample(id=id, prompt=prompt, **part) for part in parts]
    if not samples:
        raise Unusable("no answer in it")
    return samples


def _of_pair(pair: TextPair) -> list[Sample]:
    texts = enumerate((pair.chosen, pair.rejected))
    return [Sample(id=pair.id, prompt=pair.prompt, output=text, rank=n) for n, text in texts]


def _ours(values: Values, output: str) -> dict[str, Any]:
    """A row of ours, or any row with an answer; `ratings` are those whose mean is `rating`."""
    if not isinstance(values.get(output), str):
        raise Unusable(f"no text in {output!r}")
    sample = values.get("sample")
    return {
        "output": values[output],
        "sample": sample if isinstance(sample, int) else None,
        "model": _text(values.get("model")) or _text(values.get("generator")),
        "finish_reason": _text(values.get("finish_reason")),
        "reply_key": _text(values.get("reply_key")),
        "rating": _number(values.get("rating")),
        "ratings": tuple(n for n in map(_number, values.get("ratings") or ()) if n is not None),
        "rating_reason": _text(values.get("rating_reason")),
        "rank": _number(values.get("rank")),
    }


def _ultrafeedback(completions: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The rating is the mean of the aspects' ratings, which `overall_score` contradicts at times.

    Without aspects it is `fine-grained_score`, else `overall_score`.
    """
    for one in completions:
        if not isinstance(one, dict) or not isinstance(one.get("response"), str):
            raise Unusable("a completion without a text in 'response'")
        found = [_number(aspect.get("Rating")) for aspect in _objects(one.get("annotations"))]
        known = [rating for rating in found if rating is not None]
        rating = sum(known) / len(known) if known else None
        for name in ("fine-grained_score", "overall_score"):
            rating = _number(one.get(name)) if rating is None else rating
        yield {"output": one["response"], "model": _text(one.get("model")), "rating": rating}


def _objects(annotations: Any) -> list[dict[str, Any]]:
    """The aspects, of which a few come as a list of one."""
    found = annotations.values() if isinstance(annotations, dict) else ()
    flat = [part for one in found for part in (one if isinstance(one, list) else [one])]
    return [part for part in flat if isinstance(part, dict)]


def _distilabel(values: Values) -> Iterator[dict[str, Any]]:
    texts = values["generations"]
    ratings = values.get("ratings", [None] * len(texts))
    if not isinstance(ratings, list) or len(ratings) != len(texts):
        raise Unusable("'generations' and 'ratings' are not lists of one length")
    models = values.get("generation_models") or values.get("model_names") or ()
    for place, (text, rating) in enumerate(zip(texts, ratings, strict=True)):
        model = models[place] if len(models) == len(texts) else values.get("model_name")
        yield {"output": _text(text) or "", "model": _text(model), "rating": _number(rating)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    """A finite number, also as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
