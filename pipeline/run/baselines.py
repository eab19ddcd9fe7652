"""Fair baselines beside a selection: as many originals, chosen otherwise."""

from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from .arrow_set import batches
from .directory import RunDir
from .selected import SelectedRow, Sets, write_set

HOW = {
    "random": "drawn at random",
    "length": "for each selected row, the longest first, the unused original whose response is "
    "nearest to it in characters",
}
CARD = """# Baseline: {name}

{number} originals to set the selection `{student}` against: {how}. Nothing else was decided about
them, so `decision` is empty; `ifd` and `rifd` are there where selecting needed them.
"""


def write_baselines(
    run: RunDir,
    student: str,
    originals: Callable[[], Iterator[SelectedRow]],
    chosen: Mapping[str, npt.NDArray[np.bool_]],
    selected: Sets,
) -> Path:
    """RUN/baselines/<student>/, with a folder for each name of `HOW`.

    `chosen` says of each of the originals, by its place, whether it is in it.
    """
    folder = run.path / "baselines" / student
    for name, drawn in chosen.items():
        rows = compress(originals(), drawn) if drawn.any() else ()
        number = int(drawn.sum())
        card = CARD.format(name=name, number=number, student=student, how=HOW[name])
        write_set(folder / name, rows, selected.schema, card)
    return folder


def response_lengths(folder: Path) -> npt.NDArray[np.int64]:
    """Of each row of a selected set, in characters."""
    lengths = array("q")
    for batch in batches(folder):
        lengths.extend(pc.utf8_length(batch.column("output")).to_pylist())
    return np.array(lengths, np.int64)
