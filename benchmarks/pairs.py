"""How long `curate pairs` takes on a run with stored scores: `python benchmarks/pairs.py`.

The run is of random words and random scores: all four candidates, both branches scored. The stage
runs as a process of its own, on `--first` records and on `--records`; then the same records lie in
half as many shards in the opposite order, and must give the same pairs.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from curate.pipeline.records import CANDIDATES, Candidate, Score
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published.arrow_set import batches
from curate.pipeline.scoring.identity import ScoringIdentity
from curate.pipeline.scoring.score_files import ScoreFiles

RESULTS = Path(__file__).parent / "results" / "pairs-cpu.md"
SHARD = 1000
WORDS = [
    "a",
    "record",
    "of",
    "random",
    "words",
    "that",
    "no",
    "one",
    "reads",
    "but",
    "the",
    "program",
    "which",
    "makes",
    "pairs",
]
STAGE = """
import sys
from pathlib import Path
from curate.pipeline.config import InputConfig, PairsConfig
from curate.pipeline.stages.pairs.stage import pairs
run, out = sys.argv[1:]
config = PairsConfig(input=InputConfig(data=run), out=Path(out), min_margin=0.01, balance_length=True)
print(pairs(config).counts)
"""


def identity() -> ScoringIdentity:
    return ScoringIdentity(
        student="random", revision="0", template="vicuna", tokenization="exact",
        max_length=2048, dtype="float32",
    )  # fmt: skip


def record(number: int) -> tuple[dict[Any, Candidate], dict[Any, Score]]:
    """Four candidates of 10 to 200 words and their scores, from the record's number alone."""
    random = Random(number)

    def words() -> str:
        return " ".join(random.choices(WORDS, k=random.randint(10, 200)))

    id, first, second = f"r{number:08}", words(), words()
    candidates, scores = {}, {}
    for kind in CANDIDATES:
        instruction = first if kind in ("original", "response") else second
        candidates[kind] = Candidate(
            id=id, candidate=kind, instruction=instruction, input="", output=words(),
            teacher="teacher", reply_key=f"{number:032x}",
        )  # fmt: skip
        given, alone = random.uniform(1, 3), 2.5
        scores[kind] = Score(
            id=id, candidate=kind, nll_instruction=alone, nll_instruction_given_response=given,
            rifd=2.718281828 ** (given - alone), rifd_status="ok", num_instruction_tokens=100,
        )  # fmt: skip
    return candidates, scores


def write_run(path: Path, numbers: list[int], shard: int) -> Path:
    run = RunDir.create(path, {"command": "select", "input": "random"})
    files = ScoreFiles(run, identity())
    for index, begin in enumerate(range(0, len(numbers), shard)):
        made = [record(number) for number in numbers[begin : begin + shard]]
        run.write_shard(index, [one for candidates, _ in made for one in candidates.values()])
        files.write(run.shard_path(index), [c for c, _ in made], [s for _, s in made])
    run.finish_stage("import", {"records": len(numbers)})
    return path


def measured(run: Path, out: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and MiB of a process of its own."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", STAGE, run, out], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    seconds = time.perf_counter() - begun
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def rows(out: Path) -> Iterator[tuple[str, str, str]]:
    for batch in batches(out):
        for row in batch.to_pylist():
            yield row["id"], row["chosen"][0]["content"], row["rejected"][0]["content"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--work", help="A folder for the runs.")
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        for number in (given.first, given.records):
            run = write_run(work / f"run-{number}", list(range(number)), SHARD)
            wall, processor, memory = measured(run, work / f"pairs-{number}")
            pairs = sum(batch.num_rows for batch in batches(work / f"pairs-{number}"))
            lines.append(
                f"| {number:,} | {pairs:,} | {wall:.1f} | {processor:.1f} | {memory:.0f} MiB |"
            )
        numbers = list(range(given.records))[::-1]
        other = write_run(work / "other", numbers, 2 * SHARD)
        measured(other, work / "pairs-other")
        assert sorted(rows(work / f"pairs-{given.records}")) == sorted(rows(work / "pairs-other"))
    load = f"load average {os.getloadavg()[0]:.1f}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "numpy"))
    text = "\n".join(
        [
            "# `curate pairs` of a run with stored scores",
            "",
            f"`python benchmarks/pairs.py --records {given.records}`: four candidates a record, both "
            "branches scored, `--min-margin 0.01 --balance-length`.",
            "",
            f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, {os.cpu_count()} cores, {load}; "
            f"python {platform.python_version()}, {versions}.",
            "",
            "| records | pairs | wall s | processor s | peak memory |",
            "|---|---|---|---|---|",
            *lines,
            "",
            "The command computes on one core: beside others, as the load says, wall time is longer than",
            "processor time.",
            "The same records in the opposite order and half as many shards gave the same pairs.",
            "",
        ]
    )
    RESULTS.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
