"""Length alone: its AUC against the plain definition, and how it is evened out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.method.preferences.lengths import balanced, length_auc, length_ratio

Lengths = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30)


@given(Lengths)
def test_auc_is_the_share_of_ordered_couples(lengths: list[tuple[int, int]]) -> None:
    chosen, rejected = np.array(lengths).T
    wins = [(c > r) + (c == r) / 2 for c in chosen for r in rejected]
    assert length_auc(chosen, rejected) == pytest.approx(sum(wins) / len(wins))
    assert length_auc(rejected, chosen) == pytest.approx(1 - sum(wins) / len(wins))


def test_auc_by_hand() -> None:
    assert length_auc(np.array([], np.int64), np.array([], np.int64)) is None
    assert length_auc(np.array([9, 8]), np.array([1, 2])) == 1
    assert length_auc(np.array([5, 5]), np.array([5, 5])) == 0.5


@given(Lengths, st.randoms(use_true_random=False))
def test_balance_evens_out_and_knows_no_order(
    lengths: list[tuple[int, int]], random: object
) -> None:
    differences = np.array([c - r for c, r in lengths])
    generator = np.random.default_rng(len(lengths))
    margins = generator.integers(0, 4, len(lengths)).astype(float)
    keys = generator.permutation(len(lengths)).astype(np.uint64)
    stay = balanced(differences, margins, keys)
    signs = np.sign(differences[stay])
    assert (signs > 0).sum() == (signs < 0).sum()
    assert stay[differences == 0].all()
    for sign in (-1, 1):  # of one kind the weakest went
        kind = np.sign(differences) == sign
        if kind.any() and (kind & ~stay).any() and (kind & stay).any():
            assert margins[kind & ~stay].max() <= margins[kind & stay].min()
    order = generator.permutation(len(lengths))
    assert (balanced(differences[order], margins[order], keys[order]) == stay[order]).all()


def test_ratio() -> None:
    assert length_ratio("abc", "") == float("inf")
    assert length_ratio("abcd", "ab") == length_ratio("ab", "abcd") == 2
