"""What is decided with more than one record in view: the budget, and diversity."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...base.progress import say
from ...config import SelectConfig
from ...method.corpus.diversity import diverse
from ...method.decision import top
from ...runs.decisions import DecisionFiles
from ...scoring.engine import ScoringEngine
from ...scoring.score_files import ScoreFiles
from .embeddings import embeddings

POOL = 4
"""Without `--top`, `--diverse` chooses among so many times as many of the best rows."""
BELOW_TOP, OUTSIDE_POOL, LIKE_OTHERS = 1, 2, 3
REJECTIONS = {
    BELOW_TOP: ("below_top", "outside the budget of --top"),
    OUTSIDE_POOL: ("not_diverse", "--diverse chose among rows that rank higher"),
    LIKE_OTHERS: ("not_diverse", "--diverse chose rows like it"),
}
"""The rule and the reason of a row that passed the filter and is rejected all the same."""

Codes = npt.NDArray[np.int8]


def apply_corpus_filters(
    decisions: DecisionFiles, files: ScoreFiles, config: SelectConfig, engine: ScoringEngine
) -> None:
    """Reject rows that passed all that is decided row by row.

    `--top` takes the best of them, `--diverse N` N of these; without `--top` it takes them from
    the best 4 N.
    """
    if config.top is None and config.diverse is None:
        return
    ratio = f"log_{config.rank_by}"
    rows = decisions.table(["id", "candidate", "reason", ratio])
    codes = np.zeros(len(rows), np.int8)
    passed = np.flatnonzero(pc.is_null(rows.column("reason")).to_numpy())
    ranked = rows.take(passed)
    budget = config.top or str(POOL * (config.diverse or 0))
    best = top(ranked.column("id"), ranked.column(ratio), budget, by=config.rank_by)
    within = passed[best.to_numpy()]
    codes[np.setdiff1d(passed, within)] = OUTSIDE_POOL if config.top is None else BELOW_TOP
    if config.diverse is not None:
        chosen = _diverse(files, engine, rows.take(within), config.diverse)
        codes[within[~chosen]] = LIKE_OTHERS
    _reject(decisions, codes)


def _diverse(
    files: ScoreFiles, engine: ScoringEngine, pool: pa.Table, number: int
) -> npt.NDArray[np.bool_]:
    """Which of the pool's rows are chosen."""
    if len(pool) <= number:
        say(f"note: --diverse {number} keeps all of its pool, which has {len(pool)} records")
        return np.ones(len(pool), np.bool_)
    kinds = dict(zip(*(pool.column(name).to_pylist() for name in ("id", "candidate")), strict=True))
    ids, vectors = embeddings(files.run, files, engine, kinds)
    chosen = {ids[place] for place in diverse(vectors, number)}
    return np.array([id in chosen for id in kinds])


def _reject(decisions: DecisionFiles, codes: Codes) -> None:
    """Write the rejections into the shards of decisions."""
    begin = 0
    for shard, table in decisions.shards():
        own = codes[begin : begin + len(table)]
        begin += len(table)
        if own.any():
            decisions.write(shard, _rejected(table, own))


def _rejected(table: pa.Table, codes: Codes) -> pa.Table:
    for name, part in (("filter_rule", 0), ("reason", 1)):
        words = pa.array([REJECTIONS[code][part] if code else None for code in codes], pa.string())
        place = table.schema.get_field_index(name)
        column = pc.coalesce(words, table.column(name))
        table = table.set_column(place, table.schema.field(name), column)
    return table
