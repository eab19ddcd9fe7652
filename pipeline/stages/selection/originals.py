"""The originals that a selection is set against, and which of them each baseline draws."""

from array import array
from collections.abc import Callable, Iterator

import numpy as np

from ...method.baseline_sampling import Drawn, Lengths, draw, draw_of_like_lengths, lots
from ...run.directory import RunDir
from ...run.selected import SelectedRow
from ...scoring.score_files import ScoreFiles
from .corpus_filters import scored_records


def originals(run: RunDir, files: ScoreFiles) -> Iterator[SelectedRow]:
    """The originals that could be trained on, with the scores that the decisions needed."""
    for record, known in scored_records(run, files):
        original = record.get("original")
        if original is not None and original.valid:
            yield SelectedRow(
                id=original.id,
                candidate=original,
                kind="original",
                score=known.get("original"),
                decision=None,
                reason=None,
                extra=original.extra,
            )


def drawn(pool: Callable[[], Iterator[SelectedRow]], wanted: Lengths) -> dict[str, Drawn]:
    """Which originals are in each baseline, given the selected responses' lengths in characters."""
    lengths = array("q")

    def ids() -> Iterator[str]:
        for row in pool() if len(wanted) else ():
            lengths.append(len((row.candidate and row.candidate.output) or ""))
            yield row.id

    numbers = lots(ids())
    own = np.array(lengths, np.int64)
    return {
        "random": draw(numbers, len(wanted)),
        "length": draw_of_like_lengths(wanted, own, numbers),
    }
