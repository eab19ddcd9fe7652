"""Records through every decision: counts that add up, step by step."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pyarrow as pa

from ..labels import CANDIDATES, SHORT, rule_label

AFTER_FILTER = ("contaminated", "below_top", "not_diverse")
"""Filter codes of rows that passed the thresholds."""
REFLECTED = ("instruction", "both")
_NO_INPUT = ("rows", "records", "surrogates_replaced")


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of some of a step's records."""

    code: str
    label: str
    count: int
    kind: str = "plain"
    """Which colour it has: a version's name, `kept`, `dropped` or `plain`."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step; its outcomes add up to `total`."""

    key: str
    title: str
    total: int
    outcomes: tuple[StepOutcome, ...]

    def __post_init__(self) -> None:
        assert sum(outcome.count for outcome in self.outcomes) == self.total, self


@dataclass(frozen=True, slots=True)
class Link:
    """So many records went from one outcome to another, of the next column."""

    source: tuple[str, str]
    target: tuple[str, str]
    count: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The steps with every rule, and what the figure shows: columns of outcomes and links."""

    steps: tuple[Step, ...]
    columns: tuple[Step, ...]
    links: tuple[Link, ...]


def input_step(counts: Mapping[str, int] | None, records: int) -> Step | None:
    """What became of the input's rows; None where that is not known, or counts something else.

    >>> input_step({"rows": 4, "records": 2, "duplicates": 1, "rejected": 1}, 2).total
    4
    """
    if not counts or counts.get("records") != records:
        return None
    lost = {name: n for name, n in counts.items() if name not in _NO_INPUT and n}
    unknown = counts["rows"] - records - sum(lost.values())
    if unknown < 0:
        return None
    names = {"rejected": "not usable", "duplicates": "exact duplicates"}
    outcomes = [StepOutcome("records", "records", records)]
    outcomes += [
        StepOutcome(name, names.get(name, name.replace("_", " ")), n, "dropped")
        for name, n in lost.items()
    ]
    if unknown:
        outcomes.append(StepOutcome("other", "left out otherwise", unknown, "dropped"))
    return Step("input", "Input rows", counts["rows"], tuple(outcomes))


def versions_step(statuses: Mapping[tuple[str, ...], int]) -> Step:
    """The versions of all records by status, from (candidate, status) -> number."""
    outcomes = tuple(
        StepOutcome(f"{kind} {status}", f"{CANDIDATES.get(kind, kind)}: {status}", n)
        for (kind, status), n in sorted(statuses.items())
    )
    return Step("versions", "Versions of the records", sum(statuses.values()), outcomes)


def flow_of(
    rows: pa.Table, records: int, source: Step | None, preceding: tuple[Step, ...] = ()
) -> Flow:
    """The flow of one student's decisions over a run's records, behind the steps before."""
    undecided = records - len(rows)
    grouped = Groups.of(rows)
    steps = [
        *preceding,
        _rules(grouped, "instruction", "1. Which instruction?"),
        _rules(grouped, "response", "2. Which response?"),
        _filter(grouped),
        *_top(grouped),
        _result(grouped),
    ]
    columns = [
        _branches(grouped, undecided),
        _finals(grouped),
        _filter_and_budget(grouped),
        _result(grouped),
    ]
    links = list(_links(grouped, undecided))
    if source is not None:
        steps.insert(0, source)
        start = Step(
            "rows", "Input", source.total, (StepOutcome("rows", "input rows", source.total),)
        )
        columns[:0] = [start, Step("input", "Records", source.total, source.outcomes)]
        links += [Link(("rows", "rows"), ("input", o.code), o.count) for o in source.outcomes]
    else:
        whole = (StepOutcome("records", "records", records),)
        columns.insert(0, Step("input", "Records", records, whole))
    return Flow(tuple(steps), tuple(columns), tuple(links))


@dataclass(frozen=True, slots=True)
class Groups:
    """How many rows have the same version, rules and result."""

    counts: Mapping[tuple[str, str, str, str, bool], int]

    @classmethod
    def of(cls, rows: pa.Table) -> "Groups":
        """Count the combinations of candidate, the three rules and `selected`."""
        names = ["candidate", "instruction_rule", "response_rule", "filter_rule", "selected"]
        found = rows.group_by(names).aggregate([([], "count_all")]).to_pylist()
        return cls({tuple(row[name] for name in names): row["count_all"] for row in found})

    def by(self, place: int) -> dict[str, int]:
        """The counts by one part of the combination, largest first."""
        found: dict[str, int] = {}
        for combination, number in self.counts.items():
            code = str(combination[place])
            found[code] = found.get(code, 0) + number
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.counts.values())


def passed(code: str) -> bool:
    """Whether a row with this filter code is within the thresholds."""
    return code == "kept" or code in AFTER_FILTER


def _rules(groups: Groups, step: Literal["instruction", "response"], title: str) -> Step:
    found = groups.by(1 if step == "instruction" else 2)
    outcomes = [StepOutcome(code, rule_label(step, code), n) for code, n in found.items()]
    return Step(step, title, groups.total, tuple(outcomes))


def _branches(groups: Groups, undecided: int) -> Step:
    new = sum(n for combination, n in groups.counts.items() if combination[0] in REFLECTED)
    outcomes = [
        StepOutcome("original", "old instruction", groups.total - new, "original"),
        StepOutcome("instruction", "new instruction", new, "instruction"),
    ]
    if undecided:
        outcomes.append(StepOutcome("undecided", "not decided yet", undecided))
    return Step("branch", "Instruction", groups.total + undecided, _nonzero(outcomes))


def _finals(groups: Groups) -> Step:
    found = groups.by(0)
    outcomes = [StepOutcome(kind, label, found.get(kind, 0), kind) for kind, label in SHORT.items()]
    return Step("version", "Version", groups.total, _nonzero(outcomes))


def _filter(groups: Groups) -> Step:
    found = groups.by(3)
    through = sum(n for code, n in found.items() if passed(code))
    outcomes = [StepOutcome("passed", "passed", through, "kept")]
    outcomes += [
        StepOutcome(code, rule_label("filter", code).removeprefix("dropped: "), n, "dropped")
        for code, n in found.items()
        if not passed(code)
    ]
    return Step("filter", "3. Filter", groups.total, _nonzero(outcomes))


def _filter_and_budget(groups: Groups) -> Step:
    """Both in one column, for the figure."""
    outcomes = [
        StepOutcome(code, rule_label("filter", code).removeprefix("dropped: "), n, "dropped")
        for code, n in groups.by(3).items()
        if code != "kept"
    ]
    kept = StepOutcome("kept", "passed", groups.by(3).get("kept", 0), "kept")
    return Step("filter", "Filter", groups.total, _nonzero([kept, *outcomes]))


def _top(groups: Groups) -> Iterator[Step]:
    """What rejects rows that passed the filter, in the order in which it is asked."""
    found = groups.by(3)
    through = {code: n for code, n in found.items() if passed(code)}
    if set(through) & set(AFTER_FILTER):
        outcomes = [
            StepOutcome(code, rule_label("filter", code), through[code], kind)
            for code, kind in (*((code, "dropped") for code in AFTER_FILTER), ("kept", "kept"))
            if code in through
        ]
        yield Step("top", "4. Among those that passed", sum(through.values()), tuple(outcomes))


def _result(groups: Groups) -> Step:
    found = groups.by(4)
    kept, dropped = found.get("True", 0), found.get("False", 0)
    outcomes = [
        StepOutcome("selected", "selected", kept, "kept"),
        StepOutcome("rejected", "rejected", dropped, "dropped"),
    ]
    return Step("result", "Result", groups.total, tuple(outcomes))


def _nonzero(outcomes: Iterable[StepOutcome]) -> tuple[StepOutcome, ...]:
    return tuple(outcome for outcome in outcomes if outcome.count)


def _links(groups: Groups, undecided: int) -> Iterator[Link]:
    found: dict[tuple[tuple[str, str], tuple[str, str]], int] = {}
    for (kind, _, _, code, selected), number in groups.counts.items():
        path = [
            ("input", "records"),
            ("branch", "instruction" if kind in REFLECTED else "original"),
            ("version", kind),
            ("filter", code),
            ("result", "selected" if selected else "rejected"),
        ]
        for link in pairwise(path):
            found[link] = found.get(link, 0) + number
    if undecided:
        found[("input", "records"), ("branch", "undecided")] = undecided
    for (source, target), number in found.items():
        yield Link(source, target, number)
