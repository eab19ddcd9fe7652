"""Distributions, histograms, counts and diversity of Arrow columns; nothing is drawn here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of the values that are known; quantiles by linear interpolation, None where there are none.

    `above` counts those at `limit` or above it, None without a limit.
    """

    count: int
    mean: float | None = None
    p5: float | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    p95: float | None = None
    above: int | None = None


def numbers(column: pa.ChunkedArray | pa.Array) -> Numbers:
    """A column as floats, without its nulls."""
    return np.asarray(column.drop_null().to_numpy(), dtype=np.float64)


def distribution(values: Numbers, limit: float | None = None) -> Distribution:
    """Mean and quantiles.

    >>> distribution(np.array([1.0, 2.0, 4.0])).median
    2.0
    """
    above = None if limit is None else int((values >= limit).sum())
    if not values.size:
        return Distribution(0, above=above)
    p5, p25, median, p75, p95 = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    return Distribution(values.size, float(values.mean()), p5, p25, median, p75, p95, above)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of each group between shared edges; `beyond` are the values past the last edge."""

    edges: Numbers
    counts: Mapping[str, npt.NDArray[np.int64]]
    beyond: Mapping[str, int]


def histogram(groups: Mapping[str, Numbers], edges: Numbers) -> Histogram:
    """Count each group's values in the same bins; what is below the first edge is in the first."""
    counts = {
        name: np.histogram(np.maximum(v, edges[0]), edges)[0].astype(np.int64)
        for name, v in groups.items()
    }
    beyond = {name: int((v > edges[-1]).sum()) for name, v in groups.items()}
    return Histogram(edges, counts, beyond)


def linear_edges(groups: Sequence[Numbers], *, at_least: float) -> Numbers:
    """From 0 to where the axis ends."""
    return np.linspace(0.0, frame(groups, at_least=at_least), _bins(groups) + 1)


def _bins(groups: Sequence[Numbers]) -> int:
    """Few bins for few values."""
    return 24 if max((v.size for v in groups), default=0) < 1000 else 48


def frame(groups: Sequence[Numbers], *, at_least: float) -> float:
    """Where an axis of ratios ends: a tenth past the threshold and 99.5 % of the values."""
    values = np.concatenate(groups) if groups else np.zeros(0)
    top = float(np.quantile(values, 0.995)) if values.size else 0.0
    return float(np.ceil(10 * max(top, 1.1 * at_least)) / 10)


def log_edges(groups: Sequence[Numbers]) -> Numbers:
    """Equal steps of the logarithm, from below the smallest value (or 1) to above the largest."""
    least = max(1.0, min((float(v.min()) for v in groups if v.size), default=1.0))
    most = max((float(v.max()) for v in groups if v.size), default=1.0)
    return np.geomspace(0.95 * least, 1.05 * max(most, 10 * least), _bins(groups) + 1)


def counted(table: pa.Table, *names: str) -> dict[tuple[str, ...], int]:
    """How many rows have each combination of values, largest first; null is the empty text."""
    rows = table.group_by(list(names)).aggregate([([], "count_all")]).to_pylist()
    found = {tuple(str(row[name] or "") for name in names): row["count_all"] for row in rows}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def by_origin(rows: pa.Table) -> dict[str, pa.Table]:
    """The rows of originals, and those of reflections."""
    is_original = pc.equal(rows.column("candidate"), "original")
    return {"original": rows.filter(is_original), "reflected": rows.filter(pc.invert(is_original))}


def number_of_records(candidates: pa.Table) -> int:
    """The records: an id's candidates stand together."""
    ids = candidates.column("id").combine_chunks()
    if not len(ids):
        return 0
    return 1 + int(pc.sum(pc.not_equal(ids[1:], ids[:-1])).as_py() or 0)


def distinct_2(texts: pa.Table) -> float | None:
    """Different pairs of neighbouring words / all pairs, over the columns instruction and input.

    Words are what white space separates, in lower case; no pair spans two rows. None without a
    pair.

    >>> distinct_2(pa.table({"instruction": ["a b a b", "A b"], "input": ["", None]}))
    0.5
    """
    joined = pc.binary_join_element_wise(
        texts.column("instruction").combine_chunks().cast(pa.large_string()),
        texts.column("input").combine_chunks().cast(pa.large_string()),
        pa.scalar(" ", pa.large_string()),
        null_handling="skip",
    )
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(pc.utf8_lower(joined)))
    codes = pc.list_flatten(words).dictionary_encode().indices.to_numpy().astype(np.int64)
    rows = pc.list_parent_indices(words).to_numpy()
    pairs = (codes[:-1] * (codes.max(initial=0) + 1) + codes[1:])[rows[:-1] == rows[1:]]
    return None if not pairs.size else float(np.unique(pairs).size / pairs.size)
