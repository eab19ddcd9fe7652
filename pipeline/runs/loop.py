"""A loop's run directory: an iteration is a run of its own in `iterations/NN`, 00 the first model.

Iteration NN holds what it was made of (`prompts.parquet`, `answers/`, `ratings/`, `pairs/`,
`training.parquet`), `model/` and `measured.json`; its manifest has an entry for each finished step.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import intact_parquet
from ..base.foreign_json import read_object
from ..errors import CurateError
from ..method.loops.measures import Measures, Wins
from ..method.preferences.explanation import explained as explained_pairs
from ..method.statistics.judge_exam import JudgeExam
from .directory import RunDir, is_run
from .published.pair_set import PairSet, is_pair_set

ITERATIONS, MODEL, MEASURED = "iterations", "model", "measured.json"
ANSWERS, RATINGS = "answers/answers.parquet", "ratings/ratings.parquet"
PAIRS, TRAINING = "pairs", "training.parquet"
STAGE = "improve"
FIRST_STEPS = ("train", "measure")
RATED_STEPS = ("prompts", "sample", "rate", "pair", "mix", "train", "measure")
STEPS = tuple(step for step in RATED_STEPS if step != "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """Where a loop is: its iteration and step, and what is left of what was asked for.

    `step` and `iteration` are those that come next; None where the loop has ended.
    """

    iteration: int | None
    step: str | None
    left: tuple[str, ...]
    iterations: int
    """How many were asked for."""
    measured: int
    """How many are finished, iteration 0 not counted."""
    best: int | None
    stopped: str | None
    """Why it ended early."""


def is_loop(path: str | Path) -> bool:
    """Whether a folder is a run by `curate improve`."""
    return is_run(path) and RunDir(Path(path)).config["identity"].get("command") == STAGE


def iteration_of(run: RunDir, number: int) -> RunDir:
    """The run directory of an iteration, there or not."""
    return RunDir(run.path / ITERATIONS / f"{number:02d}")


def begun(run: RunDir) -> list[tuple[int, RunDir]]:
    """The iterations that are there, by number."""
    folders = (run.path / ITERATIONS).glob("[0-9][0-9]")
    return [(int(path.name), RunDir(path)) for path in sorted(folders) if is_run(path)]


def measures_of(iteration: RunDir) -> Measures:
    """What was measured after an iteration; CurateError where the file is damaged."""
    path = iteration.path / MEASURED
    found = read_object(path) or {}
    try:
        wins = {name: _wins(found[name]) for name in ("wins_first", "wins_previous")}
        exam = found["exam"] and JudgeExam(**found["exam"])
        return Measures(**{**found, **wins, "exam": exam})
    except (KeyError, TypeError):
        raise CurateError(f"{path} is damaged: remove the folder {iteration.path}") from None


def _wins(found: dict[str, Any] | None) -> Wins | None:
    if found is None:
        return None
    interval = found["interval"]
    return Wins(**{**found, "interval": interval and tuple(interval)})


def history(run: RunDir) -> list[Measures]:
    """The measures of all finished iterations, 0 first."""
    return [measures_of(one) for _, one in begun(run) if one.stage("measure") is not None]


def loop_state(run: RunDir) -> LoopState:
    """Where a loop is; reads only."""
    entry = run.stage(STAGE) or {}
    wanted, stopped = entry.get("iterations", 0), entry.get("stopped")
    steps = RATED_STEPS if run.config["identity"].get("reward") else STEPS
    left: list[tuple[int, str]] = []
    for number in range(wanted + 1):
        one = iteration_of(run, number)
        done = one.manifest.get("stages", {}) if is_run(one.path) else {}
        left += [(number, step) for step in (steps if number else FIRST_STEPS) if step not in done]
    following = None if stopped or not left else left[0]
    return LoopState(
        iteration=following and following[0],
        step=following and following[1],
        left=() if stopped else tuple(f"{number:02d}/{step}" for number, step in left),
        iterations=wanted,
        measured=max(len(history(run)) - 1, 0),
        best=entry.get("best"),
        stopped=stopped,
    )


def state_in_words(state: LoopState) -> Iterator[str]:
    """What comes next or why nothing does, and the best iteration, as notes."""
    if state.stopped:
        yield f"stopped: {state.stopped}"
    elif state.step:
        yield f"iteration {state.iteration}: {state.step} is next, {len(state.left)} steps are left"
    if state.best is not None:
        yield f"the best is iteration {state.best}"


def explained(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What `pairs_of` found, for a person."""
    for one in found:
        yield (
            f"\n== iteration {one['iteration']}: sampled from the weights {one['sampled_from']}, "
            f"trained to {one['trained_to'] or '(not trained)'}"
        )
        if one["reward"]:
            yield f"rated by {one['judge'] or 'it'}, reward {one['reward']}"
        for sample in one["samples"]:
            rating = sample["rating_reason"] or "no rating"
            if sample["rating"] is not None:
                given = ", ".join(f"{value:.4g}" for value in sample["ratings"])
                rating = f"rating {sample['rating']:.4g} ({given})"
            name = f"sample {sample['sample']}, {sample['finish_reason']}"
            yield f"{name}, {rating}: {sample['output']}"
        yield from explained_pairs(one["pairs"])
        kinds = Counter(row["kind"] for row in one["trained_on"])
        for kind, number in kinds.items():
            yield f"trained on {number} times as {kind}"


def pairs_of(run: RunDir, id: str) -> list[dict[str, Any]]:
    """Of each iteration, what a prompt became: samples with ratings, pairs, rows trained on."""
    identity = run.config["identity"]
    return [
        {
            "iteration": number,
            "reward": identity["reward"],
            "judge": identity["judge"][0],
            "sampled_from": one.config["identity"].get("parent"),
            "trained_to": (one.stage("train") or {}).get("weights"),
            "samples": _rows(one.path / RATINGS, id) or _rows(one.path / ANSWERS, id),
            "pairs": PairSet(one.path / PAIRS).of(id) if is_pair_set(one.path / PAIRS) else [],
            "trained_on": _rows(one.path / TRAINING, id),
        }
        for number, one in begun(run)
        if number
    ]


def ids_of(run: RunDir) -> list[str]:
    """The ids of all prompts and pairs."""
    found: dict[str, None] = {}
    for _, one in begun(run):
        for path in (one.path / "prompts.parquet", one.path / TRAINING):
            found |= dict.fromkeys(row["id"] for row in _rows(path))
        if is_pair_set(one.path / PAIRS):
            found |= dict.fromkeys(PairSet(one.path / PAIRS).ids())
    return list(found)


def _rows(path: Path, id: str | None = None) -> list[dict[str, Any]]:
    """The rows of a Parquet file, of one id or of all; none where there is no file."""
    if not path.exists():
        return []
    table = intact_parquet(path, remedy="remove it and run the same command again")
    rows: list[dict[str, Any]] = table.to_pylist()
    return [row for row in rows if id is None or row["id"] == id]
