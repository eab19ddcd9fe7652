"""A loop's measures by iteration: `iterations.csv`, a picture of them, and the report."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..base.files import write_atomically, write_text
from ..method.loops.measures import Measures
from .figures.panels import HEIGHT, WIDTH, Panel
from .figures.picture import panels
from .figures.svg import COLOUR, figure, inline
from .page import rendered

TABLE, PICTURE = "iterations.csv", "iterations.png"
PANELS: dict[str, tuple[str, ...]] = {
    "held-out loss (nats a token)": ("held_out_loss",),
    "characters of an answer": ("length",),
    "share": ("ties", "cut", "distinct", "taken_up"),
    "reward": ("reward", "reward_length"),
    "pairwise accuracy": ("exam",),
    "winning score": ("wins_first", "wins_previous"),
}
"""What shares a panel: its axis, and the measures; scores stand for wins."""
_WINS = ("wins_first", "wins_previous")
_OTHERS = ("left_out", "exam", *_WINS)
COLUMNS = (*(field.name for field in fields(Measures) if field.name not in _OTHERS), *_OTHERS)


def value_of(one: Measures, name: str) -> Any:
    """A measure as a number; of wins the score, of an exam the accuracy, of counts the sum."""
    found = getattr(one, name)
    if name in _WINS:
        return found and found.score
    if name == "exam":
        return found and found.pairwise_accuracy
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
    with panels(len(PANELS), path, height=2.2) as drawn:
        for axes, (label, names) in zip(drawn, PANELS.items(), strict=True):
            _lines(axes, found, dict.fromkeys(names))
            axes.grid(alpha=0.3)
            axes.set(ylabel=label, xlabel="iteration")


def _lines(axes: Any, found: Sequence[Measures], colours: Mapping[str, str | None]) -> None:
    """A line for each measure that is known."""
    for name, colour in colours.items():
        points = [(one.iteration, value_of(one, name)) for one in found]
        known = [point for point in points if point[1] is not None]
        if known:
            label = name.replace("_", " ")
            axes.plot(*zip(*known, strict=True), "o-", linewidth=1.5, color=colour, label=label)
    axes.locator_params(axis="x", integer=True)
    if axes.lines:
        axes.legend(fontsize=8)


# --- the page -------------------------------------------------------------------------------------


def loop_page(
    name: str,
    config: Mapping[str, Any],
    found: Sequence[Measures],
    best: int | None,
    stopped: str | None,
) -> str:
    """The report of a loop, by iteration."""
    return rendered(
        "loop.html",
        name=name,
        identity={key: value for key, value in config["identity"].items() if value is not None},
        rows=[(one.iteration, {key: value_of(one, key) for key in COLUMNS[1:]}) for one in found],
        columns=COLUMNS[1:],
        reasons=[(one.iteration, one.left_out) for one in found if one.left_out],
        panels=[_panel(place, label, names, found) for place, (label, names) in _known(found)],
        best=best,
        stopped=stopped,
    )


def _known(found: Sequence[Measures]) -> list[tuple[int, tuple[str, tuple[str, ...]]]]:
    """The panels of which something was measured."""
    return [
        (place, (label, names))
        for place, (label, names) in enumerate(PANELS.items())
        if any(value_of(one, name) is not None for one in found for name in names)
    ]


def _panel(place: int, label: str, names: tuple[str, ...], found: Sequence[Measures]) -> Panel:
    title, colours = label.capitalize(), ("original", "instruction", "response", "both")
    with figure(WIDTH, HEIGHT * 0.85) as drawn:
        axes = drawn.add_axes((0.14, 0.2, 0.82, 0.74))
        drawn_in = {name: COLOUR[colour] for name, colour in zip(names, colours, strict=False)}
        _lines(axes, found, drawn_in)
        axes.set_xlabel("iteration")
        text = f"{label} by iteration: {', '.join(names)}."
        svg = inline(drawn, f"loop-{place}", title=title, text=text)
    return Panel(f"loop-{place}", title, svg)
