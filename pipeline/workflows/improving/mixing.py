"""What an iteration is trained on: its pairs, with those before, or DITTO's comparisons."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import pyarrow as pa

from ...base.files import write_parquet
from ...method.loops.comparisons import Kind, batches
from ...method.loops.recipes import LoopRecipe
from ...method.replies.endings import incomplete
from ...pair_records import PAIR_SCHEMA, Origin, Sample
from ...runs.directory import RunDir
from ...runs.loop import ANSWERS, PAIRS, TRAINING, iteration_of
from ...runs.published.pair_set import PairSet
from .material import samples_of

COLUMNS = ("id", "prompt", "chosen", "rejected", "chosen_from", "rejected_from")
SCHEMA = pa.schema(
    [
        *(PAIR_SCHEMA.field(name) for name in COLUMNS),
        pa.field("kind", pa.string()),
        pa.field("chosen_iteration", pa.int64()),
        pa.field("rejected_iteration", pa.int64()),
    ]
)
"""`kind` is `pair` or one of DITTO's; an iteration is whose sample it is, None a demonstration."""
Row = dict[str, Any]
Lazy = Callable[[], Row]


def write_training(
    run: RunDir, recipe: LoopRecipe, number: int, *, batch: int, seed: int
) -> dict[str, int]:
    """Write the rows that an iteration is trained on, in batches of one size; how many they are."""
    if recipe.trains_on == "comparisons":
        drawn = list(_batches(run, recipe, number, batch=batch, seed=seed))
        rows = [row | {"kind": kind} for one in drawn for kind, row in one]
        size = len(drawn[0]) if drawn else 0
    else:
        first = max(number - 1, 1) if recipe.trains_on == "last two" else number
        rows = [row | {"kind": "pair"} for n in range(first, number + 1) for row in _pairs(run, n)]
        size = min(batch, len(rows))
    path = iteration_of(run, number).path / TRAINING
    write_parquet(path, pa.Table.from_pylist(rows, SCHEMA))
    return {"rows": len(rows), "batch": size}


def _pairs(run: RunDir, number: int) -> Iterator[Row]:
    """An iteration's pairs, as rows."""
    for row in PairSet(iteration_of(run, number).path / PAIRS).rows():
        demonstrated = row["source"] == "demonstrations"
        numbers = {"chosen_iteration": None if demonstrated else number}
        yield {name: row[name] for name in COLUMNS} | numbers | {"rejected_iteration": number}


# --- DITTO's comparisons --------------------------------------------------------------------------


def _batches(
    run: RunDir, recipe: LoopRecipe, number: int, *, batch: int, seed: int
) -> Iterator[list[tuple[Kind, Row]]]:
    pools: dict[Kind, Sequence[Lazy]] = {
        "online": [partial(dict, row) for row in _pairs(run, number)],
        "replay": [partial(dict, row) for n in range(1, number) for row in _pairs(run, n)],
        "intermodel": list(_between(run, number)),
    }
    steps = recipe.max_steps or 1
    if pools["online"]:
        for one in batches(pools, size=batch, number=steps, seed=f"{seed}:{number}"):
            yield [(kind, make()) for kind, make in one]


def _between(run: RunDir, number: int) -> Iterator[Lazy]:
    """A later model's sample over an earlier one's, for the same prompt."""
    samples = {n: _by_prompt(run, n) for n in range(1, number + 1)}
    for later in samples:
        for earlier in range(1, later):
            for id, chosen in samples[later].items():
                for good, bad in product(chosen, samples[earlier].get(id, ())):
                    if good.output.strip() != bad.output.strip():
                        yield partial(_comparison, good, bad, later, earlier)


def _by_prompt(run: RunDir, number: int) -> dict[str, list[Sample]]:
    """The samples that may be a side of a pair, by their prompt's id."""
    found: dict[str, list[Sample]] = {}
    for sample in samples_of(iteration_of(run, number).path / ANSWERS):
        broken = incomplete(sample.finish_reason)
        if sample.output.strip() and (broken is None or broken[0] == "ok"):
            found.setdefault(sample.id, []).append(sample)
    return found


def _comparison(good: Sample, bad: Sample, later: int, earlier: int) -> Row:
    return {
        "id": good.id,
        "prompt": good.prompt.messages,
        "chosen": [{"role": "assistant", "content": good.output}],
        "rejected": [{"role": "assistant", "content": bad.output}],
        "chosen_from": _origin(good),
        "rejected_from": _origin(bad),
        "chosen_iteration": later,
        "rejected_iteration": earlier,
    }


def _origin(one: Sample) -> Row:
    origin = Origin(sample=one.sample, model=one.model, reply_key=one.reply_key)
    return {name: getattr(origin, name) for name in Origin.__slots__}
