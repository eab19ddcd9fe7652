"""What checking 100,000 samples takes, and the memory that a corpus takes under `curate bpc`.

python benchmarks/reasoning.py check 100000
python benchmarks/reasoning.py bpc 10 --student STUDENT     # megabytes of text
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.pipeline import bpc, check

REASONING = "Step by step: one case after the other is looked at, and (A) looks right at first. "
SHAPES = "Which shape is it?\nOptions:\n(A) circle\n(B) kite\n(C) line"


def samples(number: int) -> Iterator[dict[str, Any]]:
    """Four replies of some 650 characters a problem, half of them numbers, half letters."""
    for index in range(number // 4):
        letter = index % 2
        answer = "(B)" if letter else str(index % 50)
        wrong = "(C)" if letter else str(index % 50 + 1)
        problem = {"id": f"p{index}", "question": SHAPES if letter else "How many?"}
        for _ in range(4):
            end = random.choice(
                [
                    f"So the answer is {answer}.",
                    f"\n\nFinal answer: {wrong}",
                    f"Answer: {answer}\n",
                    "",
                ]
            )
            yield {**problem, "answer": answer, "reply": REASONING * 8 + end}


def checking(number: int, folder: Path) -> None:
    data = folder / "samples.jsonl"
    with data.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in samples(number))
    measured("import and check", lambda: check(str(data), out=folder / "run", progress=False))
    measured("check anew", lambda: check(str(folder / "run"), progress=False))


def compressing(megabytes: int, student: str, folder: Path) -> None:
    data = folder / "corpus.jsonl"
    words = [f"word{number} " for number in range(5000)]
    with data.open("w") as file:
        for _ in range(megabytes * 100):
            text = "".join(random.choices(words, k=1100))[:10_000]
            file.write(json.dumps({"text": text}) + "\n")
    measured("bpc", lambda: bpc(str(data), student=student, progress=False))


def measured(name: str, work: Any) -> None:
    clock, processor = time.monotonic(), time.process_time()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: {time.monotonic() - clock:.1f} s, {time.process_time() - processor:.1f} s of "
        f"processor time, at most {peak:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["check", "bpc"])
    parser.add_argument("size", type=int)
    parser.add_argument("--student")
    given = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "check":
            checking(given.size, Path(folder))
        else:
            compressing(given.size, given.student, Path(folder))


if __name__ == "__main__":
    main()
