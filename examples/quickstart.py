"""The method in Python, on the data that comes with the package: some seconds on a CPU.

python examples/quickstart.py [FOLDER]

With data of your own give a list of dicts, a `datasets.Dataset` or a path; with a teacher of your
own `teacher="MODEL"` and `base_url="http://localhost:8000/v1"` in place of `replies`.
"""

import json
import sys
import tempfile
from itertools import islice
from pathlib import Path

import datasets

import curate.pipeline
from curate.pipeline import explain, reflect, report, score, select

DEMO = Path(curate.pipeline.__file__).parents[1] / "data" / "demo"
STUDENT = DEMO / "student"


def main(folder: Path) -> None:
    """Reflect, select, and look at what came out."""
    with (DEMO / "records.jsonl").open(encoding="utf-8") as file:
        records = [json.loads(line) for line in islice(file, 24)]

    # How hard is each response, given its instruction (IFD), and the other way round (r-IFD)?
    scores = score(records, student=STUDENT, device="cpu", progress=False)
    print(f"mean IFD of the originals: {sum(scores['ifd']) / len(scores):.3f}")

    # A teacher rewrites each record. Here its replies were recorded.
    run = folder / "run"
    reflected = reflect(records, out=run, replies=DEMO / "replies.jsonl", progress=False)
    print(f"versions by status: {reflected.statuses}")

    # The student chooses a version of each record, and rejects what does not teach.
    selected = select(run, student=STUDENT, device="cpu", progress=False)
    kept = datasets.load_from_disk(str(selected.selected))
    print(f"kept {len(kept)} of {reflected.records}: {selected.counts['by_candidate']}")

    # Why did one come out as it did?
    row = next(row for row in kept if row["candidate"] == "response")
    rules = row["decision"]
    print(f"{row['id']}: {rules['instruction_rule']}, {rules['response_rule']}")
    for version in explain(run, row["id"]).candidates:
        print(f"  {version.candidate}: {version.instruction} -> {version.output}")

    page = report(run, progress=False)
    print(f"all of it as one page: {page.out}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0] if given else tempfile.mkdtemp(prefix="curate-quickstart-")))
