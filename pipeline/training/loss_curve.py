"""The loss curve of a training: a table, and a picture of it."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HELD_OUT = "eval_loss"  # the name that trackers show apart from training's


@dataclass(frozen=True, slots=True)
class Point:
    """The losses (nats a token) at a step: of its own batch, and of the held-out rows after it."""

    step: int
    training: float | None
    held_out: float | None


def loss_curve(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The curve from a trainer's log, a point a step; step 0 is before training."""
    training = {entry["step"]: entry["loss"] for entry in history if "loss" in entry}
    held_out = {entry["step"]: entry[HELD_OUT] for entry in history if HELD_OUT in entry}
    steps = sorted({*training, *held_out})
    return [Point(step, training.get(step), held_out.get(step)) for step in steps]


def write_curve(curve: list[Point], folder: Path) -> None:
    """Write `loss.csv` and `loss.png`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "training_loss", "held_out_loss"))
    writer.writerows((point.step, point.training, point.held_out) for point in curve)
    (folder / "loss.csv").write_text(text.getvalue(), "utf-8")
    _draw(curve, folder / "loss.png")


def _draw(curve: list[Point], path: Path) -> None:
    # No pyplot: it looks for a display and keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    training = [(p.step, p.training) for p in curve if p.training is not None]
    held_out = [(p.step, p.held_out) for p in curve if p.held_out is not None]
    if training:
        axes.plot(*zip(*training, strict=True), color="tab:blue", linewidth=1, label="training")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", color="tab:orange", label="held out")
    axes.set(xlabel="step", ylabel="loss (nats a response token)")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    if curve:
        axes.legend()
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")
