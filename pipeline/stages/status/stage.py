"""`curate status`: what of a run is done, failed and left, how fast it goes, and who is at it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...base.foreign_json import read_object
from ...runs.directory import RunDir, is_run
from ...runs.lock import holders
from ...runs.loop import ITERATIONS, MODEL, is_loop, loop_state, state_in_words
from ...runs.published.pair_set import PairSet, is_pair_set
from ...runs.selection_names import selection_keys
from ...runs.shard_counts import newest
from ...training.folder.checkpoints import CLAIM, OPTIONS
from .candidates import made_candidates
from .following import (
    after_candidates,
    after_instructions,
    after_loop,
    after_pairs,
    after_problems,
    after_training,
    retry_options,
)
from .sampling import holds_problems, solving
from .selections import selecting_options, selection
from .stage_status import RunStatus, StageStatus, command_line, state_of
from .synthesis import holds_instructions, synthesized
from .trainings import training, trainings


def status(path: str) -> RunStatus:
    """Look at a run, a training, a comparison or pairs, also while they are being written.

    Reads only, and takes no lock. Raises CurateError for what is none of these.
    """
    folder = Path(path)
    if is_loop(path):
        return _of_loop(RunDir.open(path), path)
    if is_run(folder):
        return _of_run(RunDir.open(path), path)
    if (folder / CLAIM).exists():
        stage = training(folder)
        return _of_folder(path, [stage], after_training(path, stage))
    if is_pair_set(path):
        return _of_pairs(path, PairSet(folder))
    begun = read_object(folder / OPTIONS) or {}
    if begun.get("command") == "compare":
        return _of_comparison(path, begun["options"])
    return _of_run(RunDir.open(path), path)  # which says that it is none


def _of_folder(
    path: str, stages: list[StageStatus], following: Iterable[str], *, data: str | None = None
) -> RunStatus:
    held = holders(Path(path))
    working = any(holder.alive for holder in held)
    return RunStatus(
        run=path, data=data, holders=held, stages=stages, next=[] if working else list(following)
    )


def _of_loop(run: RunDir, path: str) -> RunStatus:
    """A loop, whose `done` are iterations; the command that goes on until it has ended."""
    state = loop_state(run)
    working = any(holder.alive for holder in holders(run.path))
    command = command_line("improve", **{**run.config.get("options", {}), "out": path})
    stage = StageStatus(
        stage="improve",
        state=state_of(finished=state.step is None, working=working),
        done=state.measured,
        unit="iterations",
        total=state.iterations,
        left=0 if state.step is None else state.iterations - state.measured,
        notes=tuple(state_in_words(state)),
        command=command,
    )
    best = f"{path}/{ITERATIONS}/{state.best:02d}/{MODEL}" if state.best else None
    following = after_loop(path, best) if state.step is None else [command]
    return _of_folder(path, [stage], following, data=run.config.get("data"))


def _of_pairs(path: str, pairs: PairSet) -> RunStatus:
    counts = pairs.manifest["counts"]
    number = counts["pairs"]
    stage = StageStatus(
        stage="pairs", state="finished", done=number, unit="pairs", total=number, left=0
    )
    return _of_folder(path, [stage], after_pairs(path, number), data=pairs.manifest["name"])


def _of_comparison(path: str, options: Mapping[str, Any]) -> RunStatus:
    """A comparison, by its trainings; the command that goes on until it is finished."""
    finished = (Path(path) / "compare.json").exists()
    again = command_line("compare", **{**options, "out": path})
    stages = list(trainings(Path(path)))
    found = _of_folder(path, stages, [] if finished else [again], data=options["run"])
    return replace(found, next=[] if any(s.state == "running" for s in stages) else found.next)


def _of_run(run: RunDir, path: str) -> RunStatus:
    working = {holder.what.split()[0] for holder in holders(run.path) if holder.alive}
    following: Iterable[str]
    if holds_instructions(run):
        stages = [synthesized(run, path, working=bool(working))]
        answered = bool(run.config["identity"].get("answers"))
        finished = stages[0].state == "finished"
        after = after_instructions(path, stages[0].done, answered=answered)
        following = after if finished else [str(stages[0].command)]
    elif holds_problems(run):
        made, *checked = solving(run, working)
        stages = [_again(run, path, made, []), *checked]
        following = after_problems(path, stages)
    else:
        stages = list(_from_candidates(run, path, working))
        following = after_candidates(
            path,
            stages,
            _last_training(run),
            reported=_is_reported(run),
            compared=Path(f"{path}-compared", "compare.json").exists(),
        )
    return _of_folder(path, stages, following, data=run.config.get("data"))


def _from_candidates(run: RunDir, path: str, working: set[str]) -> Iterator[StageStatus]:
    made, keys = made_candidates(run, working), selection_keys(run)
    total = made.total if made.state == "finished" else None
    yield _again(run, path, made, keys)
    yield from (selection(run, path, key, total, working) for key in keys)
    yield from trainings(run.path)


def _again(run: RunDir, path: str, made: StageStatus, selections: list[str]) -> StageStatus:
    """With the commands that take the first stage up, and that ask again."""
    given = run.config.get("options", {})
    sampled = bool(run.config["identity"].get("temperature"))
    retry = retry_options(made.retryable, given, sampled=sampled)
    return replace(
        made,
        command=_making(run, path, selections, {}),
        retry=_making(run, path, selections, retry) if retry else None,
    )


def _making(run: RunDir, path: str, selections: list[str], more: Mapping[str, Any]) -> str:
    """The command that made the first stage; where it also selects, as that was done."""
    identity = run.config["identity"]
    options = {**run.config.get("options", {}), "out": path, **more}
    if identity.get("schedule") != "selective":
        return command_line(str(identity.get("command")), **options)
    only = selecting_options(run, selections[0]) if len(selections) == 1 else {}
    options |= {"schedule": "selective", "student": "STUDENT", **only, "finetune": False}
    return command_line("run", **options)


def _last_training(run: RunDir) -> dict[str, Any]:
    begun = sorted(run.path.glob(f"*/{OPTIONS}"), key=lambda path: newest([path]))
    options: dict[str, Any] = (read_object(begun[-1]) or {}).get("options", {}) if begun else {}
    return options


def _is_reported(run: RunDir) -> bool:
    """Whether the report was written after all selections."""
    states = list((run.path / "selected").glob("[!.]*/state.json"))
    return newest([run.path / "report.html"]) > newest(states)
