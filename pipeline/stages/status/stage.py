"""`curate status`: what of a run is done, failed and left, how fast it goes, and who is at it."""

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...base.files import read_notes
from ...base.foreign_json import read_object
from ...config import InputConfig, command_words
from ...config.options import options_of
from ...inputs.readers.files import count_rows
from ...llm.journal_tail import growth
from ...records import REFLECTIONS, RETRYABLE
from ...runs.directory import RunDir
from ...runs.lock import Holder, holders
from ...runs.loop import is_loop, loop_state, state_in_words
from ...runs.shard_counts import RECENT, newest, per_second, value_counts
from ...training.checkpoints import CHECKPOINTS, CLAIM, last_complete
from .sampling import checked, holds_problems, sampled
from .synthesis import holds_instructions, synthesized

State = Literal["finished", "running", "unfinished"]
STALE = "candidates were made after it: select again"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """One stage. `done`, `total` and `left` are records (steps of a training), None if not known.

    `left` is the most that it can be; `counts` are statuses of reflections or of scores.
    """

    stage: str
    state: State
    done: int
    total: int | None = None
    left: int | None = None
    failed: int = 0
    damaged_shards: int = 0
    per_second: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    student: str | None = None
    """What `--student` was, where a selection tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run as it is now: its stages in order, its locks' holders, the commands that go on."""

    run: str
    data: str | None
    holders: list[Holder]
    stages: list[StageStatus]
    next: list[str]


def status(path: str) -> RunStatus:
    """Look at a run, also while it is being written: reads only, and takes no lock.

    Raises CurateError for what is no run.
    """
    run = RunDir.open(path)
    held = holders(run.path)
    working = {holder.what.split()[0] for holder in held if holder.alive}
    if is_loop(path):
        return _of_loop(run, path, held, working=bool(working))
    if holds_instructions(run):
        state = _state(run.stage("synthesize") is not None, bool(working))
        stages = [StageStatus(state=state, **synthesized(run))]
    else:
        solves = holds_problems(run)
        stages = list(_solving(run, working) if solves else _selecting_from(run, working))
        stages += _trainings(run)
    return RunStatus(
        run=path,
        data=run.config.get("data"),
        holders=held,
        stages=stages,
        next=[] if working else list(_next(run, path, stages)),
    )


def _of_loop(run: RunDir, path: str, held: list[Holder], *, working: bool) -> RunStatus:
    """A loop, whose `done` are iterations."""
    state = loop_state(run)
    stage = StageStatus(
        stage="improve",
        state=_state(state.step is None, working),
        done=state.measured,
        total=state.iterations,
        left=0 if state.step is None else state.iterations - state.measured,
        notes=tuple(state_in_words(state)),
    )
    options = {**run.config.get("options", {}), "out": path}
    following = [shlex.join(command_words("improve", options))]
    return RunStatus(
        run=path,
        data=run.config.get("data"),
        holders=held,
        stages=[stage],
        next=[] if working or state.step is None else following,
    )


def _solving(run: RunDir, working: set[str]) -> Iterator[StageStatus]:
    made = sampled(run)
    finished = run.stage(made["stage"]) is not None
    yield StageStatus(state=_state(finished, bool(working - {"check"})), **made)
    for entry in checked(run):
        yield StageStatus(state=_state(True, "check" in working), **entry)


def _selecting_from(run: RunDir, working: set[str]) -> Iterator[StageStatus]:
    made = _candidates(run, working)
    total = made.total if made.state == "finished" else None
    yield made
    yield from (_selection(run, name, total, working) for name in _students(run))


# --- candidates -----------------------------------------------------------------------------------


def _candidates(run: RunDir, working: set[str]) -> StageStatus:
    """The stage that made the candidates: reflect, or the import of a selection from data."""
    reflected = run.config["identity"].get("command") == "reflect"
    stage, worker = ("reflect", "reflect") if reflected else ("import", "select")
    entry = run.stage(stage)
    found, damaged = value_counts(run.shard_paths(), ["candidate", "status"])
    counts: Counter[str] = Counter()
    for (kind, made), number in found.items():
        if kind in REFLECTIONS:
            counts[str(made)] += number
    known = StageStatus(
        stage=stage,
        state=_state(entry is not None, worker in working and (reflected or entry is None)),
        done=sum(number for (kind, _), number in found.items() if kind == "original"),
        failed=sum(counts[name] for name in RETRYABLE),
        damaged_shards=damaged,
        counts=dict(counts),
    )
    if entry is None or known.state == "running":
        return _unfinished_candidates(run, known, entry or {})
    unused = (entry.get("input") or {}).get("rejected")
    notes = (f"{unused} input rows were not used",) if unused else ()
    return replace(known, total=entry["records"], left=0, notes=notes)


def _unfinished_candidates(run: RunDir, known: StageStatus, entry: dict[str, Any]) -> StageStatus:
    """With what is left, by the input, and the speed, by the journal."""
    total = entry.get("records") or _input_rows(run)
    left = None if total is None else max(total - known.done, 0)
    folder = run.path / entry.get("journal", _option(run, "journal") or "journal")
    journal = growth(folder)
    calls = 2 if run.config["identity"].get("schedule") == "selective" else len(REFLECTIONS)
    rate = journal.per_second / calls if journal.per_second else None
    about = "" if journal.exact else "about "
    notes = (f"{about}{journal.replies} replies in {folder}",) if journal.replies else ()
    return replace(known, total=total, left=left, per_second=rate, notes=notes)


def _input_rows(run: RunDir) -> int | None:
    """How many rows the input has, within the limit."""
    rows, limit = count_rows(str(run.config.get("data"))), _option(run, "limit")
    if limit is None:
        return rows
    return int(limit) if rows is None else min(rows, int(limit))


def _option(run: RunDir, name: str) -> Any:
    """An option that the run was begun with."""
    return run.config.get("options", {}).get(name)


# --- selections -----------------------------------------------------------------------------------


def _students(run: RunDir) -> list[str]:
    scored = {p.name for p in (run.path / "scores").glob("[!.]*") if p.is_dir()}
    stages = [name.partition("/") for name in run.manifest.get("stages", {})]
    return sorted(scored | {student for stage, _, student in stages if stage == "select"})


def _selection(run: RunDir, student: str, total: int | None, working: set[str]) -> StageStatus:
    """A student's scores, and the decision if it is made."""
    paths = sorted((run.path / "scores" / student).glob("part-*.parquet"))
    notes = [read_notes(path) or {} for path in paths]
    through = [n.get("through", 0) if n.get("purpose") == "decision" else 0 for n in notes]
    found, damaged = value_counts(paths, ["ifd_status", "rifd_status"])
    counts: Counter[str] = Counter()
    for statuses, number in found.items():
        for name in filter(None, statuses):
            counts[name] += number
    entry = run.stage(f"select/{student}")
    lately = not paths or time.time() - newest(paths) < RECENT
    known = StageStatus(
        stage=f"select/{student}",
        state=_state(entry is not None, "select" in working and lately),
        done=sum(through),
        total=total,
        failed=counts["failed"],
        damaged_shards=damaged,
        counts=dict(counts),
        student=next((note["student"] for note in notes if "student" in note), None),
    )
    if entry is not None and known.state == "finished":
        return _decided(run, student, known, entry)
    left = None if total is None else max(total - known.done, 0)
    scored = ("scored, not decided yet",) if left == 0 else ()
    return replace(known, left=left, per_second=per_second(paths, through), notes=scored)


def _decided(run: RunDir, student: str, known: StageStatus, entry: dict[str, Any]) -> StageStatus:
    counts, seconds = entry["counts"], entry.get("seconds")
    notes = [f"{counts['selected']} selected, {counts['rejected']} rejected"]
    if newest(run.shard_paths()) > newest([run.path / "selected" / student / "state.json"]):
        notes.append(STALE)
    return replace(
        known,
        done=counts["records"],
        total=counts["records"],
        left=0,
        per_second=counts["records"] / seconds if seconds else None,
        notes=tuple(notes),
    )


# --- trainings ------------------------------------------------------------------------------------


def _trainings(run: RunDir) -> Iterator[StageStatus]:
    """The trainings whose folders are in the run; `total` steps are not known before the end."""
    for claim in sorted(run.path.glob(f"*/{CLAIM}")):
        folder = claim.parent
        result = (read_object(folder / "training.json") or {}).get("result")
        checkpoint = last_complete(folder / CHECKPOINTS)
        known = StageStatus(
            stage=f"finetune/{folder.name}",
            state="unfinished",
            done=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
        )
        if result is not None:
            steps, rows = result["steps"], (f"{result['rows']} rows",)
            known = replace(
                known, state="finished", done=steps, total=steps, left=0, notes=rows,
                per_second=steps / result["seconds"] if result["seconds"] else None,
            )  # fmt: skip
        yield known


def _state(finished: bool, working: bool) -> State:
    return "running" if working else "finished" if finished else "unfinished"


# --- what to type ---------------------------------------------------------------------------------


def _next(run: RunDir, path: str, stages: list[StageStatus]) -> Iterator[str]:
    """The commands that take up what is left, in their order; capitals stand for your own."""
    made, *later = stages
    selections = [stage for stage in later if stage.stage.startswith("select/")]
    if made.state != "finished" or made.damaged_shards:
        yield shlex.join(_making(run, path, selections))
    elif made.stage == "reflect" and made.failed:
        retry = [name for name in RETRYABLE if made.counts.get(name)]
        yield shlex.join(_making(run, path, selections, retry=retry))
    for stage in selections:
        if stage.state != "finished" or STALE in stage.notes or stage.failed:
            yield shlex.join(command_words("select", {"data": path, **_selecting(run, stage)}))
    if holds_problems(run):
        yield f"curate check {shlex.quote(path)}"
    elif not (selections or _is_selective(run) or holds_instructions(run)):
        yield f"curate select {shlex.quote(path)} --student STUDENT"


def _making(
    run: RunDir, path: str, selections: list[StageStatus], retry: Sequence[str] = ()
) -> list[str]:
    """The command that made the candidates, again; where it also selects, as that was done."""
    command = str(run.config["identity"].get("command"))
    options = {**run.config.get("options", {}), "out": path, "retry": retry}
    if _is_selective(run):
        only = _selecting(run, selections[0]) if len(selections) == 1 else {"student": "STUDENT"}
        options |= {"schedule": "selective", **only, "finetune": False}
        command = "run"
    return command_words(command, options)


def _is_selective(run: RunDir) -> bool:
    return bool(run.config["identity"].get("schedule") == "selective")


def _selecting(run: RunDir, stage: StageStatus) -> dict[str, Any]:
    """The options that a selection was last begun with, but for its input's."""
    key = stage.stage.partition("/")[2]
    options = run.selection_options(key) or {"student": stage.student or "STUDENT"}
    return {name: options[name] for name in options if name not in options_of(InputConfig)}


def in_words(found: RunStatus) -> Iterator[str]:
    """For a person: who is at it, a line a stage with what it holds, what to type next."""
    yield f"{found.run}: from {found.data or 'unknown data'}"
    for holder in found.holders:
        state = "alive" if holder.alive else "dead"
        yield (
            f"  `curate {holder.what}`, process {holder.pid} on {holder.host}: {state}, seen "
            f"{holder.seen:.0f} s ago"
        )
    for stage in found.stages:
        yield from _stage_in_words(stage)
    for command in found.next:
        yield f"next: {command}"


def _stage_in_words(stage: StageStatus) -> Iterator[str]:
    units = {"finetune": "steps", "improve": "iterations"}
    unit = units.get(stage.stage.partition("/")[0], "records")
    parts = [f"{stage.done}{'' if stage.total is None else f' of {stage.total}'} {unit}"]
    if stage.state != "finished":
        parts.append(f"{'unknown' if stage.left is None else f'at most {stage.left}'} left")
    if stage.failed:
        parts.append(f"{stage.failed} to try again")
    if stage.per_second:
        parts.append(f"{stage.per_second:.3g}/s")
        if stage.left and stage.state == "running":
            parts.append(f"eta {stage.left / stage.per_second:.0f}s")
    if stage.damaged_shards:
        parts.append(f"{stage.damaged_shards} damaged shards, which are made again")
    yield f"{stage.stage}  {stage.state}  " + ", ".join([*parts, *stage.notes])
    if stage.counts:
        counts = (f"{number} {name}" for name, number in sorted(stage.counts.items()))
        yield "  " + ", ".join(counts)
