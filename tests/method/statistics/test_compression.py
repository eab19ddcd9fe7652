import math

import pytest

from curate.pipeline.method.statistics.compression import (
    Document,
    bits_per_character,
    compression,
    difference,
)
from curate.pipeline.method.statistics.intervals import ratio_interval, share_interval

BIT = math.log(2)


def test_the_ratio_is_one_of_sums_not_a_mean_of_ratios() -> None:
    documents = [Document(1, 1, 1, 8 * BIT), Document(99, 198, 20, 92 * BIT)]
    found = compression(documents)
    assert found.bits_per_character == pytest.approx(1.0)
    assert found.bits_per_byte == pytest.approx(100 / 199)
    assert (found.documents, found.characters, found.bytes, found.tokens) == (2, 100, 199, 21)


def test_what_has_no_nats_counts_for_nothing() -> None:
    documents = [Document(10, 10, 5, 10 * BIT), Document(0, 0, 0, None), Document(9, 9, 9, None)]
    found = compression(documents)
    assert (found.documents, found.characters) == (1, 10)
    assert found.bits_per_character == pytest.approx(1.0)
    assert found.bits_per_character_interval is None


def test_stored_scores_give_bits_a_character() -> None:
    nlls, tokens = [BIT, 3 * BIT], [4, 2]
    assert bits_per_character(nlls, tokens, 20) == pytest.approx(0.5)


def test_a_difference_is_paired() -> None:
    base = [Document(10 * n, 10 * n, n, 10 * n * n * BIT) for n in range(1, 30)]
    student = [Document(d.characters, d.bytes, 7, (d.nats or 0) + d.characters * BIT) for d in base]
    found = difference(student, base)
    assert found.bits_per_character == pytest.approx(1.0)
    assert found.interval == pytest.approx((1.0, 1.0))


def test_the_interval_holds_the_ratio_and_shrinks_with_documents() -> None:
    few = ratio_interval([1.0, 2.0, 3.0, 4.0] * 3, [1.0, 1.0, 2.0, 2.0] * 3)
    many = ratio_interval([1.0, 2.0, 3.0, 4.0] * 300, [1.0, 1.0, 2.0, 2.0] * 300)
    assert few is not None and many is not None
    assert few[0] < many[0] < 10 / 6 < many[1] < few[1]
    assert ratio_interval([1.0], [1.0]) is None


def test_a_share_of_all_is_not_certain() -> None:
    low, high = share_interval(1.0, 20)
    assert low == pytest.approx(0.8389, abs=1e-3) and high == 1.0
