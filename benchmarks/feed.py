"""What it costs to feed a GPU: `python benchmarks/feed.py`.

`curate score` from candidates on disk to scores on disk, with a model that answers at once: reading,
rendering, tokenising, planning rows of a GPU's length, laying them out, writing. Processor time of
all threads a record; four candidates a record, all texts distinct.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from scoring import candidates, hardware, make_student

from curate.pipeline.config import InputConfig, ScoringConfig
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.importing import import_candidates
from curate.pipeline.scoring.engine import ScoringEngine
from curate.pipeline.scoring.forward.attention import boundaries
from curate.pipeline.scoring.forward.hidden_states import filled
from curate.pipeline.scoring.forward.packing import Pack
from curate.pipeline.scoring.identity import resolve
from curate.pipeline.scoring.model import Student
from curate.pipeline.scoring.score_files import ScoreFiles
from curate.pipeline.scoring.scorer import Scorer

RESULTS = Path(__file__).parent / "results" / "feed-cpu.md"


class GpuWindow(ScoringEngine):
    """An engine whose windows are a GPU's."""

    window = 1000


def instant(pack: Pack) -> torch.Tensor:
    """Lays the row out as for a GPU, and answers."""
    boundaries(filled(pack, max(pack.width, len(pack.ids))))
    return torch.zeros(len(pack.targets))


def timed(parts: dict[str, float], name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the thread's processor time of each call to a part."""

    def call(*args: Any, **options: Any) -> Any:
        begun = time.thread_time()
        try:
            return work(*args, **options)
        finally:
            parts[name] = parts.get(name, 0.0) + time.thread_time() - begun

    return call


def fed(run: RunDir, student: Path, template: str) -> dict[str, float]:
    """Seconds of processor time: of the whole, of tokenising and of planning; and what was fed."""
    config = ScoringConfig(student=str(student), device="cpu", score_all=True, template=template)
    identity = resolve(config, run.path / "scores")
    parts: dict[str, float] = {}
    model = Student(None, torch.device("cuda"), torch.bfloat16, None, True, instant, instant)
    with closing(GpuWindow(config, identity)) as engine:
        headers = engine.tokenization.header_ids(engine.template.headers())
        scorer = Scorer(model, headers)
        engine.__dict__["scorer"] = scorer
        tokenise: Any = engine.tokenization
        tokenise.span_pairs = timed(parts, "tokenising", tokenise.span_pairs)
        rows: Any = scorer
        plan = rows._rows
        rows._rows = lambda *given: iter(timed(parts, "planning", lambda: list(plan(*given)))())
        begun = time.process_time()
        for _ in ScoreFiles(run, identity).complete(engine, lambda _: None):
            pass
        parts["whole"] = time.process_time() - begun
        return parts | {"tokens": scorer.tokens, "sequences": scorer.sequences}


def made_run(folder: Path, records: int) -> RunDir:
    """The demo's candidates as a run, each text with its record's number in it.

    The demo's responses are short: each has the same version of the next record behind it.
    """
    rows = [json.loads(line) for line in candidates(folder, records).open()]
    data = folder / "distinct.jsonl"
    with data.open("w") as file:
        for row, after in zip(rows, rows[4:] + rows[:4], strict=True):
            texts = {
                "instruction": f"{row['id']}: {row['instruction']}",
                "output": f"{row['id']}: {row['output']}\n{after['output']}",
            }
            file.write(json.dumps(row | texts) + "\n")
    run = RunDir.create(folder / "fed", {"command": "score"})
    import_candidates(run, open_source(str(data)), InputConfig(data=str(data)))
    return run


def main() -> None:
    """Measure, write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--template", default="auto", help="the demo's student has a chat template")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    laps = []
    with tempfile.TemporaryDirectory() as name:
        student = make_student(Path(name), "15m", "float32")
        for lap in range(options.repeats + 1):  # the first one warms up
            folder = Path(name) / str(lap)
            folder.mkdir()
            laps.append(fed(made_run(folder, options.records), student, options.template))
    ms = {
        part: [lap[part] / options.records * 1e3 for lap in laps[1:]]
        for part in ("whole", "tokenising", "planning")
    }
    versions = ", ".join(
        f"{n} {metadata.version(n)}" for n in ("tokenizers", "transformers", "numpy")
    )
    lines = [
        "# Feeding a GPU: processor time of the host",
        "",
        f"`python benchmarks/feed.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"{date.today()}; {hardware('cpu')}; Python {platform.python_version()}, {versions}; {options.records} "
        f"records of four candidates, {laps[0]['sequences'] / options.records:.1f} sequences and "
        f"{laps[0]['tokens'] / options.records:.0f} tokens of a row each; the model answers at once.",
        "",
        "| part | ms a record, median (min to max) |",
        "|---|---|",
        *(
            f"| {part} | {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) |"
            for part, found in ms.items()
        ),
    ]  # fmt: skip
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
