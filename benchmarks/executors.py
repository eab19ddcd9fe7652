"""Two workers beside one, on Ray and without it, in one run: `python benchmarks/executors.py`.

A compute-bound load: a student of random weights scores what a selection compares, in shards of a
few records. A worker has one thread. The clock begins when all workers have loaded the student and
ends with the last shard; the repeats are interleaved. Needs Ray and two idle cores.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from scoring import SHAPES, candidates, make_student

RESULTS = Path(__file__).parent / "results" / "executors-cpu.md"
Taken = tuple[float, float]


def timed_worker(
    device: str, workers: int, log: Path, run: Any, *given: Any
) -> Callable[[Path], None]:
    """A worker of `student/scorefiles.py` that waits for the others and notes when it works."""
    import torch

    from curate.pipeline.scoring.score_files import ScoreFiles, shard_worker

    torch.set_num_threads(1)
    fill = shard_worker(device, run, *given)
    warm = run.shard_paths()[-1]  # one that is not counted: it loads the student
    (ScoreFiles(run, given[1]).folder / warm.name).unlink(missing_ok=True)
    fill(warm)
    (log / f"ready-{os.getpid()}").touch()
    while len(list(log.glob("ready-*"))) < workers:
        time.sleep(0.01)

    def work(shard: Path) -> None:
        begun, cpu = time.time(), time.process_time()
        fill(shard)
        ended = f"{time.time()} {os.getpid()} {cpu} {time.process_time()}"
        (log / shard.stem).write_text(f"{begun} {ended}")

    return work


def span(log: Path) -> Taken:
    """Seconds from the first shard's beginning to the last one's end, and of all processors."""
    times = [tuple(map(float, path.read_text().split())) for path in log.glob("part-*")]
    begun, ended, workers, *_ = zip(*times, strict=True)
    cpu = 0.0
    for worker in set(workers):  # which has two shards in hand, so that their spans overlap
        of_worker = [one for one in times if one[2] == worker]
        cpu += max(one[4] for one in of_worker) - min(one[3] for one in of_worker)
    return max(ended) - min(begun), cpu


def split(data: Path, folder: Path, size: int) -> Any:
    """A run with shards of so many records."""
    from curate.pipeline.records import Candidate
    from curate.pipeline.runs.directory import RunDir

    rows = [Candidate(status="ok", **json.loads(line)) for line in data.open()]
    run = RunDir.create(folder / "sharded", {"command": "benchmark"})
    step = 4 * size
    for index, begin in enumerate(range(0, len(rows), step)):
        run.write_shard(index, rows[begin : begin + step])
    return run


def measure(executor: Callable[..., Iterator[Path]], workers: int, run: Any, given: Any) -> Taken:
    """Seconds that so many workers take for all shards."""
    shutil.rmtree(run.path / "scores", ignore_errors=True)
    with tempfile.TemporaryDirectory() as log:
        arguments = (workers, Path(log), run, run.config["id"], *given)
        shards = run.shard_paths()[:-1]
        done = list(executor(setup=timed_worker, arguments=arguments, items=shards))
        assert sorted(done) == shards
        return span(Path(log))


def main() -> None:
    """Measure and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=192)
    parser.add_argument("--shard", type=int, default=12, help="records of a shard")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    options = parser.parse_args()

    from curate.pipeline.config import ScoringConfig
    from curate.pipeline.executors.processes import over_processes
    from curate.pipeline.executors.ray_cluster import connected, over_ray
    from curate.pipeline.scoring.identity import resolve

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, connected():
        folder = Path(name)
        student = make_student(folder, options.shape, "float32")
        run = split(candidates(folder, options.records + options.shard), folder, options.shard)
        config = ScoringConfig(student=str(student), device="cpu")
        given = (resolve(config, run.path), config, None)
        systems: dict[str, tuple[Callable[..., Iterator[Path]], int]] = {
            "one Ray worker": (partial(over_ray, device="cpu", workers=1), 1),
            "two Ray workers": (partial(over_ray, device="cpu", workers=2), 2),
            "one process": (partial(over_processes, devices=["cpu"]), 1),
            "two processes": (partial(over_processes, devices=["cpu", "cpu"]), 2),
        }
        taken: dict[str, list[Taken]] = {system: [] for system in systems}
        for _ in range(options.repeats):
            for system, (executor, workers) in systems.items():
                taken[system].append(measure(executor, workers, run, given))
                print(system, taken[system][-1], os.getloadavg(), file=sys.stderr)
    report(options, taken, load)


def report(options: Any, taken: dict[str, list[Taken]], load: float) -> None:
    """Write what was measured."""
    lines = ["# Two workers beside one", "", f"`python benchmarks/executors.py {' '.join(sys.argv[1:])}`".replace(" `", "`"), "",
             f"{date.today()}; Python {platform.python_version()}, Ray {metadata.version('ray')}, torch {metadata.version('torch')}; "
             f"{os.cpu_count()} cores, load average before {load:.1f}, after {os.getloadavg()[0]:.1f}. {options.records} records of four candidates in shards of "
             f"{options.shard}, a student of {options.shape}; one thread a worker; medians of {options.repeats}, interleaved.", "",
             "| | s (min to max) | records/s | of one | processor s a record |", "|---|---|---|---|---|"]  # fmt: skip
    for system, done in taken.items():
        one = taken[
            system.replace("two", "one")
            .replace("workers", "worker")
            .replace("processes", "process")
        ]
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(one, done, strict=True))
        seconds, cpu = [s for s, _ in done], statistics.median(c for _, c in done)
        middle = statistics.median(seconds)
        lines.append(f"| {system} | {middle:.1f} ({min(seconds):.1f} to {max(seconds):.1f}) | {options.records / middle:.1f} "
                     f"| {ratio:.2f}x | {cpu / options.records:.3f} |")  # fmt: skip
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
