"""What commands say of their results, line by line."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..base.processes.sharding import WHOLE, Share
from ..base.tables import many

if TYPE_CHECKING:
    from ..stages.exporting.stage import ExportResult
    from ..stages.generation.stage import Generated
    from ..stages.judging import Judged
    from ..stages.pairs.stage import PairsResult
    from ..stages.reflection.stage import ReflectResult
    from ..stages.scoring import ScoreResult
    from ..stages.selection.stage import SelectResult, ShareResult
    from ..training.folder.publication import TrainingResult
    from ..workflows.demo import DemoResult
    from ..workflows.run import StageResult


def counts(title: str, numbers: Mapping[str, int]) -> str:
    """Names with their numbers, those of none left out."""
    shown = ", ".join(f"{number:,} {name}" for name, number in sorted(numbers.items()) if number)
    return f"{title}: {shown or 'none'}"


def reflected(result: "ReflectResult", share: Share = WHOLE) -> Iterator[str]:
    """What was asked and what became of it."""
    yield (
        f"reflected {result.records:,} records into {result.run}: "
        f"{result.asked:,} replies asked for, {result.reused:,} taken from the journal, "
        f"{result.tokens[0]:,} prompt and {result.tokens[1]:,} completion tokens in all"
    )
    yield counts("candidates", result.statuses)
    if result.waiting:
        yield (
            f"share {share} is done; {result.waiting} shards of other tasks are missing: the task "
            "that makes the last one finishes the run"
        )


def selected(result: "SelectResult") -> Iterator[str]:
    """How many were kept, of which versions, and where they are."""
    found = result.counts
    yield f"selected {found['selected']:,} of {found['records']:,} records: {result.selected}"
    yield counts("kept versions", found["by_candidate"])
    yield counts("filter", found["by_rule"])
    if found.get("contaminated"):
        yield counts("contaminated, by evaluation set", found["contaminated"])
    yield counts("scores", found["scores"])
    yield f"rejected rows, each with its reason: {result.rejected}"
    yield f"originals to compare with, as many as were selected: {result.baselines}"


def chosen(result: "SelectResult | ShareResult", share: Share) -> Iterator[str]:
    """What was selected, or what one of several tasks scored for it."""
    from ..stages.selection.stage import SelectResult

    if isinstance(result, SelectResult):
        yield from selected(result)
    else:
        yield (
            f"scored share {share}, {result.records} records: {result.run}; when all tasks have "
            "ended, the same command with --shard all decides"
        )


def scored(result: "ScoreResult") -> Iterator[str]:
    """How many rows have which status."""
    done = "already scored" if result.already_done else "scored"
    yield f"{done} {many(result.rows, 'row')}: {result.out}"
    yield counts("scores", result.statuses)


def trained(result: "TrainingResult") -> Iterator[str]:
    """What was trained, and the held-out loss where it was measured."""
    done = "already trained" if result.already_trained else "trained"
    yield f"{done} on {many(result.rows, 'row')} in {many(result.steps, 'step')}: {result.out}"
    if result.pushed is not None:
        yield f"pushed: {result.pushed}"
    if result.held_out_before is not None:
        yield (
            f"held-out loss (nats a response token, {many(result.held_out_rows, 'row')}): "
            f"{result.held_out_before:.4f} before, {result.held_out_after:.4f} after"
        )
        yield (
            f"in bits a character ({result.held_out_characters} characters): "
            f"{result.held_out_bits_per_character_before:.4f} before, "
            f"{result.held_out_bits_per_character_after:.4f} after"
        )


def aligned(result: "TrainingResult") -> Iterator[str]:
    """What was trained, what became of the pairs, and how the curves begin and end."""
    yield from trained(result)
    yield counts("pairs left out", result.dropped)
    for name, (first, last) in (result.preferences or {}).items():
        yield f"{name.replace('_', ' ')}: {first:z.4f} at the first step, {last:z.4f} at the last"


def stage(result: "StageResult") -> Iterator[str]:
    """What one stage of a whole run did."""
    from ..stages.reflection.stage import ReflectResult
    from ..stages.selection.stage import SelectResult

    if isinstance(result, ReflectResult):
        return reflected(result)
    return selected(result) if isinstance(result, SelectResult) else trained(result)


def generated(result: "Generated") -> Iterator[str]:
    """How many answers there are, and what is not whole."""
    yield (
        f"wrote {result.answers} answers ({result.format}): {result.out}; {result.asked} replies "
        f"asked for, {result.reused} taken from the journal"
    )
    yield counts(
        "not whole",
        {
            "cut at --max-tokens (--retry truncated asks again)": result.cut,
            "rows without a question": result.rejected,
            **{f"failed: {reason}": number for reason, number in result.failed.items()},
        },
    )


def exported(result: "ExportResult") -> Iterator[str]:
    """The files, and where on the hub."""
    yield f"exported {result.rows} rows: {result.out} ({', '.join(result.files)})"
    if result.pushed is not None:
        yield f"pushed: {result.pushed}"


def judged(result: "Judged") -> Iterator[str]:
    """Who was compared, and where the verdicts are."""
    yield (
        f"{result.models[0]} against {result.models[1]}: {result.asked} replies asked for, "
        f"{result.reused} taken from the journal; unmatched rows: {result.left[0]} of the first, "
        f"{result.left[1]} of the second"
    )
    yield f"verdicts: {result.out}"


def paired(result: "PairsResult") -> Iterator[str]:
    """How many pairs there are, what length alone tells of them, and what is no pair."""
    found, done = result.counts, "already made" if result.already_made else "made"
    yield f"{done} {found['pairs']} pairs: {result.out}"
    yield counts("left out", found["left_out"])
    if found["pairs"]:
        yield (
            f"the chosen answer is longer in {found['chosen_longer']} and shorter in "
            f"{found['chosen_shorter']} pairs; AUC of length alone {found['length_auc']:.3f}"
        )
    yield f"what was left out, each with its reason: {result.out / 'left_out'}"


def demonstrated(result: "DemoResult") -> Iterator[str]:
    """What became of the demo's records, and what to do next."""
    from ..workflows.demo import table

    yield "\nWhat became of the records\n"
    yield from table(result)
    for number, (instruction, before, after) in enumerate(result.examples, 1):
        yield f"\nExample {number}: {instruction}\n  before: {before}\n  after:  {after}"
    yield ""
    yield from selected(result.run.selected)
    if result.run.finetuned is not None:
        yield from trained(result.run.finetuned)
    run = result.run.selected.run
    yield (
        f"\nWhy did a record come out as it did?   curate explain {run} demo-101\n"
        f"All of it as one page to look at:       curate report {run}\n"
        "Next, with a teacher and a student of your own:\n"
        "  curate run DATA.jsonl --out RUN --teacher MODEL --base-url http://localhost:8000/v1 "
        "--student MODEL --preset paper-7b"
    )
