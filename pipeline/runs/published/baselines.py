"""Fair baselines beside a selection: as many originals, chosen otherwise."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...method.corpus.baseline_sampling import (
    Drawn,
    draw,
    draw_of_like_lengths,
    length_difference,
    lots,
)
from ..decisions import DecisionFiles
from ..directory import RunDir
from .selected import set_rows, write_set

MOST_APART = 0.1
"""The largest `length_difference` of a baseline that is called matched in length."""
HOW = {
    "random": "drawn at random",
    "length": "for each selected row, the longest first, the unused original whose response is "
    f"nearest to it in characters; on average they differ by at most {MOST_APART:.0%} of the mean",
}
CARD = """# Baseline: {name}

{number} originals to set the selection `{selection}` against: {how}. Nothing else was decided about
them, so `decision` is empty; `ifd` and `rifd` are there where selecting needed them.
"""


def write_baselines(run: RunDir, key: str, schema: pa.Schema) -> dict[str, int]:
    """Write a folder for each name of `HOW`, with the columns of the selected set; their rows.

    There is none matched in length where the originals are too short or too long for it.
    """
    folder = baselines_of(run, key)
    decisions = DecisionFiles.of(run, key)
    chosen = drawn(decisions)
    counts = {name: int(own.sum()) for name, own in chosen.items()}
    for name in HOW.keys() - chosen.keys():
        rmtree(folder / name, ignore_errors=True)  # of an earlier selection
    for name, own in chosen.items():
        card = CARD.format(name=name, number=counts[name], selection=key, how=HOW[name])
        write_set(folder / name, _originals(decisions, own, schema), schema, card)
    return counts


def baselines_of(run: RunDir, key: str) -> Path:
    """The folder of a selection's baselines."""
    return run.path / "baselines" / key


def drawn(decisions: DecisionFiles) -> dict[str, Drawn]:
    """Of all records, which originals are in each baseline that can be had."""
    rows = decisions.table(["id", "reason", "response_chars", "original_response_chars"])
    kept = rows.filter(pc.is_null(rows.column("reason"))).column("response_chars")
    wanted = kept.to_numpy()
    found = {name: np.zeros(len(rows), np.bool_) for name in HOW}
    if not len(wanted):
        return found
    there = pc.is_valid(rows.column("original_response_chars")).to_numpy()
    pool = rows.filter(there)
    parts = pool.select(["id"]).to_batches(max_chunksize=10_000)  # as Python texts they are large
    numbers = lots(id for part in parts for id in part.column("id").to_pylist())
    lengths = pool.column("original_response_chars").to_numpy()
    found["random"][there] = draw(numbers, len(wanted))
    alike = draw_of_like_lengths(wanted, lengths, numbers)
    found["length"][there] = alike
    if length_difference(lengths[alike], wanted) > MOST_APART:
        del found["length"]
    return found


def _originals(decisions: DecisionFiles, chosen: Drawn, schema: pa.Schema) -> Iterator[pa.Table]:
    begin = 0
    for shard, decided in decisions.shards(["id", "original_row", "original_ifd", "original_rifd"]):
        rows = decided.filter(chosen[begin : begin + len(decided)])
        begin += len(decided)
        if len(rows):
            yield set_rows(decisions.run, shard, _as_finals(rows), schema)


def _as_finals(rows: pa.Table) -> pa.Table:
    """As if each original were its record's final pair."""
    return pa.table(
        {
            "id": rows.column("id"),
            "candidate": pa.array(["original"] * len(rows), pa.string()),
            "row": rows.column("original_row"),
            "original_row": rows.column("original_row"),
            "ifd": rows.column("original_ifd"),
            "rifd": rows.column("original_rifd"),
        }
    )
