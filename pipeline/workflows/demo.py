"""`curate demo`: the whole job on data, replies and a student that come with the package."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import InputConfig, ModelConfig, ReflectConfig, ScoringConfig, SelectConfig
from ..config.shared.training import FinetuneConfig
from ..runs.directory import RunDir
from ..runs.published.arrow_set import read_rows
from .run import RunResult, run

DEMO = Path(__file__).parents[2] / "data" / "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the run did, and examples of replaced responses as (instruction, before, after)."""

    run: RunResult
    examples: list[tuple[str, str, str]]


def demo(out: Path) -> DemoResult:
    """Reflect with recorded replies, select with the shipped student, fine-tune it."""
    student = str(DEMO / "student")
    scoring = ScoringConfig(student=student, device="cpu")
    done = run(
        ReflectConfig(
            input=InputConfig(data=str(DEMO / "records.jsonl")),
            teacher=ModelConfig(engine="recorded", replies=DEMO / "replies.jsonl"),
            out=out,
        ),
        SelectConfig(input=InputConfig(data=str(out)), scoring=scoring),
        FinetuneConfig(
            model=student,
            out=out / "model",
            preset="demo",
            held_out_data=str(DEMO / "heldout.jsonl"),
        ),
    )
    return DemoResult(run=done, examples=list(_examples(done)))


def _examples(done: RunResult, number: int = 3) -> Iterator[tuple[str, str, str]]:
    """Kept records whose response was replaced, those with the largest fall of r-IFD first."""
    rows = read_rows(done.selected.selected)
    originals = {group[0].id: group[0] for group in RunDir.open(done.selected.run).records()}
    improved = [row for row in rows if row["candidate"] in ("response", "both")]
    for row in sorted(improved, key=_fall)[:number]:
        before = originals[row["id"]]
        yield row["instruction"], before.output or "", row["output"]


def _fall(row: dict[str, Any]) -> float:
    decision = row["decision"]
    return float(decision["rifd_challenger"] - decision["rifd_incumbent"])


def table(result: DemoResult) -> Iterator[str]:
    """What a person wants to know: how many records came out how, and why."""
    counts = result.run.selected.counts
    kept: Counter[str] = Counter(counts["by_candidate"])
    dropped = {k: n for k, n in counts["by_rule"].items() if k != "kept"}
    lines = [
        (counts["records"], "records given to the teacher"),
        (kept["original"], "kept as they were"),
        (kept["instruction"], "kept with a new instruction and its answer"),
        (kept["response"], "kept with a better response"),
        (kept["both"], "kept with a new instruction and a better response"),
        *((number, _why(rule)) for rule, number in sorted(dropped.items())),
    ]
    for number, text in lines:
        yield f"{number:6d}  {text}"


def _why(rule: str) -> str:
    return "dropped: " + {
        "ifd_not_below_max": "the instruction does not help to produce the response (IFD >= 1)",
        "rifd_not_below_max": "the response does not lead to the instruction (r-IFD >= 1)",
        "ifd_unscored": "no IFD",
        "rifd_unscored": "no r-IFD",
        "not_improved": "the response was not replaced",
        "below_top": "outside the budget",
    }.get(rule, rule)
