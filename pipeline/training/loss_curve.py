"""The loss curve of a training: a table, and a picture of it."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HELD_OUT = "eval_loss"  # the name that trackers show apart from training's
COLUMNS = {"loss": "training_loss", HELD_OUT: "held_out_loss"}
"""What a trainer logs -> the column of `loss.csv`: nats a token, held-out rows after the step."""

Curve = list[dict[str, float | None]]
"""A row a step, with its columns; step 0 is before training."""


def loss_curve(history: Iterable[Mapping[str, Any]], columns: Mapping[str, str] = COLUMNS) -> Curve:
    """The curve from a trainer's log."""
    found: dict[int, dict[str, float | None]] = {}
    for entry in history:
        for name in columns.keys() & entry.keys():
            row = found.setdefault(entry["step"], dict.fromkeys(columns.values()))
            row[columns[name]] = entry[name]
    return [{"step": step, **found[step]} for step in sorted(found)]


def write_curve(curve: Curve, folder: Path) -> None:
    """Write `loss.csv` and `loss.png`."""
    text = io.StringIO()
    names = curve[0] if curve else ("step", *COLUMNS.values())
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    (folder / "loss.csv").write_text(text.getvalue(), "utf-8")
    _draw(curve, folder / "loss.png")


def _draw(curve: Curve, path: Path) -> None:
    # No pyplot: it looks for a display and keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column, line, color in (
        ("training_loss", "-", "tab:blue"),
        ("held_out_loss", "o-", "tab:orange"),
    ):
        points = [(row["step"], row[column]) for row in curve if row[column] is not None]
        if points:
            label = column.removesuffix("_loss").replace("_", " ")
            axes.plot(*zip(*points, strict=True), line, color=color, linewidth=1, label=label)
    axes.set(xlabel="step", ylabel="loss (nats a response token)")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    if curve:
        axes.legend()
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")
