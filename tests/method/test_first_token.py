"""The share of the first target token, and when it is out of proportion."""

import pytest

from curate.pipeline.method.first_token import FirstTokens
from curate.pipeline.records import Score


def with_first(nats: float) -> FirstTokens:
    """One response of five tokens: the first costs `nats`, the others 2 each."""
    found = FirstTokens()
    found.add(
        Score(
            id="1",
            candidate="original",
            nll_response=2.0,
            nll_response_given_instruction=(nats + 8) / 5,
            nll_first_response_token=nats,
            num_response_tokens=5,
            ifd=1.0,
            ifd_status="ok",
        )
    )
    return found


def test_the_share_of_all_nats() -> None:
    found = with_first(12).summary()
    assert found == pytest.approx({"share": 0.6, "nats": 12, "further_nats": 2})


def test_a_warning_where_it_is_out_of_proportion() -> None:
    (fits,) = with_first(5).in_words("vicuna")
    assert "vicuna template fits" in fits
    said, warning = with_first(12).in_words("vicuna")
    assert "12.0 nats" in said
    assert "vicuna" in warning


def test_nothing_to_say_without_scores() -> None:
    empty = FirstTokens()
    empty.add(Score(id="1", candidate="original", ifd_status="empty"))
    assert empty.summary() is None
    assert empty.in_words("chat") == []
