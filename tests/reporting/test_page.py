"""Texts on the page and figures in it."""

import html
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.reporting.difference import Piece
from curate.pipeline.reporting.figures.panels import FEW, Axis, cloud, distributions
from curate.pipeline.reporting.figures.svg import COLOUR, figure, inline
from curate.pipeline.reporting.numbers.summaries import histogram
from curate.pipeline.reporting.page import FOLD, folded, visible

ROOT = Path(__file__).parents[2]


class Said(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_text_is_shown_whole_and_inert(text: str) -> None:
    shown = str(visible(text))
    said = Said(shown)
    assert said.tags <= {"bdi"} and "\0" not in shown
    assert said.text == text.replace("\0", "\u2400")


@pytest.mark.parametrize(
    "sign", ["\0", "\r", "\x1b", "\x7f", "\x85", "\u200f", "\u202e", "\u2066", "\ufeff"]
)
def test_what_is_not_seen_has_a_box(sign: str) -> None:
    assert f'title="U+{ord(sign):04X}"' in visible(f"a{sign}b")


def test_every_file_of_the_page_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "curate.pipeline.reporting" in settings["packages"]
    patterns = [*settings["package-data"]["curate.pipeline.reporting"], "*.py"]
    files = [p for p in (ROOT / "pipeline" / "reporting").iterdir() if p.is_file()]
    assert all(any(path.match(pattern) for pattern in patterns) for path in files)
    assert {path.suffix for path in files} == {".py", ".html", ".css", ".js"}


def test_joined_emoji_stay_joined() -> None:
    family = "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308"
    assert visible(family) == family and visible("a\tb\nc") == "a\tb\nc"
    assert visible("<b>&") == html.escape("<b>&")


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=900), st.booleans()), max_size=6))
def test_a_long_text_is_folded_but_whole(given_pieces: list[tuple[str, bool]]) -> None:
    pieces = [Piece(*piece) for piece in given_pieces]
    first, rest, more = folded(pieces)
    signs = [(sign, piece.changed) for piece in pieces for sign in piece.text]
    assert [(sign, piece.changed) for piece in (*first, *rest) for sign in piece.text] == signs
    assert more == sum(len(piece.text) for piece in rest)
    assert not rest or sum(len(piece.text) for piece in first) == FOLD


def test_a_figure_has_the_pages_colours_and_ids_of_its_own() -> None:
    def drawn_as(name: str) -> str:
        with figure(200, 100) as drawn:
            ax = drawn.add_subplot()
            ax.plot([1, 2], [3, 4], color=COLOUR["kept"])
            ax.set_title("a <b> $x$ & c")
            return inline(drawn, name, title="t <&>", text='d "d"')

    svg = drawn_as("mine")
    assert "var(--kept)" in svg and not any(value in svg for value in COLOUR.values())
    assert "<style" not in svg and "DejaVu" not in svg and "$x$" in svg
    assert "t &lt;&amp;&gt;" in svg and "a &lt;b&gt;" in svg
    ids, others = (re.findall(r' id="([^"]*)"', text) for text in (svg, drawn_as("other")))
    assert len(set(ids)) == len(ids) > 2 and not {*ids} & {*others}
    assert {*re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)} <= {*ids}
    assert svg == drawn_as("mine")


@pytest.mark.parametrize("number", [0, 1, FEW, FEW + 1, 20_000])
@pytest.mark.parametrize("log", [False, True])
def test_points_are_drawn_few_or_many(number: int, log: bool) -> None:
    rng = np.random.default_rng(0)
    xs, ys = rng.uniform(5, 500, number), rng.uniform(0, 3, number)
    x = Axis("length", 400.0, begin=4.0 if log else 0.0, log=log)
    panel = cloud("n", "t", (xs, ys), x, Axis("IFD", 2.0, 1.0), "kept")
    assert panel.beyond == int(((xs > 400) | (ys > 2)).sum())
    assert len(panel.svg) < 300_000 and "nan" not in panel.svg


def test_nothing_and_everything_outside_are_drawn() -> None:
    axis = Axis("IFD", 1.0, 1.0)
    edges = np.linspace(0, 1, 5)
    for values in (np.zeros(0), np.full(9, 7.0), np.array([0.5])):
        found = distributions("d", "t", histogram({"a": values}, edges), {"a": "kept"}, axis)
        assert "nan" not in found.svg and found.beyond == int((values > 1).sum())
