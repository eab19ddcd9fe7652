"""`curate compare`: the same student trained on the selection and on baselines, and measured."""

import gc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from ..base.files import write_json
from ..base.processes.ranks import is_first
from ..base.progress import say
from ..base.tables import aligned
from ..config import recorded_options
from ..config.comparison import BASELINE, CompareConfig
from ..config.shared.training import FinetuneConfig
from ..errors import CurateError
from ..method.statistics.intervals import Interval, t_interval
from ..runs.directory import RunDir
from ..runs.published.selected import finished_selections, scored_template
from ..runs.selection_names import label_of
from ..stages.finetuning import finetune_records, say_differences
from ..training.folder.checkpoints import OPTIONS
from ..training.folder.loss_curve import draw_preference_curves
from ..training.folder.publication import TrainingResult
from ..training.preparation import RecordSource
from ..training.rows import Record
from .comparing.judging import Judgement, checked_questions, judge_models, judgement_lines
from .comparing.preferences import LOSSES, PairComparison, PairTrainings, Trained, pair_lines
from .comparing.training_sets import (
    Pool,
    chosen_answers,
    held_out_records,
    pair_pool,
    pool_of,
    sets_of_like_length,
    training_set,
)

HELD_OUT = 0.1  # of the originals and of the pairs' prompts, where nothing else is said
PICTURE = "preferences.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A set's held-out losses (nats a response token), one for each seed; rows of the first.

    `bits_per_character` is the mean loss in that unit.
    """

    name: str
    rows: int
    losses: tuple[float, ...]
    loss: Interval
    bits_per_character: float
    difference: Interval | None
    """From the loss of `random` with the same seed; None where that was not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult:
    """What was compared how; `untrained` is the student's own loss."""

    out: Path
    run: str
    selection: str
    model: str
    steps: int
    batch_size: int
    seeds: tuple[int, ...]
    held_out: str
    held_out_rows: int
    held_out_tokens: int
    held_out_characters: int
    untrained: float
    untrained_bits_per_character: float
    sets: tuple[Measured, ...]
    pairs: PairComparison | None = None
    judged: Judgement | None = None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        found = asdict(self) | {"out": str(self.out)}
        measured = [*found["sets"], *(found["pairs"] or {"sets": {}})["sets"].values()]
        for of_set in measured:
            named = {name: v._asdict() for name, v in of_set.items() if isinstance(v, Interval)}
            of_set |= named
        absent = [name for name in ("pairs", "judged") if found[name] is None]
        return {name: value for name, value in found.items() if name not in absent}


def compare(config: CompareConfig) -> CompareResult:
    """Train on each set with each seed for the same number of steps; finished ones are not redone.

    The seed decides the order of the rows and, for the drawn sets, which rows they are.
    """
    run = RunDir.open(config.run)
    selections = dict(finished_selections(run, config.selection))
    name, entry = next(iter(selections.items()))
    part = config.finetuning.recipe().held_out or HELD_OUT
    source, held_out, held = held_out_records(run, config.finetuning.held_out_data, part)
    pairs = config.pairs and pair_pool(run, config.pairs.data, part, examples=held_out, held=held)
    pool = pool_of(run, _folders(run, list(selections)), pairs.held if pairs else held)
    sets = _sets(config, pool)
    if not pool.wanted:
        raise CurateError(f"the selection {name} of {run.path} is empty: nothing can be compared")
    questions = config.pairwise and checked_questions(config.pairwise, held_out, source)
    finetuning = _same_steps(config.finetuning, len(pool.wanted))
    say_differences(finetuning, entry["scoring"])
    template = finetuning.template or scored_template(run, name, entry)
    finetuning = replace(finetuning, template=template)
    config = replace(config, finetuning=finetuning)
    if is_first():
        begun = {"command": "compare", "options": recorded_options(config)}
        write_json(finetuning.out / OPTIONS, begun)
    on_pairs = PairTrainings.of(finetuning, config.pairs, pairs) if config.pairs and pairs else None
    others: RecordSource[Record] = RecordSource(records=held_out)
    trained = {
        (of_set, seed): _trained(finetuning, pool, on_pairs, others, of_set, seed)
        for of_set, seed in _in_turn(config, sets)
    }
    origin = {"run": run.config["id"], "selection": ", ".join(selections), "held_out": source}
    result = _result(config, sets, trained, origin)
    if on_pairs:
        result = replace(result, pairs=on_pairs.compared(trained, config.seeds))
    if config.pairwise and questions:
        judged = judge_models(
            config.pairwise,
            {name: trained[name, config.seeds[0]].out for name in sets},
            questions,
            against=BASELINE,
            seed=config.seeds[0],
            out=finetuning.out,
            device=finetuning.recipe().device,
        )
        result = replace(result, judged=judged)
    if is_first():
        write_json(finetuning.out / "compare.json", result.as_dict())
        if result.pairs and result.pairs.curves:
            draw_preference_curves(result.pairs.curves, finetuning.out / PICTURE)
    return result


def _same_steps(config: FinetuneConfig, rows: int) -> FinetuneConfig:
    """The steps that so many epochs over the selection take, for all sets."""
    recipe = config.recipe()
    steps = recipe.max_steps or math.ceil(recipe.epochs * math.ceil(rows / recipe.batch_size))
    return replace(config, max_steps=steps, held_out_data=None)


def _folders(run: RunDir, keys: Sequence[str]) -> dict[str, Path]:
    """The selected rows by the names of their sets: `selected` where there is one selection."""
    labels = [label_of(key) for key in keys] if len(keys) > 1 else ["selected"]
    return {label: run.path / "selected" / key for label, key in zip(labels, keys, strict=True)}


def _sets(config: CompareConfig, pool: Pool) -> tuple[str, ...]:
    """What can be trained on: each of several selections is a set."""
    named = ((name,) if name != "selected" else tuple(pool.selected) for name in config.sets)
    return sets_of_like_length(pool, [name for names in named for name in names])


def _in_turn(config: CompareConfig, sets: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Seed after seed, so that what is there after an interrupt can be compared."""
    turns = list(product(config.seeds, sets))
    for place, (seed, name) in enumerate(turns, 1):
        say(f"training {place} of {len(turns)}: {name}, seed {seed}")
        yield name, seed


def _trained(
    config: FinetuneConfig,
    pool: Pool,
    on_pairs: PairTrainings | None,
    held_out: RecordSource[Record],
    name: str,
    seed: int,
) -> TrainingResult:
    config = replace(config, out=config.out / f"{name}-seed{seed}", seed=seed)
    # The selection that a set is, or is as large as.
    selection = pool.selected.get(name, next(iter(pool.selected.values()))).name
    origin = {"run": pool.run.config["id"], "selection": selection, "set": name}
    if on_pairs and name in LOSSES:
        result = on_pairs.train(config, name, origin=origin, held_out=held_out)
    else:
        records = training_set(pool, name, seed)
        if on_pairs and name == "sft-chosen":
            pairs = on_pairs.pool
            records, origin = chosen_answers(pairs.training), {**origin, "pairs": pairs.source}
        given = RecordSource(records=records, origin=origin)
        title = f"{name}, seed {seed}"
        result = finetune_records(config, given, held_out=held_out, title=title)
    gc.collect()  # a trainer is in reference cycles: its memory would stay taken
    if result.held_out_after is None:
        raise CurateError("no held-out record fits into --max-length, so no loss can be measured")
    say(f"{name}, seed {seed}: held-out loss {result.held_out_after:.4f} nats a response token")
    return result


def _result(
    config: CompareConfig, sets: Sequence[str], trained: Trained, origin: Mapping[str, Any]
) -> CompareResult:
    """The held-out losses of all sets."""
    first, finetuning = next(iter(trained.values())), config.finetuning
    assert first.held_out_before is not None
    assert first.held_out_bits_per_character_before is not None
    return CompareResult(
        **origin,
        out=finetuning.out,
        model=finetuning.model,
        steps=first.steps,
        batch_size=finetuning.recipe().batch_size,
        seeds=config.seeds,
        held_out_rows=first.held_out_rows,
        held_out_tokens=first.held_out_tokens,
        held_out_characters=first.held_out_characters,
        untrained=first.held_out_before,
        untrained_bits_per_character=first.held_out_bits_per_character_before,
        sets=tuple(_measured(config, sets, trained)),
    )


def _measured(config: CompareConfig, sets: Sequence[str], trained: Trained) -> Iterator[Measured]:
    for name in sets:
        results = [trained[name, seed] for seed in config.seeds]
        losses = _known(r.held_out_after for r in results)
        difference = None
        if BASELINE in sets and name != BASELINE:
            base = _known(trained[BASELINE, seed].held_out_after for seed in config.seeds)
            difference = t_interval([a - b for a, b in zip(losses, base, strict=True)])
        yield Measured(
            name=name,
            rows=results[0].rows,
            losses=losses,
            loss=t_interval(losses),
            bits_per_character=mean(_known(r.held_out_bits_per_character_after for r in results)),
            difference=difference,
        )


def _known(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)


def in_words(result: CompareResult) -> Iterator[str]:
    """The table, and what its numbers are."""
    seeds = ", ".join(map(str, result.seeds))
    yield (
        f"held-out loss after {result.steps} steps of {result.batch_size} rows, in nats a response "
        f"token and in bits a character: {result.held_out_rows} rows, {result.held_out_tokens} "
        f"tokens, {result.held_out_characters} characters ({result.held_out})"
    )
    several = f"95 % intervals: Student's t over the seeds ({seeds})"
    intervals = several if len(result.seeds) > 1 else f"one seed ({seeds}) gives no interval"
    yield f"{intervals}; each difference is from `{BASELINE}` with the same seed; lower is better"
    yield ""
    untrained = (result.untrained_bits_per_character, result.untrained)
    rows = [
        ("trained on", "rows", "bits/char", "loss", "95 %", "difference", "95 %"),
        ("nothing", "", *(f"{value:.4f}" for value in untrained), "", "", ""),
    ]
    for row in result.sets:
        difference = row.difference.cells("+.4f") if row.difference else ("", "")
        bits = f"{row.bits_per_character:.4f}"
        rows.append((row.name, str(row.rows), bits, *row.loss.cells(".4f"), *difference))
    yield from aligned(rows)
    if result.pairs is not None:
        yield ""
        yield from pair_lines(result.pairs)
        if result.pairs.curves:
            yield f"curves: {result.out / PICTURE}"
    if result.judged is not None:
        yield ""
        yield from judgement_lines(result.judged)
