"""A PNG of panels below one another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def panels(number: int, path: Path, *, height: float = 3.5) -> Iterator[Sequence[Any]]:
    """The axes of so many panels of a height in inches, which are then written.

    The margins are given: a layout that finds them draws all twice.
    """
    # No pyplot: it looks for a display and keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall, below, between = height * number, 0.6, 0.7
    figure = Figure(figsize=(7, tall))
    figure.subplots_adjust(
        left=0.13, right=0.97, bottom=below / tall, top=1 - 0.15 / tall,
        hspace=between / ((tall - below - 0.15 - between * (number - 1)) / number),
    )  # fmt: skip
    yield list(figure.subplots(number, squeeze=False)[:, 0])
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")
