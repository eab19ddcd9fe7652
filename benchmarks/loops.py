"""`curate improve` on the demo student, all recipes: `python benchmarks/loops.py`.

Self-rewarding takes the student's own r-IFD as reward, which favours answers that repeat their
prompt: the share of a prompt's words that its answer takes up is counted beside the held-out loss.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from curate.pipeline import improve
from curate.pipeline.method.loops.measures import Measures

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "data" / "demo"
RESULTS = Path(__file__).parent / "results" / "loops-demo-cpu.md"
SHARED: dict[str, Any] = {"model": str(DEMO / "student"), "preset": "demo", "min_pairs": 1}
LOOPS: dict[str, dict[str, Any]] = {
    "self-rewarding": {
        "reward": "rifd",
        "no_sft": True,
        "num_prompts": 16,
        "iterations": 5,
        "max_tokens": 96,
        "learning_rate": 4e-4,
        "batch_size": 4,
        "epochs": 2,
    },
    "spin": {"limit": 8, "iterations": 1, "max_tokens": 96, "learning_rate": 1e-4},
    "ditto": {
        "limit": 4,
        "iterations": 2,
        "max_tokens": 96,
        "samples": 3,
        "max_steps": 3,
        "sft_learning_rate": 3e-4,
        "learning_rate": 1e-5,
    },
}
COLUMNS = {
    "pairs": "d", "reward": ".3f", "taken_up": ".3f", "held_out_loss": ".4f", "length": ".0f",
    "cut": ".2f", "distinct": ".3f",
}  # fmt: skip


def main() -> None:
    """Run the loops, and write what they measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", type=int, default=12, help="held-out records to measure on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        held_out = Path(folder) / "held-out.jsonl"
        with (DEMO / "heldout.jsonl").open(encoding="utf-8") as lines:
            held_out.write_text("".join(islice(lines, arguments.held_out)), "utf-8")
        text = "\n".join(_page(Path(folder), held_out))
    RESULTS.write_text(text + "\n", "utf-8")
    print(text)


def _page(folder: Path, held_out: Path) -> Iterator[str]:
    yield "# `curate improve` on the demo student"
    command = " ".join(["python", "benchmarks/loops.py", *sys.argv[1:]])
    yield f"\n`{command}`: one seed. Loss, length and shares are of the first held-out records,"
    yield "greedy answers; rewards are of the samples trained on. `taken_up` is the share of a"
    yield "prompt's words of four letters and more that its answer repeats. The reward of"
    yield "self-rewarding, r-IFD, favours echoing, not quality. Of `spin` and `ditto` this shows the"
    yield "machinery; no gain is claimed.\n"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    load = os.getloadavg()[0]
    yield (
        f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, {os.cpu_count()} cores, load average "
        f"{load:.1f}; python {platform.python_version()}, {libraries}."
    )
    for recipe, options in LOOPS.items():
        yield from _loop(recipe, options, folder / recipe, held_out)


def _loop(recipe: str, options: dict[str, Any], out: Path, held_out: Path) -> Iterator[str]:
    begun = time.process_time()
    data = str(DEMO / "records.jsonl")
    given = {**SHARED, **options, "recipe": recipe, "held_out": str(held_out), "out": str(out)}
    found = improve(data, **given)
    seconds = (time.process_time() - begun) / len(found.measured)
    named = " ".join(f"{name}={value}" for name, value in options.items())
    yield f"\n## {recipe}\n\n`{named}`\n\n| iteration | {' | '.join(COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for one in found.measured:
        yield f"| {one.iteration} | {' | '.join(_cells(one))} |"
    yield f"\n{seconds:.0f} processor seconds an iteration. Best: iteration {found.best}."
    yield f"Stopped: {found.stopped}." if found.stopped else "Not stopped."


def _cells(one: Measures) -> Iterator[str]:
    for name, form in COLUMNS.items():
        value = getattr(one, name)
        yield "-" if value is None else f"{value:{form}}"


if __name__ == "__main__":
    main()
