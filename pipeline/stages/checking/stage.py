"""`curate check`: verdicts on all samples, the solved and the unsolved, accuracy by task."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...base.files import intact_parquet, replace_folder, write_parquet
from ...base.progress import Progress
from ...config import CheckConfig, CheckRules
from ...errors import CurateError, UsageError
from ...inputs.examples import chunks
from ...inputs.readers import open_source
from ...method.solutions.accuracy import Solving, TaskAccuracy, by_task
from ...records import typed
from ...runs.directory import RunDir, is_run, out_needed
from ...runs.importing import SHARD
from ...runs.lock import run_lock
from ...runs.published.selected import FurtherTypes, columns_of, further, write_set
from ...runs.samples import Attempted, attempted_problems, num_problems, shards
from .card import solved_card
from .importing import import_samples
from .math_process import MathProcess, require_math
from .solutions import (
    SOLVED_SCHEMA,
    UNSOLVED_SCHEMA,
    outcomes,
    right_samples,
    solved_rows,
    unsolved_reason,
    unsolved_row,
)
from .verdicts import ProblemVerdicts, SampleVerdict, judged

Checked = tuple[Attempted, ProblemVerdicts]
CHECKED_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id"),
        *typed(pa.int64(), "sample"),
        *typed(pa.string(), "kind", "answer", "verdict", "reason", "bad_answer"),
        *typed(pa.float64(), "chance"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Where the sets are, and what was counted: every problem and every sample once."""

    run: Path
    checker: str
    problems: int
    solved: int
    rows: int
    samples: dict[str, int]
    unsolved: dict[str, int]
    tasks: list[TaskAccuracy]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "run": str(self.run)}


def check(config: CheckConfig) -> CheckResult:
    """Check a run's samples, or those of a data set once they are imported into `--out`."""
    data = config.input.data
    if is_run(data):
        run = RunDir.open(data)
        if config.out is not None and config.out.resolve() != run.path.resolve():
            raise UsageError(f"{data} is a run: its verdicts go into it, leave --out away")
        return check_run(run, config.rules)
    if config.out is None:
        raise out_needed(data)
    source = open_source(data)
    columns = (config.input.instruction_column, config.input.input_column)
    identity = {
        "command": "check",
        "input": source.fingerprint,
        "columns": [*columns, config.input.output_column, config.answer_column],
        "limit": config.input.limit,
    }
    run = RunDir.create(config.out, identity)
    with run.discarded_if_empty():
        import_samples(run, source, config)
        return check_run(run, config.rules)


def check_run(run: RunDir, rules: CheckRules) -> CheckResult:
    """Make `checked/<checker>/`, `solved/` and `unsolved/` anew; no model is asked."""
    if not shards(run):
        raise CurateError(f"{run.path} has no problems to check: run `curate solve` first")
    if rules.checker == "math":
        require_math()
    with run_lock(run.path, "check"):
        run.forget_stage("check")
        folder, survey = run.path / "checked" / rules.checker, _Survey(rules)
        replace_folder(folder, lambda new: _write_verdicts(run, survey, new))
        result = survey.result(run)
        _write_sets(run, survey, folder, result)
        run.finish_stage("check", {**asdict(rules), **result.as_dict()})
    return result


def _write_verdicts(run: RunDir, survey: "_Survey", folder: Path) -> None:
    with (
        MathProcess() as math,
        Progress("check", total=num_problems(run), unit="problems") as progress,
    ):
        for shard in shards(run):
            checked = [
                (attempted, judged(attempted, survey.rules.checker, math))
                for attempted in attempted_problems(run, shard)
            ]
            write_parquet(folder / shard.name, _table(checked))
            survey.add(checked)
            progress.advance(len(checked))


def _table(checked: Sequence[Checked]) -> pa.Table:
    """A row for each sample, with what is known of its problem's answer."""
    rows = []
    for attempted, found in checked:
        about = {name: getattr(found, name) for name in ("kind", "bad_answer", "chance")}
        rows += [{"id": attempted.problem.id, **asdict(one), **about} for one in found.samples]
    return pa.Table.from_pylist(rows, schema=CHECKED_SCHEMA)


def _read_verdicts(run: RunDir, folder: Path) -> Iterator[Checked]:
    """The problems with the verdicts as they are on disk."""
    for shard in shards(run):
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in intact_parquet(folder / shard.name, remedy="check again").to_pylist():
            rows.setdefault(row["id"], []).append(row)
        for attempted in attempted_problems(run, shard):
            yield attempted, _verdicts(rows.get(attempted.problem.id, []))


def _verdicts(rows: list[dict[str, Any]]) -> ProblemVerdicts:
    samples = (SampleVerdict(*(row[n] for n in SampleVerdict.__slots__)) for row in rows)
    first = rows[0] if rows else {}
    return ProblemVerdicts(
        first.get("kind"), first.get("chance"), first.get("bad_answer"), tuple(samples)
    )


def _write_sets(run: RunDir, survey: "_Survey", folder: Path, result: CheckResult) -> None:
    strategy = str(run.config["identity"].get("strategy", "imported"))
    rules = survey.rules

    def solved() -> Iterator[dict[str, Any]]:
        for attempted, verdicts in _read_verdicts(run, folder):
            if unsolved_reason(verdicts, outcomes(attempted, verdicts), rules) is None:
                yield from solved_rows(attempted, verdicts, rules, strategy)

    def unsolved() -> Iterator[dict[str, Any]]:
        for attempted, verdicts in _read_verdicts(run, folder):
            reason = unsolved_reason(verdicts, outcomes(attempted, verdicts), rules)
            if reason is not None:
                yield unsolved_row(attempted, verdicts, reason, strategy)

    solved_schema, unsolved_schema = survey.schemas()
    write_set(run.path / "unsolved", _tables(unsolved(), unsolved_schema), unsolved_schema)
    card = solved_card(run, rules, result.solved, result.rows, result.unsolved)
    write_set(run.path / "solved", _tables(solved(), solved_schema), solved_schema, card)


def _tables(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    for chunk in chunks(rows, SHARD):
        yield pa.table(columns_of(chunk, schema), schema=schema)


class _Survey:
    """Counts, and the types of the further columns."""

    def __init__(self, rules: CheckRules) -> None:
        self.rules = rules
        self._samples: Counter[str] = Counter()
        self._unsolved: Counter[str] = Counter()
        self._solving: list[Solving] = []
        self._types = (FurtherTypes(), FurtherTypes())
        self._rows = 0

    def add(self, checked: Sequence[Checked]) -> None:
        """The problems of one more shard."""
        for attempted, verdicts in checked:
            self._count(attempted, verdicts)
        for types, schema in zip(self._types, (SOLVED_SCHEMA, UNSOLVED_SCHEMA), strict=True):
            types.add(further(one.problem.extra, schema) for one, _ in checked)

    def _count(self, attempted: Attempted, verdicts: ProblemVerdicts) -> None:
        counts = outcomes(attempted, verdicts)
        self._samples += counts
        reason = unsolved_reason(verdicts, counts, self.rules)
        if reason is not None:
            self._unsolved[reason.partition(":")[0]] += 1
        else:
            self._rows += len(right_samples(attempted, verdicts)[: self.rules.keep])
        came = 0 if verdicts.bad_answer else sum(counts.values()) - counts["failed"]
        task = attempted.problem.task
        self._solving.append(Solving(task, came, counts["correct"], verdicts.chance))

    def schemas(self) -> tuple[pa.Schema, pa.Schema]:
        """Of the solved and the unsolved set, further columns included."""
        solved, unsolved = (types.fields for types in self._types)
        return pa.schema([*SOLVED_SCHEMA, *solved]), pa.schema([*UNSOLVED_SCHEMA, *unsolved])

    def result(self, run: RunDir) -> CheckResult:
        """All that was counted."""
        problems = len(self._solving)
        return CheckResult(
            run=run.path,
            checker=self.rules.checker,
            problems=problems,
            solved=problems - sum(self._unsolved.values()),
            rows=self._rows,
            samples=dict(self._samples),
            unsolved=dict(self._unsolved),
            tasks=by_task(self._solving),
        )
