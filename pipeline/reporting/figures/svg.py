"""matplotlib figures as inline SVG whose colours and fonts are the page's."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any

from markupsafe import Markup, escape

_NAMES = (
    "ink", "muted", "line", "paper", "original", "instruction", "response", "both", "kept",
    "dropped", "plain",
)  # fmt: skip
COLOUR: Mapping[str, str] = {name: f"#0a00{place:02x}" for place, name in enumerate(_NAMES)}
"""What to draw with; in the SVG each is `var(--name)`, so that light and dark are the page's."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": COLOUR["ink"],
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOUR["line"],
    "ytick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "ytick.major.size": 0,
    "figure.facecolor": "none",
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of so many points, in the report's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}):
        yield Figure(figsize=(width / 72, height / 72))


def inline(drawn: Any, name: str, *, title: str, text: str) -> Markup:
    """The figure as an <svg> element; `name` makes the ids that are referred to its own."""
    import matplotlib

    raw, nothing = StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.savefig(raw, format="svg", transparent=True, metadata=nothing)
    svg = raw.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)  # it would be the whole page's
    svg = re.sub(r" id=\"[^\"]*_\d+\"", "", svg)  # figure_1, …: the same in every figure
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*|font-family: [^;\"]*", _font, svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    for colour, value in COLOUR.items():
        svg = svg.replace(value, f"var(--{colour})")
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return Markup(
        re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", _opening(name, title, text), svg, count=1)
    )


def _opening(name: str, title: str, text: str) -> Any:
    return lambda found: (
        f'<svg {found[1]} role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(text)}</desc>'
    )


def _font(found: re.Match[str]) -> str:
    return f"font: {found[1]} var(--sans)" if found[1] else "font-family: var(--sans)"
