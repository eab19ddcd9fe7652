"""Which figures a report has, and what each is drawn from."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from ...records import CANDIDATE_STATUSES, CANDIDATES
from ..labels import CANDIDATES as CANDIDATE_WORDS
from ..numbers.contents import RunNumbers, StudentNumbers, groups_of, lengths_of, points
from ..numbers.reading import StudentTables
from ..numbers.summaries import by_origin, frame, histogram, linear_edges, numbers
from .panels import Axis, Panel, bars, cloud, distributions, length_axis
from .record_flow_figure import ribbons, stacked

Panels = Mapping[str, list[Panel]]
NAMES = {"ifd": "IFD", "rifd": "r-IFD"}
_USABLE = {"ok": ("kept", 0.9), "unchanged": ("original", 0.9)}


def status_bars(about: RunNumbers) -> Panel:
    """The candidates of each kind by status."""
    rows = {}
    for kind in CANDIDATES:
        parts = []
        for place, status in enumerate(CANDIDATE_STATUSES):
            colour, opacity = _USABLE.get(status, ("dropped", 1 - 0.11 * place))
            parts.append((status, about.statuses.get((kind, status), 0), colour, opacity))
        rows[CANDIDATE_WORDS[kind]] = [part for part in parts if part[1]]
    return bars("statuses", "Candidates by status", {k: v for k, v in rows.items() if v})


def student_panels(
    candidates: pa.Table, student: StudentTables, found: StudentNumbers, prefix: str
) -> Panels:
    """All figures of one student, by the chapter they stand in; `prefix` makes names unique."""
    panels = {"scores": list(_scores(student, found, prefix))}
    ends = {
        side: frame(list(groups_of(student, side).values()), at_least=found.limits[side])
        for side in NAMES
    }
    panels["clouds"] = list(_clouds(student, found, ends, prefix))
    if found.flow is not None:
        panels["flow"] = [
            ribbons(f"{prefix}flow", found.flow),
            stacked(f"{prefix}steps", found.flow),
        ]
        panels["by_length"] = list(_by_length(student, found, ends, prefix))
        panels["lengths"] = list(_lengths(candidates, student, prefix))
    return panels


def _scores(student: StudentTables, found: StudentNumbers, prefix: str) -> Iterator[Panel]:
    colours = {"original": "original", "reflected": "both"}
    for side, label in NAMES.items():
        groups = {k: v for k, v in groups_of(student, side).items() if k in colours}
        edges = linear_edges(list(groups.values()), at_least=found.limits[side])
        axis = Axis(label, float(edges[-1]), found.limits[side])
        yield distributions(f"{prefix}{side}", label, histogram(groups, edges), colours, axis)


def _clouds(
    student: StudentTables, found: StudentNumbers, ends: Mapping[str, float], prefix: str
) -> Iterator[Panel]:
    """IFD against r-IFD of originals, reflections and final pairs, in the same frame."""
    x, y = (Axis(label, ends[side], found.limits[side]) for side, label in NAMES.items())
    scored = by_origin(student.scores)
    tables = {
        "original": ("Originals", scored["original"], "original"),
        "reflected": ("Reflections", scored["reflected"], "both"),
    }
    if student.decided:
        tables["final"] = ("Final pairs", student.rows, "kept")
    for name, (title, table, colour) in tables.items():
        yield cloud(f"{prefix}cloud-{name}", title, points(table, "ifd", "rifd"), x, y, colour)


def _by_length(
    student: StudentTables, found: StudentNumbers, ends: Mapping[str, float], prefix: str
) -> Iterator[Panel]:
    """Each score against the response's length, of kept and of dropped pairs."""
    _, x = length_axis("response", [numbers(student.rows.column("response_chars"))])
    tables = {"kept": student.kept, "dropped": student.dropped}
    for side, label in NAMES.items():
        y = Axis(label, ends[side], found.limits[side])
        for name, table in tables.items():
            xy = points(table, "response_chars", side)
            yield cloud(f"{prefix}{side}-length-{name}", f"{label}, {name}", xy, x, y, name)


def _lengths(candidates: pa.Table, student: StudentTables, prefix: str) -> Iterator[Panel]:
    found = lengths_of(candidates, student)
    colours = {"before": "original", "after": "kept"}
    for text, title in (("instruction", "Instructions"), ("response", "Responses")):
        groups = {name: found[text, name] for name in colours}
        edges, axis = length_axis(text, list(groups.values()))
        found_bins = histogram(groups, edges)
        yield distributions(f"{prefix}{text}-length", title, found_bins, colours, axis)
