"""Processor time of `curate select` with all scores stored and another threshold, beside an older version.

`git worktree add OLD COMMIT && python benchmarks/redecide.py OLD`: each version selects from the same
candidates once (not measured), then again with other thresholds. The cost a record is the slope between two
sizes, so that loading the libraries is not in it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "redecide-cpu.md"
WORDS = (ROOT / "README.md").read_text("utf-8").split()
WORDS_IN = {
    "original": (12, 55),
    "instruction": (40, 120),
    "response": (12, 110),
    "both": (40, 150),
}
"""The mean numbers of words in a candidate's instruction and response, as in reflected Alpaca."""
SCORING = ("--device", "cpu", "--template", "wizardlm", "--max-length", "1024")
STUDENT = """
import sys
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
demo, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(demo)
config = LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, intermediate_size=8, vocab_size=len(tokenizer),
                     max_position_embeddings=2048, tie_word_embeddings=True,
                     bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
LlamaForCausalLM(config).save_pretrained(out)
tokenizer.save_pretrained(out)
"""


def candidates(records: int) -> Iterator[dict[str, Any]]:
    """Four candidates a record, with two further columns."""
    for number in range(records):
        rng = random.Random(number)
        for kind, (asked, answered) in WORDS_IN.items():
            texts = {
                name: " ".join(rng.choices(WORDS, k=1 + int(rng.expovariate(1 / mean))))
                for name, mean in (("instruction", asked), ("output", answered))
            }
            yield {
                "id": f"{number:08d}",
                "candidate": kind,
                **texts,
                "source": "words",
                "n": number,
            }


def run_curate(tree: Path, home: Path, *words: str) -> float:
    """Run a tree's `curate` with these words; its processor seconds."""
    program = f"import sys; sys.path.insert(0, {str(packages(tree, home))!r}); "
    program += "from curate.cli import main; main()"
    with (home / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", program, *words], stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((home / "log.txt").read_text("utf-8"))
    return used.ru_utime + used.ru_stime


def packages(tree: Path, home: Path) -> Path:
    """A folder on the path in which the package is this tree."""
    folder = home / f"tree-{tree.resolve().name}"
    folder.mkdir(exist_ok=True)
    if not (folder / "curate").exists():
        (folder / "curate").symlink_to(tree.resolve())
    return folder


def prepared(tree: Path, home: Path, data: Path) -> Path:
    """A run with every score stored."""
    run = home / f"{packages(tree, home).name}-{data.stem}"
    student = str(home / "student")
    run_curate(tree, home, "select", str(data), "--out", str(run), "--student", student, *SCORING,
               "--score-all")  # fmt: skip
    return run


def deciding(tree: Path, home: Path, run: Path, limit: float) -> float:
    """Processor seconds of one more decision."""
    student = str(home / "student")
    return run_curate(tree, home, "select", str(run), "--student", student, *SCORING, "--max-ifd",
                      str(limit), "--max-rifd", str(limit))  # fmt: skip


def counts(run: Path) -> dict[str, Any]:
    """What the last selection kept."""
    stages = json.loads((run / "manifest.json").read_text("utf-8"))["stages"]
    (entry,) = (entry for name, entry in stages.items() if name.startswith("select/"))
    found = entry["counts"]
    return {
        name: found[name]
        for name in ("selected", "rejected", "by_candidate", "by_rule", "baselines")
    }


def compared(
    trees: dict[str, Path], home: Path, sizes: list[int], repeats: int
) -> dict[str, list[float]]:
    """Of each version the median processor seconds at each size."""
    found: dict[str, list[float]] = {name: [] for name in trees}
    for size in sizes:
        data = home / f"{size}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in candidates(size)), "utf-8")
        runs = {name: prepared(tree, home, data) for name, tree in trees.items()}
        seconds: dict[str, list[float]] = {name: [] for name in trees}
        for turn in range(repeats):
            for name, tree in trees.items():
                seconds[name].append(deciding(tree, home, runs[name], 1.0 + 0.001 * turn))
                print(size, name, f"{seconds[name][-1]:.2f}", file=sys.stderr, flush=True)
        first, *others = (counts(run) for run in runs.values())
        assert all(other == first for other in others), (first, others)
        for name in trees:
            found[name].append(statistics.median(seconds[name]))
    return found


def table(found: dict[str, list[float]], sizes: list[int]) -> Iterator[str]:
    """A row a version, and the ratio."""
    yield (
        "| version | " + " | ".join(f"{size:,} records, s" for size in sizes) + " | a record, ms |"
    )
    yield "|---" * (len(sizes) + 2) + "|"
    cost = {name: 1000 * (s[-1] - s[0]) / (sizes[-1] - sizes[0]) for name, s in found.items()}
    for name, seconds in found.items():
        shown = " | ".join(f"{one:.2f}" for one in seconds)
        yield f"| {name} | {shown} | {cost[name]:.3f} |"
    older, newer = cost.values()
    yield f"\nThe newer version takes {newer / older:.2f} of the older one's time a record."


def main() -> None:
    """Measure both versions and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("older", type=Path, help="a checkout of the older version")
    parser.add_argument("--sizes", type=int, nargs=2, default=[1_000, 6_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    commit = subprocess.run(["git", "-C", str(given.older), "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    trees = {f"older ({commit})": given.older, "this version": ROOT}
    with tempfile.TemporaryDirectory(prefix="redecide-") as name:
        home = Path(name)
        words = [
            sys.executable,
            "-c",
            STUDENT,
            str(ROOT / "data/demo/student"),
            str(home / "student"),
        ]
        subprocess.run(words, check=True, capture_output=True)
        found = compared(trees, home, given.sizes, given.repeats)
    text = "\n".join([
        "# Another threshold with all scores stored, CPU", "",
        "`python benchmarks/redecide.py OLDER " + f"--sizes {given.sizes[0]} {given.sizes[1]}`, OLDER at `{commit}`", "",
        f"{date.today()}; {os.cpu_count()} cores, shared, load average {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, pyarrow {version('pyarrow')}. Processor seconds of the whole process, median of "
        f"{given.repeats}. Records have four candidates of the lengths of reflected Alpaca and two further columns; "
        "both versions keep the same rows.", "",
        *table(found, given.sizes), "",
    ])  # fmt: skip
    given.out.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
