"""Small figures: distributions, two values against each other, stacked bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from ..numbers.summaries import Histogram, Numbers, log_edges
from .svg import COLOUR, figure, inline

WIDTH, HEIGHT = 360, 250
FEW = 1500
"""Up to so many points each is drawn, above it their density."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A drawn figure; `beyond` counts what lies outside its frame."""

    name: str
    title: str
    svg: Markup
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """The name of an axis, where it begins and ends, and its threshold; `log`: logarithmic."""

    label: str
    end: float
    limit: float | None = None
    begin: float = 0.0
    log: bool = False


def length_axis(label: str, groups: Sequence[Numbers]) -> tuple[Numbers, Axis]:
    """The edges of bins of lengths, and their axis."""
    edges = log_edges(groups)
    return edges, Axis(f"{label}, characters", float(edges[-1]), begin=float(edges[0]), log=True)


def distributions(
    name: str, title: str, found: Histogram, colours: Mapping[str, str], axis: Axis
) -> Panel:
    """Each group's share in each bin, as steps over one another."""
    with figure(WIDTH, HEIGHT * 0.85) as drawn:
        ax = drawn.add_axes((0.12, 0.2, 0.84, 0.74))
        for group, counts in found.counts.items():
            total = counts.sum() + found.beyond[group]
            share = counts / total * 100 if total else counts.astype(float)
            colour = COLOUR[colours[group]]
            ax.stairs(share, found.edges, fill=True, color=colour, alpha=0.16)
            ax.stairs(share, found.edges, color=colour, linewidth=1.5)
        _axes(ax, axis, None)
        ax.set_ylim(bottom=0)
        ax.set_ylabel("% of each", fontsize=9)
        ax.grid(visible=False, axis="x")
        text = f"Histogram of {axis.label}: {', '.join(found.counts)}."
        return Panel(name, title, inline(drawn, name, title=title, text=text),
                     sum(found.beyond.values()))  # fmt: skip


def curve(name: str, title: str, losses: Sequence[tuple[int, float]]) -> Panel:
    """A training's loss by step."""
    with figure(WIDTH, HEIGHT * 0.85) as drawn:
        ax = drawn.add_axes((0.12, 0.2, 0.84, 0.74))
        ax.plot(*zip(*losses, strict=True), color=COLOUR["both"], linewidth=1.5)
        ax.set_xlabel("step")
        ax.set_ylabel("training loss")
        text = f"Training loss from step {losses[0][0]} to step {losses[-1][0]}."
        return Panel(name, title, inline(drawn, name, title=title, text=text))


def cloud(
    name: str, title: str, xy: tuple[Numbers, Numbers], x: Axis, y: Axis, colour: str
) -> Panel:
    """Points, or their density in hexagons where they are many."""
    inside = (xy[0] <= x.end) & (xy[1] <= y.end)
    xs, ys = xy[0][inside], xy[1][inside]
    with figure(WIDTH, HEIGHT) as drawn:
        ax = drawn.add_axes((0.12, 0.17, 0.84, 0.79))
        if len(xs) > FEW:
            _hexagons(ax, np.maximum(xs, x.begin), ys, x, y, colour)
        elif len(xs):
            ax.scatter(
                np.maximum(xs, x.begin), ys, s=16, color=COLOUR[colour], alpha=0.7, linewidths=0
            )
        _axes(ax, x, y)
        text = f"{len(xs)} pairs, {x.label} across and {y.label} up."
        return Panel(name, title, inline(drawn, name, title=title, text=text),
                     int((~inside).sum()))  # fmt: skip


def _hexagons(ax: Any, xs: Numbers, ys: Numbers, x: Axis, y: Axis, colour: str) -> None:
    """One colour, the denser the less transparent: it works on light and on dark paper."""
    from matplotlib.colors import to_rgb

    frame = (np.log10(x.begin), np.log10(x.end)) if x.log else (x.begin, x.end)
    bins = ax.hexbin(
        xs, ys, gridsize=(38, 22), mincnt=1, linewidths=0, extent=(*frame, 0.0, y.end),
        xscale="log" if x.log else "linear",
    )  # fmt: skip
    counts = np.asarray(bins.get_array(), dtype=float)
    steps = np.round(0.25 + 0.75 * np.sqrt(counts / counts.max()), 2)
    bins.set_array(None)
    bins.set_facecolor([(*to_rgb(COLOUR[colour]), alpha) for alpha in steps])


def _axes(ax: Any, x: Axis, y: Axis | None) -> None:
    if x.log:
        _log_ticks(ax)
    ax.set_xlim(x.begin, x.end)
    ax.set_xlabel(x.label)
    if y is not None:
        ax.set_ylim(0, y.end)
        ax.set_ylabel(y.label)
        if y.limit is not None:
            ax.axhline(y.limit, color=COLOUR["dropped"], linewidth=1, linestyle=(0, (4, 3)))
    if x.limit is not None:
        ax.axvline(x.limit, color=COLOUR["dropped"], linewidth=1, linestyle=(0, (4, 3)))
    ax.minorticks_off()


def _log_ticks(ax: Any) -> None:
    """10, 30, 100, … in figures, not in powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def bars(name: str, title: str, rows: Mapping[str, Sequence[tuple[str, int, str, float]]]) -> Panel:
    """A stacked bar for each row: (part, number, colour, opacity), all rows to the same scale."""
    longest = max((sum(n for _, n, _, _ in parts) for parts in rows.values()), default=1)
    with figure(400, 36 * len(rows)) as drawn:
        ax = drawn.add_axes((0, 0, 1, 1))
        for place, (row, parts) in enumerate(rows.items()):
            ax.text(0, place - 0.32, row, fontsize=10, va="center")
            left = 0
            for _, number, colour, opacity in parts:
                ax.barh(place + 0.15, number, left=left, height=0.4, color=COLOUR[colour],
                        alpha=opacity, edgecolor=COLOUR["paper"], linewidth=0.5)  # fmt: skip
                left += number
        ax.set_xlim(0, max(longest, 1))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.axis("off")
        text = "; ".join(
            f"{row}: " + ", ".join(f"{n} {part}" for part, n, _, _ in parts)
            for row, parts in rows.items()
        )
        return Panel(name, title, inline(drawn, name, title=title, text=text))
