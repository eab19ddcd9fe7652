"""DATA and prompts -> what is fine-tuned on, demonstrated, answered, and held out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from ...base.files import write_json_lines, write_parquet
from ...base.foreign_json import parse_json
from ...base.progress import say
from ...config import ImproveConfig, InputConfig
from ...errors import CurateError
from ...inputs.evaluation.questions import read_questions
from ...inputs.examples import read_examples
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...inputs.samples import read_samples
from ...method.corpus.baseline_sampling import random_subset
from ...method.loops.recipes import LoopRecipe
from ...pair_records import Sample
from ...records import Example, user_turn
from ...runs.directory import RunDir, is_run
from ...runs.importing import say_unused

HELD_OUT_FROM = 10
"""Records of DATA from which a tenth is held out."""
Row = dict[str, Any]


class Material:
    """The files of a loop's data."""

    def __init__(self, run: RunDir) -> None:
        data, held_out = run.path / "data", run.path / "held_out"
        self.tuning = data / "tuning.jsonl"  # what the first fine-tuning is on
        self.demonstrations = data / "demonstrations.jsonl"  # all that iterations may see
        self.prompts = data / "prompts.jsonl"  # what they answer, a row a distinct text
        self.held_out = held_out / "records.jsonl"  # not there where none are held out
        self.held_out_prompts = held_out / "prompts.parquet"  # the distinct ones of these

    def write(self, source: Source, config: ImproveConfig, recipe: LoopRecipe) -> Row:
        """Write all files; the counts. CurateError where nothing is left to learn from."""
        records, counts = _records(source, config.input)
        held = _held_out(records, config)
        asked = {_asked(one) for one in held}
        left = [one for one in records if _asked(one) not in asked]
        if not left:
            raise CurateError(f"{source.name}: no demonstration is left that is not held out")
        tuning, prompts = _parts(left, config, recipe)
        if config.eft is not None:
            tuning = [*tuning, *_records(open_source(config.eft), InputConfig(data=config.eft))[0]]
        distinct = _distinct(row for row in prompts if _text(row) not in asked)
        _check_prompts(distinct)
        write_json_lines(self.tuning, map(_row, tuning))
        write_json_lines(self.demonstrations, map(_row, left))
        write_json_lines(self.prompts, distinct)
        self._write_held_out(held)
        return counts | {
            "tuning": len(tuning),
            "demonstrations": len(left),
            "prompts": len(distinct),
            "prompts_left_out": len(prompts) - len(distinct),
            "held_out": len(held),
        }

    def _write_held_out(self, held: list[Example]) -> None:
        if held:
            write_json_lines(self.held_out, map(_row, held))
            write_prompts(self.held_out_prompts, _distinct(_prompts_of(held)))
        else:
            say("note: nothing is held out: no loss and no answers of unseen prompts are measured")

    def of_iteration(self, number: int, *, take: int | None, seed: int) -> list[Row]:
        """The prompts of an iteration, from 1: all, or the next ones of an order that is drawn."""
        rows = _read(self.prompts)
        if take is None or take >= len(rows):
            return rows
        Random(f"{seed}:prompts").shuffle(rows)
        return [rows[place % len(rows)] for place in range((number - 1) * take, number * take)]


def samples_of(path: str | Path) -> list[Sample]:
    """The samples of a file, with their ratings if any; CurateError where it holds none."""
    return list(read_samples(open_source(str(path)), InputConfig(data=str(path)), Intake()))


def write_prompts(path: Path, rows: Sequence[Row]) -> None:
    """Write prompts as `generate` reads them; with a system turn they are messages."""
    systems = any(row["system"] for row in rows)
    asked = {"messages": list(map(_messages, rows))} if systems else {}
    if not systems:
        asked = {"instruction": [row["instruction"] for row in rows]}
    columns = {name: [row[name] for row in rows] for name in ("id", "input")}
    write_parquet(path, pa.table({**columns, **asked}))


def _messages(row: Row) -> list[dict[str, str]]:
    turns = (("system", row["system"]), ("user", row["instruction"]))
    return [{"role": role, "content": text} for role, text in turns if text]


def _records(source: Source, columns: InputConfig) -> tuple[list[Example], Row]:
    """The records without earlier turns, and how many have some."""
    intake = Intake()
    found = list(read_examples(source, columns, intake))
    say_unused(intake.counts(), "")
    single = [one for one in found if not one.history]
    if len(single) < len(found):
        say(f"note: {len(found) - len(single)} records with earlier turns are left out")
    return single, {"records": len(found), "with_history": len(found) - len(single)}


def _held_out(records: list[Example], config: ImproveConfig) -> list[Example]:
    if config.held_out is not None:
        return _records(open_source(config.held_out), InputConfig(data=config.held_out))[0]
    if len(records) < HELD_OUT_FROM:
        return []
    ids = random_subset(
        (one.id for one in records), round(len(records) / 10), seed=config.training.seed
    )
    return [one for one in records if one.id in ids]


def _parts(
    left: list[Example], config: ImproveConfig, recipe: LoopRecipe
) -> tuple[list[Example], list[Row]]:
    """What is fine-tuned on, and the prompts: of other records where the loop rates answers."""
    if config.prompts is not None:
        return left, _prompts_from(config.prompts)
    if recipe.pairs == "demonstrations" or not recipe.sft:
        return left, _prompts_of(left)
    if len(left) < 2:
        raise CurateError("one record is too few to fine-tune and to take prompts from: --prompts")
    ids = random_subset((one.id for one in left), len(left) // 2, seed=config.training.seed + 1)
    asked = [one for one in left if one.id in ids]
    return [one for one in left if one.id not in ids], _prompts_of(asked)


def _check_prompts(rows: list[Row]) -> None:
    """CurateError where there is none, or where an id stands for two."""
    if not rows:
        raise CurateError("no prompt is left that is not held out: give others with --prompts")
    if len({row["id"] for row in rows}) < len(rows):
        raise CurateError("two prompts have one id: give each its own, or leave ids out")


def _prompts_from(name: str) -> list[Row]:
    """Of a file, or of a run of synthetic instructions; those of several turns are left out."""
    data = f"{name}/instructions" if is_run(name) else name
    intake = Intake()
    found = read_questions(open_source(data), InputConfig(data=data), intake)
    return [
        {"id": one.id, "instruction": one.turns[0], "input": one.input, "system": one.system}
        for one in found
        if len(one.turns) == 1
    ]


def _prompts_of(records: Iterable[Example]) -> list[Row]:
    return [
        {name: value for name, value in _row(one).items() if name != "output"} for one in records
    ]


def _row(one: Example) -> Row:
    names = ("id", "instruction", "input", "output", "system")
    return {name: getattr(one, name) for name in names}


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """The first of each text."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(_text(row), row)
    return list(found.values())


def _asked(one: Example) -> str:
    return user_turn(one.instruction, one.input)


def _text(row: Row) -> str:
    return user_turn(row["instruction"], row["input"])


def _read(path: Path) -> list[Row]:
    try:
        return [parse_json(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError) as error:
        raise CurateError(f"cannot read {path}: {error}; begin with another --out") from None
