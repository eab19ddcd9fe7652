"""A loop's measures by iteration: `iterations.csv`, and a picture of them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..base.files import write_atomically, write_text
from ..method.loops.measures import Measures

TABLE, PICTURE = "iterations.csv", "iterations.png"
PANELS: dict[str, tuple[str, ...]] = {
    "held-out loss (nats a token)": ("held_out_loss",),
    "characters of an answer": ("length",),
    "share": ("ties", "cut", "distinct", "taken_up"),
    "reward": ("reward", "reward_length"),
    "winning score": ("wins_first", "wins_previous"),
}
"""What shares a panel: its axis, and the measures; scores stand for wins."""
_WINS = ("wins_first", "wins_previous")
_SCALARS = tuple(field.name for field in fields(Measures) if field.name not in ("left_out", *_WINS))
COLUMNS = (*_SCALARS, "left_out", *_WINS)


def value_of(one: Measures, name: str) -> Any:
    """A measure as a number; of wins the score, of what was left out the sum."""
    found = getattr(one, name)
    if name in _WINS:
        return found and found.score
    return sum(found.values()) if name == "left_out" and found is not None else found


def write_curves(folder: Path, found: Sequence[Measures]) -> None:
    """Write both files."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([value_of(one, name) for name in COLUMNS] for one in found)
    write_text(folder / TABLE, text.getvalue())
    write_atomically(folder / PICTURE, lambda path: _draw(found, path))


def _draw(found: Sequence[Measures], path: Path) -> None:
    # No pyplot: it looks for a display and keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.2 * len(PANELS)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (label, names) in zip(figure.subplots(len(PANELS)), PANELS.items(), strict=True):
        for name in names:
            points = [(one.iteration, value_of(one, name)) for one in found]
            known = [point for point in points if point[1] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", linewidth=1, label=name)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        axes.set(ylabel=label)
        if axes.lines:
            axes.legend()
    axes.set(xlabel="iteration")
    figure.savefig(path, format="png")
