"""Review texts -> scores: what is read, and what is never guessed."""

import pytest

from curate.pipeline.method.replies.verdicts import (
    ASKED,
    RECORDED,
    pair_verdict,
    single_verdict,
)


@pytest.mark.parametrize(
    ("review", "scores"),
    [
        ("8 7\nBoth are good.", (8, 7)),
        ("8 7", (8, 7)),
        ("\n\n 9 8.5 \nWhy", (9, 8.5)),
        ("8, 7\nWhy", (8, 7)),
        ("8,7\nWhy", (8, 7)),
        ("8 and 7.\nWhy", (8, 7)),
        ("**10** **1**\nWhy", (10, 1)),
        ("[8] [7]\nWhy", (8, 7)),
        ("Scores: 8 7\nWhy", (8, 7)),
        ("8/10 7/10\nWhy", (8, 7)),
        ("Assistant 1: 8, Assistant 2: 7\nWhy", (8, 7)),
        ("Assistant A's score: 8; Assistant B's score: 7\nWhy", (8, 7)),
        ("<think>maybe 3 3\n4 4</think>\n6 5\nWhy", (6, 5)),
        ("8 7\r\nWhy", (8, 7)),
    ],
)
def test_two_scores_are_read(review: str, scores: tuple[float, float]) -> None:
    verdict = pair_verdict(review)
    assert (verdict.scores, verdict.status, verdict.reason) == (scores, "ok", None)


@pytest.mark.parametrize(
    ("review", "status", "reason"),
    [
        ("", "unparsed", "empty review"),
        ("<think>8 7</think>", "unparsed", "empty review"),
        ("Assistant 1 is better.\n8 7", "unparsed", "no two scores on the first line"),
        ("8\n7", "unparsed", "no two scores on the first line"),
        ("8 7 6", "unparsed", "no two scores on the first line"),
        ("8 7 answers were given", "unparsed", "no two scores on the first line"),
        ("8-7", "unparsed", "no two scores on the first line"),
        ("8/7", "unparsed", "no two scores on the first line"),
        ("Assistant 2: 8, Assistant 1: 7", "unparsed", "no two scores on the first line"),
        ("Assistant 1: 8, 7", "unparsed", "no two scores on the first line"),
        ("nan 7", "unparsed", "no two scores on the first line"),
        ("11 3", "unparsed", "a score outside the scale 1 to 10"),
        ("0 0\nNeither answered.", "unparsed", "a score outside the scale 1 to 10"),
        ("7 -1", "unparsed", "a score outside the scale 1 to 10"),
        ("85 70", "unparsed", "a score outside the scale 1 to 10"),
        ("I'm sorry, but I can't assist with that.", "refused", "a refusal"),
    ],
)
def test_what_cannot_be_told_is_named(review: str, status: str, reason: str) -> None:
    verdict = pair_verdict(review)
    assert (verdict.scores, verdict.status, verdict.reason) == ((), status, reason)


def test_a_cut_first_line_is_no_verdict_and_a_cut_explanation_is() -> None:
    assert pair_verdict("8 1", finish_reason="length").status == "truncated"
    assert pair_verdict("8 10\nBoth", finish_reason="length").scores == (8, 10)
    assert single_verdict("It is", finish_reason="length").status == "truncated"


def test_published_reviews_hold_zeros() -> None:
    assert pair_verdict("0 0\n", scale=RECORDED).scores == (0, 0)
    assert pair_verdict("0 11\n", scale=RECORDED).status == "unparsed"
    assert ASKED == (1, 10)


@pytest.mark.parametrize(
    ("review", "scores"),
    [
        ("Fine. Rating: [[7]]", (7,)),
        ("Rating: [[7.5]].", (7.5,)),
        ("[[7]] ... so the rating is [[7.0]]", (7,)),
        ("Rating: [7]", (7,)),
    ],
)
def test_a_rating_is_read(review: str, scores: tuple[float]) -> None:
    assert single_verdict(review).scores == scores


@pytest.mark.parametrize(
    ("review", "reason"),
    [
        ("As [1] says, it is fine.", "no [[rating]]"),
        ("[[7]] or [[8]]", "several ratings that differ"),
        ("[[0]]", "a score outside the scale 1 to 10"),
        ("", "empty review"),
    ],
)
def test_a_rating_is_not_guessed(review: str, reason: str) -> None:
    verdict = single_verdict(review)
    assert (verdict.scores, verdict.status, verdict.reason) == ((), "unparsed", reason)
