"""Pass rates of problems -> accuracy by task, its interval, and what guessing gives. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..statistics.intervals import share_interval


@dataclass(frozen=True, slots=True)
class Solving:
    """One problem: its task, how many of its samples came and were right, and a guess's chance."""

    task: str | None
    samples: int
    right: int
    chance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccuracy:
    """The mean pass rate of a task's problems, with its 95 % interval (Wilson's, over problems).

    `chance` is the mean of what a guess gets right, `lucky` the part of problems of which one of as
    many guesses would be right, where the options of all are known.
    """

    task: str | None
    problems: int
    samples: int
    accuracy: float
    interval: tuple[float, float]
    chance: float | None
    lucky: float | None


def accuracy(task: str | None, problems: Iterable[Solving]) -> TaskAccuracy | None:
    """Of the problems with samples; None where there are none.

    >>> found = accuracy("t", [Solving("t", 2, 1, 0.5), Solving("t", 2, 2, 0.5)])
    >>> found.accuracy, found.chance, found.lucky
    (0.75, 0.5, 0.75)
    """
    came = [problem for problem in problems if problem.samples]
    if not came:
        return None
    mean = sum(problem.right / problem.samples for problem in came) / len(came)
    chances = [(p.chance, p.samples) for p in came if p.chance is not None]
    known = len(chances) == len(came)
    return TaskAccuracy(
        task=task,
        problems=len(came),
        samples=sum(problem.samples for problem in came),
        accuracy=mean,
        interval=share_interval(mean, len(came)),
        chance=sum(chance for chance, _ in chances) / len(came) if known else None,
        lucky=sum(1 - (1 - c) ** k for c, k in chances) / len(came) if known else None,
    )


def by_task(problems: Iterable[Solving]) -> list[TaskAccuracy]:
    """All problems together, then each task where there are several, by name."""
    every = list(problems)
    tasks = sorted({problem.task for problem in every if problem.task is not None})
    found = [accuracy(None, every)]
    if len(tasks) > 1:
        found += [accuracy(task, (p for p in every if p.task == task)) for task in tasks]
    return [one for one in found if one is not None]
