"""What commands say of their results, on stdout."""

from collections.abc import Iterable, Mapping
from json import dumps
from typing import Any


def print_counts(title: str, counts: Mapping[str, int]) -> None:
    """Names with their numbers, those of none left out."""
    shown = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if number)
    print(f"{title}: {shown or 'none'}")


def print_reflected(result: Any) -> None:
    """What was asked and what became of it."""
    print(
        f"reflected {result.records} records into {result.run}: "
        f"{result.asked} replies asked for, {result.reused} taken from the journal, "
        f"{result.tokens[0]} prompt and {result.tokens[1]} completion tokens in all"
    )
    print_counts("candidates", result.statuses)


def print_selected(result: Any) -> None:
    """How many were kept, of which versions, and where they are."""
    counts = result.counts
    print(f"selected {counts['selected']} of {counts['records']} records: {result.selected}")
    print_counts("kept versions", counts["by_candidate"])
    print_counts("filter", counts["by_rule"])
    if counts.get("contaminated"):
        print_counts("contaminated, by evaluation set", counts["contaminated"])
    print_counts("scores", counts["scores"])
    print(f"rejected rows, each with its reason: {result.rejected}")
    print(f"originals to compare with, as many as were selected: {result.baselines}")


def print_training(result: Any) -> None:
    """What was trained, and the held-out loss where it was measured."""
    done = "already trained" if result.already_trained else "trained"
    print(f"{done} on {result.rows} rows in {result.steps} steps: {result.out}")
    if result.held_out_before is not None:
        print(
            f"held-out loss (nats a response token, {result.held_out_rows} rows): "
            f"{result.held_out_before:.4f} before, {result.held_out_after:.4f} after"
        )


def print_outcome(fields: Mapping[str, Any], lines: Iterable[str], json: bool) -> None:
    """A result for programs or for people."""
    print(dumps(fields, indent=2, ensure_ascii=False) if json else "\n".join(lines))


def print_judged(result: Any) -> None:
    """Who was compared, and where the verdicts are."""
    print(
        f"{result.models[0]} against {result.models[1]}: {result.asked} replies asked for, "
        f"{result.reused} taken from the journal; unmatched rows: {result.left[0]} of the first, "
        f"{result.left[1]} of the second"
    )
    print(f"verdicts: {result.out}")
