"""The flow of records, drawn: ribbons between columns, and stacked bars where there is no room."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..numbers.record_flow import Flow, Step
from .panels import Panel
from .svg import COLOUR, figure, inline

_COLOUR = {"plain": "muted"}
THICK, LABEL, GAP = 9.0, 30.0, 12.0


@dataclass(frozen=True, slots=True)
class Box:
    """Where an outcome stands (points): its bar from `top`, `height` high, at `left`."""

    left: float
    top: float
    height: float
    colour: str


def ribbons(name: str, flow: Flow, *, width: float = 1080, height: float = 330) -> Panel:
    """Columns from left to right; a ribbon is as thick as its number of records."""
    boxes = _layout(flow, width, height)
    low = max(box.top + max(box.height, LABEL) for box in boxes.values()) + 6
    with figure(width, low) as drawn:
        ax = _canvas(drawn, width, low)
        for step in filter(lambda step: step.outcomes, flow.columns):
            first = boxes[step.key, step.outcomes[0].code]
            _text(ax, first.left, 12, step.title.split(". ")[-1], "muted", 11)
        _draw_ribbons(ax, flow, boxes)
        for step in flow.columns:
            for outcome in step.outcomes:
                box = boxes[step.key, outcome.code]
                _rectangle(ax, box)
                middle = box.top + box.height / 2
                _text(
                    ax, box.left + THICK + 5, middle - 6, f"{outcome.count:,}", "ink", 13, bold=True
                )
                _text(ax, box.left + THICK + 5, middle + 9, outcome.label, "ink", 11)
        title = "The flow of records"
        return Panel(name, title, inline(drawn, name, title=title, text=describe(flow)))


def describe(flow: Flow) -> str:
    """The columns as a sentence, for those who do not see the figure."""
    return " ".join(
        f"{step.title}: " + ", ".join(f"{o.count} {o.label}" for o in step.outcomes) + "."
        for step in flow.columns
    )


def _layout(flow: Flow, width: float, height: float) -> dict[tuple[str, str], Box]:
    total = max(step.total for step in flow.columns) or 1
    most = max(len(step.outcomes) for step in flow.columns)
    scale = (height - 30) / total
    last_label = 150.0
    step_width = (width - last_label) / max(len(flow.columns) - 1, 1)
    boxes = {}
    for place, step in enumerate(flow.columns):
        top = 30.0
        for outcome in step.outcomes:
            size = max(outcome.count * scale, 1.0)
            slot = max(size, LABEL)
            colour = _COLOUR.get(outcome.kind, outcome.kind)
            boxes[step.key, outcome.code] = Box(
                place * step_width, top + (slot - size) / 2, size, colour
            )
            top += slot + (GAP if most > 1 else 0)
    return boxes


def _draw_ribbons(ax: Any, flow: Flow, boxes: dict[tuple[str, str], Box]) -> None:
    order = {key: place for place, key in enumerate(boxes)}
    leaving = dict.fromkeys(boxes, 0.0)
    arriving = dict.fromkeys(boxes, 0.0)
    sums_out, sums_in = dict.fromkeys(boxes, 0), dict.fromkeys(boxes, 0)
    for link in flow.links:
        sums_out[link.source] += link.count
        sums_in[link.target] += link.count
    for link in sorted(flow.links, key=lambda k: (order[k.source], order[k.target])):
        source, target = boxes[link.source], boxes[link.target]
        from_size = source.height * link.count / sums_out[link.source]
        to_size = target.height * link.count / sums_in[link.target]
        begin = (source.left + THICK, source.top + leaving[link.source], from_size)
        end = (target.left, target.top + arriving[link.target], to_size)
        early = link.target[0] in ("input", "branch", "version")
        colour = target.colour if early or target.colour == "dropped" else source.colour
        _ribbon(ax, begin, end, colour)
        leaving[link.source] += from_size
        arriving[link.target] += to_size


def _ribbon(
    ax: Any, begin: tuple[float, float, float], end: tuple[float, float, float], colour: str
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x0, y0, h0), (x1, y1, h1) = begin, end
    middle = (x0 + x1) / 2
    path = Path(
        [
            (x0, y0), (middle, y0), (middle, y1), (x1, y1),
            (x1, y1 + h1), (middle, y1 + h1), (middle, y0 + h0), (x0, y0 + h0), (x0, y0),
        ],
        [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY],
    )  # fmt: skip
    ax.add_patch(PathPatch(path, facecolor=COLOUR[colour], alpha=0.22, linewidth=0))


def stacked(name: str, flow: Flow, *, width: float = 360) -> Panel:
    """The same columns as one bar under another, each outcome named below its bar."""
    lines = sum(len(step.outcomes) for step in flow.columns)
    height = 46.0 * len(flow.columns) + 18.0 * lines
    with figure(width, height) as drawn:
        ax = _canvas(drawn, width, height)
        top = 14.0
        for step in flow.columns:
            _text(ax, 0, top, step.title.split(". ")[-1], "muted", 11)
            for box, size in _segments(step, width, top + 8):
                _rectangle(ax, box, size)
            top += 32
            for outcome in step.outcomes:
                colour = _COLOUR.get(outcome.kind, outcome.kind)
                _rectangle(ax, Box(0, top - 5, 9, colour), 9)
                _text(ax, 16, top, f"{outcome.count:,}  {outcome.label}", "ink", 12)
                top += 18
            top += 14
        title = "The flow of records, step by step"
        return Panel(name, title, inline(drawn, name, title=title, text=describe(flow)))


def _segments(step: Step, width: float, top: float) -> Iterator[tuple[Box, float]]:
    left = 0.0
    for outcome in step.outcomes:
        size = width * outcome.count / (step.total or 1)
        yield Box(left, top, 12, _COLOUR.get(outcome.kind, outcome.kind)), max(size - 1, 0.7)
        left += size


def _canvas(drawn: Any, width: float, height: float) -> Any:
    """Axes whose units are points from the top left."""
    ax = drawn.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.axis("off")
    return ax


def _rectangle(ax: Any, box: Box, width: float = THICK) -> None:
    from matplotlib.patches import Rectangle

    corner = (box.left, box.top)
    ax.add_patch(Rectangle(corner, width, box.height, facecolor=COLOUR[box.colour], linewidth=0))


def _text(
    ax: Any, x: float, y: float, text: str, colour: str, size: float, *, bold: bool = False
) -> None:
    weight = "bold" if bold else "normal"
    ax.text(x, y, text, color=COLOUR[colour], fontsize=size, va="center", fontweight=weight)
