"""The loss curve of a training: a table, and a picture of it."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import CurateError
from ...reporting.figures.picture import panels

HELD_OUT = "eval_loss"  # the name that trackers show apart from training's
COLUMNS = {"loss": "training_loss", HELD_OUT: "held_out_loss"}
"""What a trainer logs -> the column of `loss.csv`: nats a token, held-out rows after the step."""
PREFERENCE_COLUMNS = {
    "loss": "training_loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_log_probability",
    "logps/rejected": "rejected_log_probability",
}
"""The same of a preference training. The margin is beta times D of `losses`, the accuracy the part
of pairs with a positive one, the log-probabilities nats an answer; kto has no accuracy."""
PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("loss (nats a response token)", {"training_loss": "training", "held_out_loss": "held-out"}),
)
PREFERENCE_PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("loss", {"training_loss": "training"}),
    ("margin, accuracy", {"margin": "margin", "accuracy": "accuracy"}),
    (
        "log-probability (nats an answer)",
        {"chosen_log_probability": "chosen", "rejected_log_probability": "rejected"},
    ),
)
"""What shares a panel of `loss.png`: its axis, and the columns with their names."""

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")

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


def draw_preference_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw the curves of several preference trainings into one picture, a colour each."""
    columns = [name for name in PREFERENCE_COLUMNS.values() if name != "training_loss"]
    with panels(len(columns), path) as found:
        for axes, column in zip(found, columns, strict=True):
            for (name, curve), color in zip(curves.items(), COLORS, strict=False):
                _draw_column(axes, curve, column, "-", color=color, label=name)
            _finish_panel(axes, column.replace("_", " "))


def read_curve(folder: Path) -> Curve:
    """The curve that `write_curve` left in a training's folder; CurateError where it is damaged."""
    path = folder / "loss.csv"
    try:
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        return [{name: float(v) if v else None for name, v in row.items()} for row in rows]
    except (OSError, ValueError) as error:
        raise CurateError(
            f"{path} cannot be read ({error}): remove {folder} to train anew"
        ) from None


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
    shown = PREFERENCE_PANELS if curve and "margin" in curve[0] else PANELS
    with panels(len(shown), path) as found:
        for axes, (label, columns) in zip(found, shown, strict=True):
            for (column, name), color in zip(columns.items(), COLORS, strict=False):
                line = "o-" if column == "held_out_loss" else "-"
                _draw_column(axes, curve, column, line, color=color, label=name)
            _finish_panel(axes, label)


def _draw_column(axes: Any, curve: Curve, column: str, line: str, **style: Any) -> None:
    """A column of a curve by step, where it has a value."""
    points = [(row["step"], row[column]) for row in curve if row[column] is not None]
    if points:
        axes.plot(*zip(*points, strict=True), line, linewidth=1, **style)


def _finish_panel(axes: Any, label: str) -> None:
    """Grid, axes and legend."""
    axes.set(xlabel="step", ylabel=label)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
