"""The flow: outcomes add up at each step, and links at each outcome."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.reporting.figures.record_flow_figure import describe, ribbons, stacked
from curate.pipeline.reporting.numbers.record_flow import flow_of, input_step

ROW = st.fixed_dictionaries(
    {
        "candidate": st.sampled_from(["original", "instruction", "response", "both"]),
        "instruction_rule": st.sampled_from(["ifd_rose", "ifd_fell", "neither_scored"]),
        "response_rule": st.sampled_from(["rifd_rose", "rifd_fell"]),
        "filter_rule": st.sampled_from(["ifd_unscored", "rifd_not_below_max", "new_rule"]),
        "selected": st.just(False),
    }
)
KEPT = ROW.map(lambda row: {**row, "filter_rule": "kept", "selected": True})
FURTHER = ("contaminated", "below_top", "not_diverse")
PASSED = st.tuples(ROW, st.sampled_from(FURTHER)).map(lambda two: {**two[0], "filter_rule": two[1]})
SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("candidate", "instruction_rule", "response_rule", "filter_rule")
    ]
    + [("selected", pa.bool_())]
)


@settings(deadline=None)
@given(st.lists(st.one_of(ROW, KEPT, PASSED), max_size=30), st.integers(0, 3), st.booleans())
def test_it_adds_up(rows: list[dict[str, object]], undecided: int, known: bool) -> None:
    records = len(rows) + undecided
    counts = {"rows": records + 3, "records": records, "duplicates": 1, "rejected": 2}
    source = input_step(counts, records) if known else None
    flow = flow_of(pa.Table.from_pylist(rows, schema=SCHEMA), records, source)
    for step in (*flow.steps, *flow.columns):
        assert sum(outcome.count for outcome in step.outcomes) == step.total
    arriving, leaving = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for link in flow.links:
        leaving[link.source] += link.count
        arriving[link.target] += link.count
    for place, step in enumerate(flow.columns):
        for outcome in step.outcomes:
            box = (step.key, outcome.code)
            assert place == 0 or arriving[box] == outcome.count
            lost = step.key == "input" and outcome.kind == "dropped"
            ends = lost or outcome.code == "undecided" or step is flow.columns[-1]
            assert leaving[box] == (0 if ends else outcome.count)
    codes = {o.code: o.count for step in flow.steps for o in step.outcomes}
    assert codes.get("selected", 0) == sum(bool(row["selected"]) for row in rows)
    later = Counter(row["filter_rule"] for row in rows if row["filter_rule"] in FURTHER)
    at_filter, *after = (step for step in flow.steps if step.key in ("filter", "top"))
    passed = {o.code: o.count for o in at_filter.outcomes}.get("passed", 0)
    assert passed == codes.get("selected", 0) + later.total()
    assert [step.total for step in after] == [passed][: len(later)]
    told = [(o.code, o.count) for step in after for o in step.outcomes if o.code != "kept"]
    assert told == [(code, later[code]) for code in FURTHER if code in later]


def test_the_input_when_something_else_was_counted() -> None:
    counts = {"rows": 9, "records": 4, "duplicates": 1, "near_duplicates": 2, "rejected": 0}
    step = input_step(counts, 4)
    assert step is not None
    shown = {outcome.label: outcome.count for outcome in step.outcomes}
    assert shown == {
        "records": 4,
        "exact duplicates": 1,
        "near duplicates": 2,
        "left out otherwise": 2,
    }
    assert (
        input_step(counts, 5) is None
        and input_step(None, 5) is None
        and input_step({"rows": 1}, 1) is None
    )


@pytest.mark.parametrize("number", [0, 1, 52_000])
def test_it_is_drawn_whatever_the_numbers(number: int) -> None:
    row = {"candidate": "both", "instruction_rule": "ifd_rose", "response_rule": "rifd_fell",
           "filter_rule": "kept", "selected": True}  # fmt: skip
    flow = flow_of(pa.Table.from_pylist([row] * number, schema=SCHEMA), number, None)
    for panel in (ribbons("a", flow), stacked("b", flow)):
        assert panel.svg.startswith("<svg viewBox=") and "nan" not in panel.svg
    assert f"{number} both new" in describe(flow) or not number
