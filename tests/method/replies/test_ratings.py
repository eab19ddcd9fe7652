"""One answer's score from a judge's reply: recorded cases and hostile ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.method.replies.ratings import rating_of, rating_verdict
from curate.pipeline.method.replies.verdicts import Verdict

from ...conftest import shared


@pytest.mark.shared
def test_recorded_replies() -> None:
    cases = json.loads(shared("data/loops/judge_scores.json").read_text("utf-8"))
    for case in cases:
        scores = rating_verdict(case["reply"]).scores
        assert (scores[0] if scores else None) == case["proposed"], case["id"]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("**Score:** 4", 4), ("### Score: **2.5**", 2.5), ("So it is fine. Score: 0.", 0),
        ("Score: 1\nOn reflection:\nScore: 5", 5), ("<think>Score: 1</think>Score: 2", 2),
        ("Total score: 3 points", 3), ("Score: 5 / 5", 5), ("Score: 3 out of 5", 3),
    ],
)  # fmt: skip
def test_forms_of_a_score(reply: str, score: float) -> None:
    assert rating_verdict(reply).scores == (score,)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("Score: 7/10", "unparsed"), ("Score: -1", "unparsed"), ("Score: 5.1", "unparsed"),
        ("Score: 3-4", "unparsed"), ("Score: three", "unparsed"), ("Score: 3\nScore:", "unparsed"),
        ("", "unparsed"), ("Score: ٣", "unparsed"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("Score: 4\nHuman: and this one?\nScore: 4", "unparsed"),
    ],
)  # fmt: skip
def test_what_is_no_score(reply: str, status: str) -> None:
    found = rating_verdict(reply)
    assert (found.scores, found.status) == ((), status) and found.reason


def test_a_cut_reply_has_a_score_only_where_something_follows_it() -> None:
    assert rating_verdict("Score: 4", finish_reason="length").status == "truncated"
    assert rating_verdict("It is", finish_reason="length").status == "truncated"
    assert rating_verdict("Score: 4\nBecause", finish_reason="length").scores == (4,)


@given(st.text(max_size=200))
def test_any_reply_has_a_score_on_the_scale_or_a_reason(reply: str) -> None:
    found = rating_verdict(reply + "\nScore: " + reply)
    assert found.reason if not found.scores else 0 <= found.scores[0] <= 5


def test_the_mean_of_the_valid_ones_where_half_of_them_are() -> None:
    bad, good = Verdict(status="unparsed", reason="why"), Verdict(scores=(4,))
    assert rating_of([good, bad, good]).mean == 4
    alone = rating_of([bad, good, bad])
    assert (alone.mean, alone.scores, alone.reason) == (None, (4,), "unparsed: why")
    found = rating_of([Verdict(scores=(5,)), bad, Verdict(scores=(2,)), bad])
    assert (found.mean, found.scores, found.reason) == (3.5, (5, 2), "unparsed: why")
    assert rating_of([bad]).mean is None
