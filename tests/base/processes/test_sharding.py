"""Shares: each shard is one task's, and Slurm's array says whose."""

import pytest

from curate.pipeline.base.processes.sharding import WHOLE, Share, share_of
from curate.pipeline.errors import UsageError


def slurm(**values: int) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_every_shard_is_one_task_s(of: int) -> None:
    for shard in range(20):
        assert [i for i in range(of) if Share(i, of).takes(shard)] == [shard % of]


def test_the_option_comes_first_then_slurm_then_all() -> None:
    array = slurm(ID=5, COUNT=4, MIN=2, MAX=5, STEP=1)
    assert share_of(None, array) == Share(3, 4)
    assert share_of("0/2", array) == Share(0, 2)
    assert share_of("0/1", array) == share_of("all", array) == WHOLE and WHOLE.whole
    assert share_of(None, {"SLURM_JOB_ID": "7"}) == WHOLE
    assert share_of(None, slurm(ID=3, COUNT=1, MIN=3, MAX=3)) == WHOLE


@pytest.mark.parametrize(("first", "of", "step"), [(0, 4, 1), (1, 8, 1), (0, 4, 4), (10, 3, 5)])
def test_the_tasks_of_an_array_have_a_share_each(first: int, of: int, step: int) -> None:
    last = first + (of - 1) * step
    arrays = [
        slurm(ID=id, COUNT=of, MIN=first, MAX=last, STEP=step)
        for id in range(first, last + 1, step)
    ]
    assert [share_of(None, array) for array in arrays] == [Share(i, of) for i in range(of)]


@pytest.mark.parametrize(
    "text", ["", "1", "1/1", "2/2", "-1/2", "0/0", "a/b", "1 / 2", "1/2/3", "²/3", "0/9999999999"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard takes i/n with i from 0 to n-1"):
        share_of(text, {})


@pytest.mark.parametrize("id", [0, 2, 5])
def test_an_array_with_gaps_is_refused_by_every_task(id: int) -> None:
    with pytest.raises(UsageError, match=f"has gaps, so task {id} .* --shard all"):
        share_of(None, slurm(ID=id, COUNT=3, MIN=0, MAX=5, STEP=1))


def test_an_array_that_does_not_tell_its_size_is_refused() -> None:
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_COUNT is ''"):
        share_of(None, slurm(ID=0))
