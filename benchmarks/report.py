"""How long `curate report` takes on many records, and how large its page is.

The run is made from a real one by repeating its records under new ids, with texts and scores varied
a little so that nothing is equal: `python benchmarks/report.py RUN --records 52000`.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.base.checksums import with_checksum
from curate.pipeline.base.files import write_json, write_parquet
from curate.pipeline.runs.decisions import DecisionFiles
from curate.pipeline.runs.directory import RunDir

RESULTS = Path(__file__).parent / "results" / "report-cpu.md"
SHARD = 1000


def repeated(table: pa.Table, place: int, rng: np.random.Generator) -> pa.Table:
    """The rows once more: other ids, longer texts, moved scores."""
    for name in table.column_names:
        column = table.column(name)
        if name == "id":
            column = pc.binary_join_element_wise(f"{place:05d}", column, "-")
        elif name in ("instruction", "output"):
            tail = " ".join(rng.choice(WORDS, rng.integers(1, 80)))
            column = pc.binary_join_element_wise(column, tail, " ")
        elif name in ("ifd", "rifd"):
            column = pc.multiply(column, pa.array(rng.normal(1, 0.05, len(table))))
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return table


WORDS = np.array(["the", "of", "a", "red", "old", "river", "stone", "answer", "reason", "often"])


def grown(tables: list[pa.Table], records: int, own: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    copies = -(-records // own)
    whole = pa.concat_tables(repeated(t, place, rng) for place in range(copies) for t in tables)
    keep = pc.unique(whole.column("id"))[:records]
    return whole.filter(pc.is_in(whole.column("id"), keep))


def write_shards(folder: Path, table: pa.Table) -> None:
    ids = table.column("id").combine_chunks()
    first = np.flatnonzero(
        np.r_[True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)]
    )
    starts = [*first[::SHARD], len(table)]
    for index, (begin, end) in enumerate(pairwise(starts)):
        write_parquet(folder / f"part-{index:05d}.parquet", table.slice(begin, end - begin))


def make(source: RunDir, target: Path, records: int) -> None:
    """A run of so many records, of the same proportions."""
    own = source.num_records or 0
    shards = [pq.read_table(path) for path in source.shard_paths()]
    write_shards(target / "candidates", grown(shards, records, own, 0))
    (scores,) = (source.path / "scores").iterdir()
    tables = [pq.read_table(path) for path in sorted(scores.glob("*.parquet"))]
    write_shards(target / "scores" / scores.name, grown(tables, records, own, 1))
    write_json(target / "scores" / scores.name / "config.json", {"student": scores.name})
    write_json(target / "config.json", source.config)
    entry = source.stage(f"select/{scores.name}") or {}
    stages = {"reflect": {**(source.stage("reflect") or {}), "records": records, "input": None}}
    manifest = {name: value for name, value in source.manifest.items() if name != "check"}
    decisions = DecisionFiles.of(source, scores.name)
    decided = grown([table for _, table in decisions.shards()], records, own, 2)
    kept = pc.sum(pc.is_null(decided.column("reason"))).as_py()
    counts = {
        "sequences": 8 * records,
        "records": records,
        "selected": kept,
        "rejected": records - kept,
    }
    stages[f"select/{scores.name}"] = {**entry, "counts": counts}
    write_json(target / "manifest.json", with_checksum({**manifest, "stages": stages}))
    write_shards(target / "decisions" / scores.name, decided)
    rows = pa.concat_tables(
        pa.ipc.open_stream(str(path)).read_all()
        for path in sorted((source.path / "selected" / scores.name).glob("*.arrow"))
    ).replace_schema_metadata()
    table = grown([rows], kept, len(rows), 2)
    for folder in (
        target / "selected" / scores.name,
        target / "baselines" / scores.name / "random",
    ):
        folder.mkdir(parents=True)
        write_saved(folder, table)


def write_saved(folder: Path, table: pa.Table) -> None:
    """Write a table as the only file of a saved data set."""
    with (
        pa.OSFile(str(folder / "data.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=SHARD)
    write_json(folder / "state.json", {"_data_files": [{"filename": "data.arrow"}]})


def measured(run: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak MiB of `curate report` in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    command = [sys.executable, "-c", "from curate.cli import main; main()", "report", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, after.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run with one student, as of the demo")
    parser.add_argument("--records", type=int, default=52_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="make the run here and leave it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.keep or Path(folder) / "run"
        make(RunDir.open(given.run), run, given.records)
        times = sorted(measured(run) for _ in range(given.repeats))
        size = (run / "report.html").stat().st_size
        beside = sum(path.stat().st_size for path in run.glob("report.*.jsonl"))
        bytes_read = sum(
            p.stat().st_size for p in run.rglob("*") if p.suffix in (".parquet", ".arrow")
        )
    wall, used, memory = times[len(times) // 2]
    libraries = ", ".join(f"{n} {version(n)}" for n in ("matplotlib", "pyarrow", "numpy"))
    RESULTS.write_text(
        f"# `curate report` on {given.records:,} records\n\n"
        f"`python benchmarks/report.py RUN --records {given.records}`, RUN from `curate demo`\n\n"
        f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f}; "
        f"python {platform.python_version()}, {libraries}; {bytes_read / 2**20:.0f} MiB of Parquet and "
        "Arrow files.\n\n"
        "| median of runs | wall s (min to max) | processor s | peak memory | page | records beside it |\n|---|---|---|---|---|---|\n"
        f"| {given.repeats} | {wall:.1f} ({times[0][0]:.1f} to {times[-1][0]:.1f}) | {used:.1f} | "
        f"{memory:.0f} MiB | {size / 1e6:.2f} MB | {beside / 1e6:.0f} MB |\n",
        "utf-8",
    )
    print(RESULTS.read_text("utf-8"))


if __name__ == "__main__":
    main()
