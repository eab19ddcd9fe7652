"""Recipes, DITTO's mix, measures, and when a loop stops."""

import json
from collections import Counter
from typing import Any

import pytest

from curate.pipeline.config import ImproveConfig, configured
from curate.pipeline.errors import UsageError
from curate.pipeline.method.loops.comparisons import SHARES, Kind, batch_counts, batches
from curate.pipeline.method.loops.measures import (
    Measures,
    Wins,
    correlation,
    of_answers,
    of_samples,
    taken_up,
)
from curate.pipeline.method.loops.recipes import RECIPES, recipe_of
from curate.pipeline.method.loops.stopping import best_of, stop_after, stop_before_training
from curate.pipeline.pair_records import Prompt, Sample

from ...conftest import shared

GIVEN = {"data": "d", "recipe": "self-rewarding", "model": "m", "out": "o"}


def config(**options: Any) -> ImproveConfig:
    return configured(ImproveConfig, {**GIVEN, **options})


def test_options_take_the_place_of_a_recipes_settings() -> None:
    assert recipe_of(config(recipe="spin")) == RECIPES["spin"]
    recipe = recipe_of(config(samples=7, learning_rate="1e-4,1e-5", reference="first", no_sft=True))
    assert (recipe.samples, recipe.reference, recipe.sft) == (7, "first", False)
    assert [recipe.rate(n) for n in (1, 2, 3)] == [1e-4, 1e-5, 1e-5]
    assert [RECIPES["spin"].rate(n) for n in (1, 2, 3, 4)] == [5e-7, 5e-7, 1e-7, 1e-7]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "http://localhost:8000/v1"}, "must be a folder"),
        ({"tier": 0.5}, "--tier"),
        ({"reward": "command"}, "--reward-command"),
        ({"reward_command": "./check"}, "--reward command"),
        ({"reward": "command", "reward_command": "'"}, "no command"),
        ({"reward": "judge"}, "--judge"),
        ({"judge": "J"}, "--judge is for"),
        ({"judge_temperature": 0}, "--times"),
        ({"base_url": "http://localhost:1"}, "--judge is for"),
        ({"reward": "rifd", "judge": "J", "base_url": "http://localhost:1"}, "not with a server"),
        ({"reward": "rifd", "exam": "e"}, "--exam"),
        ({"eft": "e", "no_sft": True}, "--eft"),
        ({"recipe": "ditto", "exam": "e"}, "--exam is for"),
        ({"recipe": "spin", "reward": "self"}, "--reward is for"),
        ({"recipe": "ditto", "tier": 0.1}, "--tier is for"),
    ],
    ids=str,
)
def test_wrong_usage(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        config(**options)


# --- DITTO's mix ----------------------------------------------------------------------------------


def test_a_batch_holds_what_the_released_code_draws() -> None:
    for case in json.loads(shared("data/loops/ditto_mix.json").read_text("utf-8")):
        size = 3 * case["demonstrations_in_batch"]
        assert batch_counts(size, case["pool"]) == case["drawn"], case


def test_every_batch_has_each_share_within_one_and_no_comparison_twice() -> None:
    pools: dict[Kind, range] = {
        "online": range(70),
        "replay": range(100, 240),
        "intermodel": range(300, 900),
    }
    drawn = list(batches(pools, size=21, number=10, seed="0"))
    for batch in drawn:
        kinds = Counter(kind for kind, _ in batch)
        assert all(abs(kinds[kind] - share * len(batch)) <= 1 for kind, share in SHARES.items())
        assert len({item for _, item in batch}) == len(batch) == 21
        assert all(item in pools[kind] for kind, item in batch)
    assert drawn == list(batches(pools, size=21, number=10, seed="0"))
    assert drawn != list(batches(pools, size=21, number=10, seed="1"))


# --- measures and rules ---------------------------------------------------------------------------


def sample(output: str, rating: float | None = None, ended: str = "stop") -> Sample:
    prompt = Prompt(instruction="Name the largest planet.")
    return Sample(id="1", prompt=prompt, output=output, rating=rating, finish_reason=ended)


def test_measures_by_hand() -> None:
    assert taken_up("Is it?", "Yes") is None
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert correlation([1, 1], [2, 4]) is correlation([], []) is None
    rewards = of_samples(
        [sample("a", 1.0), sample("abc", 3.0), sample("x"), sample("y", ended="length")]
    )
    assert rewards == {"reward": 2.0, "reward_length": pytest.approx(1), "samples_cut": 0.25}
    answers = of_answers([sample("The planet Jupiter"), sample("the the", ended="length")])
    assert answers["length"] == 12.5 and answers["cut"] == 0.5
    assert answers["distinct"] == 3 / 5 and answers["taken_up"] == pytest.approx(1 / 6)


def measures(iteration: int, loss: float | None = None, **more: Any) -> Measures:
    return Measures(iteration=iteration, held_out_loss=loss, **more)


def wins(score: float, high: float) -> Wins:
    return Wins(wins=0, ties=0, losses=1, score=score, interval=(0, high), unparsed=0)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"ties": 0.81}, "ties"),
        ({"identical": 0.91}, "one text"),
        ({"trained_on": 31}, "31 pairs"),
        ({"ties": 0.8, "identical": 0.9}, None),
    ],
    ids=str,
)
def test_pairs_that_are_not_worth_a_training(found: dict[str, Any], says: str | None) -> None:
    why = stop_before_training(measures(2, **{"trained_on": 32, **found}), min_pairs=32)
    assert (why is None) if says is None else says in (why or "")


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"loss": 4.21}, "held-out loss"),
        ({"loss": 4.19}, None),
        ({"length": 151.0}, "characters"),
        ({"length": 150.0}, None),
        ({"wins_previous": wins(0.8, 0.95)}, "loses"),
        ({"wins_previous": wins(0.8, 1.05)}, None),
        ({}, None),
    ],
    ids=str,
)
def test_an_iteration_that_is_worse(now: dict[str, Any], says: str | None) -> None:
    why = stop_after([measures(0, 4.5, length=100.0), measures(1, 4.0), measures(2, **now)])
    assert (why is None) if says is None else says in (why or "")


def test_the_best_iteration() -> None:
    assert best_of([measures(0, 4.0), measures(1, 3.9), measures(2, 3.9)]) == 1
    assert best_of([measures(0), measures(1)]) == 1
    judged = [measures(n, 4.0 - n, wins_first=wins(score, 2)) for n, score in ((1, 0.9), (2, 1.2))]
    assert best_of([measures(0, 4.0), *judged]) == 2
    assert best_of([measures(0, 4.0), judged[0]]) == 0
