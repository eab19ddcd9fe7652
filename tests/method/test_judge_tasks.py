"""judge_tasks: which of a judge's reviews are learnt from."""

from curate.pipeline.method.judge_tasks import RatedAnswer, judge_tasks
from curate.pipeline.pair_records import Prompt, Sample


def rated(id: str, *answers: tuple[float | None, float | None]) -> list[RatedAnswer]:
    """A prompt's answers of these ranks and ratings, each reviewed twice: lower, and as rated."""
    return [
        RatedAnswer(
            sample=Sample(
                id=id,
                prompt=Prompt(instruction=id),
                output=f"{n}",
                sample=n,
                rank=rank,
                rating=mark,
            ),
            request=f"rate {id} {n}",
            reviews=[] if mark is None else [(mark - 1, "lower"), (mark, f"Score: {mark}")],
        )
        for n, (rank, mark) in enumerate(answers)
    ]


def test_reviews_that_order_answers_as_people_do_are_kept() -> None:
    tasks, left = judge_tasks(
        [
            *rated("right", (1, 2), (0, 4), (2, 1)),
            *rated("wrong", (0, 2), (1, 3)),
            *rated("tied", (0, 2), (1, 2)),
            *rated("unrated", (0, 3), (1, None)),
            *rated("equal", (1, 3), (1, 2)),
            *rated("unranked", (None, 3), (None, 2)),
        ]
    )
    assert [(task.id, task.instruction, task.output) for task in tasks] == [
        ("right#0", "rate right 0", "Score: 2"),
        ("right#1", "rate right 1", "Score: 4"),
        ("right#2", "rate right 2", "Score: 1"),
    ]
    assert left == {"disagrees": 4, "unrated": 2, "unranked": 4}


def test_the_commonest_score_comes_no_oftener_than_the_next() -> None:
    answers = [answer for n in range(9) for answer in rated(f"q{n}", (0, 4), (1, n % 3))]
    tasks, left = judge_tasks(answers)
    scores = [task.score for task in tasks]
    assert (scores.count(4), scores.count(0), len(scores)) == (3, 3, 12)
    assert left == {"thinned": 6}
    again, _ = judge_tasks(answers[::-1])
    assert {task.id for task in again} == {task.id for task in tasks}
