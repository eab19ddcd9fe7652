"""Which answers become a pair: cases worked by hand, recorded ones, and properties."""

import json
import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.method.preferences.choosing import (
    best_and_worst,
    demonstrated,
    rejection_sampled,
    tiers,
)
from curate.pipeline.method.preferences.rejection_sampling import statistical_rejection
from curate.pipeline.method.preferences.rivals import Answer, Rivals
from curate.pipeline.pair_records import NoPair, Origin, PreferencePair, Unpaired

from ...conftest import shared

PROMPT = [{"role": "user", "content": "Why?"}]


def answer(
    text: str, reward: float | None, *, sample: int = 0, fault: NoPair | None = None
) -> Answer:
    origin = Origin(sample=sample, model="m")
    return Answer(text=text, origin=origin, reward=reward, score=reward, fault=fault)


def rivals(*answers: Answer, id: str = "r1") -> Rivals:
    return Rivals(id=id, prompt=PROMPT, answers=answers, source="ratings")


def rated(*rewards: float | None, id: str = "r1") -> Rivals:
    texts = enumerate(rewards)
    return rivals(*(answer(f"text {n}", r, sample=n) for n, r in texts), id=id)


def pair(found: PreferencePair | Unpaired) -> PreferencePair:
    assert isinstance(found, PreferencePair), found
    return found


def reason(found: PreferencePair | Unpaired) -> str:
    assert isinstance(found, Unpaired), found
    assert found.detail and found.id == "r1"
    return found.reason


# --- the best and the worst -----------------------------------------------------------------------


def test_the_best_is_chosen_over_the_worst() -> None:
    found = pair(best_and_worst(rated(3, 5, None, 1, 4)))
    assert (found.chosen, found.rejected) == ("text 1", "text 3")
    assert (found.margin, found.chosen_score, found.rejected_score) == (4, 5, 1)
    assert (found.chosen_from.sample, found.rejected_from.sample) == (1, 3)
    assert not found.near_tie


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "no_rival"),
        ([answer("a", 1)], "no_rival"),
        ([answer("a", 3), answer("b", 3)], "tie"),
        ([answer("a", 3), answer("a\n", 5)], "identical"),
        ([answer("a", None), answer("a", None)], "identical"),
        ([answer("a", 3), answer("b", None)], "unscored"),
        ([answer("a", 3), answer("b", math.nan)], "unscored"),
        ([answer("a", 3), answer("b", math.inf)], "unscored"),
        ([answer("a", 3), answer(" ", 5)], "empty"),
        ([answer("a", 3), answer("b", 5, fault="truncated")], "truncated"),
        ([answer("a", None), answer("", None, fault="unparsed")], "unparsed"),
    ],
)
def test_what_is_no_pair_has_a_reason(answers: list[Answer], why: str) -> None:
    assert reason(best_and_worst(rivals(*answers))) == why


def test_equal_texts_count_once_with_their_mean() -> None:
    found = pair(best_and_worst(rivals(answer("a", 5), answer("b", 4), answer("a ", 1))))
    assert (found.chosen, found.rejected, found.margin) == ("b", "a", 1)


@pytest.mark.shared
def test_recorded_choices_by_tier() -> None:
    cases = json.loads(shared("data/loops/pair_selection.json").read_text("utf-8"))
    assert len(cases) > 40
    for case in cases:
        columns = (case["scores"], case["lengths"], case["variances"], case["complete"])
        answers = [
            Answer(
                text="x" * length,
                origin=Origin(sample=n),
                reward=score,
                variance=variance or 0.0,
                fault=None if complete else "truncated",
            )
            for n, (score, length, variance, complete) in enumerate(zip(*columns, strict=True))
        ]
        usable = rivals(*answers).usable()
        rewards = [one.reward for one in usable if one.reward is not None]
        found = tiers(rewards, usable, rho=case["rho"]) if len(usable) > 1 else None
        places = found and dict(
            zip(
                ("chosen", "rejected"),
                (usable[place].origin.sample for place in found),
                strict=True,
            )
        )
        assert places == case["nemo_aligner"], case


@given(
    st.lists(st.floats(0, 5), min_size=2, max_size=8),
    st.sampled_from([0.0, 0.1, 0.32, 0.49]),
    st.randoms(use_true_random=False),
)
def test_tiers_never_meet(rewards: list[float], rho: float, random: Random) -> None:
    answers = [answer("x" * random.randint(1, 50), reward) for reward in rewards]
    found = tiers(rewards, answers, rho=rho)
    if found is None:
        assert len(set(rewards)) == 1
        return
    chosen, rejected = found
    middle = (max(rewards) + min(rewards)) / 2
    if max(rewards) - min(rewards) > 1e-6:
        assert rewards[chosen] > middle > rewards[rejected]


def test_a_margin_within_the_rounding_noise_is_a_near_tie() -> None:
    close = rivals(answer("a", 0.5), answer("b", 0.5 + 7.9e-3))
    assert pair(best_and_worst(close, noise=1e-3)).near_tie
    assert not pair(best_and_worst(close, noise=0.9e-3)).near_tie
    assert not pair(best_and_worst(close)).near_tie


# --- statistical rejection ------------------------------------------------------------------------


class Drawn(Random):
    """A generator that draws what it is given."""

    def __init__(self, numbers: Sequence[float]) -> None:
        super().__init__()
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def test_rejection_by_hand() -> None:
    """Rewards 1, 3, 2 and beta 1: the first sweep accepts with e**-2, 1 and e**-1 = 0.368."""
    rewards = [1.0, 3.0, 2.0]

    def accepted(keep: int, *numbers: float) -> list[int]:
        return statistical_rejection(rewards, keep=keep, beta=1.0, generator=Drawn(numbers))

    assert accepted(2, 0.5, 0.99, 0.36) == [1, 2]
    assert accepted(2, 0.13, 0.99) == [0, 1]  # e**-2 = 0.135: it ends within the sweep
    # Nothing but the best in the first sweep; the second is relative to 2.
    assert accepted(2, 0.5, 0.99, 0.4, 0.4, 0.99) == [1, 2]
    assert accepted(2, 0.5, 0.99, 0.4, 0.36) == [1, 0]


def test_fewer_candidates_than_wanted_are_all_accepted() -> None:
    found = statistical_rejection([2.0, 2.0], keep=8, beta=0.5, generator=Random(0))
    assert sorted(found) == [0, 1]


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20),
    st.integers(1, 25),
    st.sampled_from([1e-9, 0.5, 1e9]),
    st.integers(),
)
def test_rejection_accepts_as_many_as_it_can(
    rewards: list[float], keep: int, beta: float, seed: int
) -> None:
    found = statistical_rejection(rewards, keep=keep, beta=beta, generator=Random(seed))
    assert len(found) == len(set(found)) == min(keep, len(rewards))
    if beta == 1e-9:
        assert sorted(rewards[place] for place in found) == sorted(rewards)[-len(found) :]
    if beta == 1e9:
        assert found == list(range(len(found)))


def test_how_often_a_candidate_is_accepted_first() -> None:
    """One of two is kept: the first with p = exp(-1), else the second."""
    runs = 4000
    first = sum(
        statistical_rejection([0.0, 0.5], keep=1, beta=0.5, generator=Random(n)) == [0]
        for n in range(runs)
    )
    assert first / runs == pytest.approx(math.exp(-1), abs=0.03)


def test_rso_makes_half_as_many_pairs_as_it_keeps() -> None:
    found = rejection_sampled(rated(*range(12)), keep=8, beta=0.5, seed=0)
    assert len(found) == 4
    used = [one.sample for p in map(pair, found) for one in (p.chosen_from, p.rejected_from)]
    assert len(set(used)) == 8
    for one in map(pair, found):
        assert one.margin is not None and one.margin > 0


def test_rso_depends_on_the_id_and_the_seed_alone() -> None:
    def chosen(id: str, seed: int) -> list[str]:
        found = rejection_sampled(rated(*range(12), id=id), keep=4, beta=2.0, seed=seed)
        return [pair(one).chosen for one in found]

    assert chosen("a", 0) == chosen("a", 0)
    assert len({str(chosen(id, 0)) for id in "abcdef"}) > 1
    assert len({str(chosen("a", seed)) for seed in range(6)}) > 1


def test_rso_counts_ties_and_equal_texts() -> None:
    same = rivals(answer("a", 1), answer("a", 2))
    (found,) = rejection_sampled(same, keep=2, beta=0.5, seed=0)
    assert reason(found) == "identical"
    (found,) = rejection_sampled(rated(2, 2), keep=2, beta=0.5, seed=0)
    assert reason(found) == "tie"
    (found,) = rejection_sampled(rated(2, None), keep=2, beta=0.5, seed=0)
    assert reason(found) == "unscored"


# --- demonstrations -------------------------------------------------------------------------------


def test_a_demonstration_is_chosen_over_the_models_answer() -> None:
    found = pair(demonstrated(rivals(answer("good", None), answer("own", None))))
    assert (found.chosen, found.rejected) == ("good", "own")
    assert found.margin is found.chosen_score is None
    same = rivals(answer("good", None), answer(" good", None))
    assert reason(demonstrated(same)) == "identical"
    cut = rivals(answer("good", None), answer("goo", None, fault="truncated"))
    assert reason(demonstrated(cut)) == "truncated"
