"""judge_exam: by hand, and against scipy's correlations."""

import numpy as np
import pytest

from curate.pipeline.method.statistics.judge_exam import in_order, judge_exam
from curate.pipeline.pair_records import Prompt, Sample


def answers(id: str, ranks: list[float | None], ratings: list[float | None]) -> list[Sample]:
    """A prompt's answers."""
    return [
        Sample(id=id, prompt=Prompt(instruction=id), output=f"{n}", rank=rank, rating=rating)
        for n, (rank, rating) in enumerate(zip(ranks, ratings, strict=True))
    ]


def test_three_prompts_by_hand() -> None:
    right = answers("right", [0, 1, 2], [5, 4, 1])
    tied = answers("tied", [2, 1, 0], [3, 3, 5])
    wrong = answers("wrong", [0, 1], [2, 5])
    exam = judge_exam([*right, *tied, *wrong])
    assert exam is not None
    assert (exam.prompts, exam.unrated, exam.pairs, exam.tied) == (3, 0, 7, 1)
    assert exam.pairwise_accuracy == pytest.approx(5 / 7)
    assert exam.exact == pytest.approx(1 / 3)
    assert exam.five_best == pytest.approx(2 / 3)
    assert exam.spearman == pytest.approx((1 + 0.75**0.5 - 1) / 3)
    assert exam.kendall == pytest.approx((1 + (2 / 3) ** 0.5 - 1) / 3)
    assert [in_order(group) for group in (right, tied, wrong)] == [True, False, False]


def test_correlations_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for number in range(50):
        ranks, ratings = random.integers(0, 4, 6).tolist(), random.integers(0, 6, 6).tolist()
        exam = judge_exam(answers(f"{number}", ranks, ratings))
        assert exam is not None
        if exam.prompts and len(set(ratings)) > 1:
            better = [-rank for rank in ranks]
            assert exam.spearman == pytest.approx(stats.spearmanr(better, ratings)[0])
            assert exam.kendall == pytest.approx(stats.kendalltau(better, ratings)[0])


def test_a_judge_that_always_says_the_same_knows_no_order() -> None:
    exam = judge_exam(answers("a", [0, 1, 2], [4, 4, 4]))
    assert exam is not None
    assert (exam.pairs, exam.tied, exam.pairwise_accuracy, exam.exact) == (3, 3, 0, 0)
    assert (exam.spearman, exam.kendall, exam.five_best) == (0, 0, None)


def test_answers_without_rank_or_rating_or_difference_are_no_part_of_it() -> None:
    assert judge_exam(answers("a", [None, None], [1, 2])) is None
    exam = judge_exam(
        [
            *answers("equal", [1, 1], [2, 3]),
            *answers("unrated", [0, 1, 2], [4, None, 3]),
            *answers("alone", [0, 1], [None, 3]),
        ]
    )
    assert exam is not None
    assert (exam.prompts, exam.unrated, exam.pairs) == (1, 2, 1)
    assert exam.pairwise_accuracy == exam.spearman == 1
    nothing = judge_exam(answers("equal", [1, 1], [2, 3]))
    assert nothing is not None and nothing.prompts == 0
    assert nothing.pairwise_accuracy is None and nothing.kendall is None
