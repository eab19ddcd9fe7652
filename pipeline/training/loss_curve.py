"""The loss curve of a training: a table, and a picture of it."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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

    panels = PREFERENCE_PANELS if curve and "margin" in curve[0] else PANELS
    figure = Figure(figsize=(7, 1 + 3 * len(panels)), layout="constrained")
    found = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (label, columns) in zip(found, panels, strict=True):
        _draw_panel(axes, curve, columns)
        axes.set(xlabel="step", ylabel=label)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _draw_panel(axes: Any, curve: Curve, columns: Mapping[str, str]) -> None:
    for (column, name), color in zip(columns.items(), ("tab:blue", "tab:orange"), strict=False):
        points = [(row["step"], row[column]) for row in curve if row[column] is not None]
        if points:
            line = "o-" if column == "held_out_loss" else "-"
            axes.plot(*zip(*points, strict=True), line, color=color, linewidth=1, label=name)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    if curve:
        axes.legend()
