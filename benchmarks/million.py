"""Peak memory of reflect and select over a million very short records: `python benchmarks/million.py`.

Each command runs as a process of its own, first on `--first` records, then on `--records`. Replies are
recorded, the student has a few thousand weights, and texts repeat under ids of their own, so that it
has little to compute: memory is the point, not time.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

DEMO = Path(__file__).parents[1] / "data" / "demo"
RESULTS = Path(__file__).parent / "results" / "million-cpu.md"
KEEP_ALL = ("--max-ifd", "1e9", "--max-rifd", "1e9")
MOST = 200  # MiB that a million records may take beyond ten thousand
WORDS = ("red", "blue", "green", "small")
STUDENT = """
import sys
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
demo, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(demo)
config = LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, intermediate_size=8, vocab_size=len(tokenizer),
                     max_position_embeddings=256, tie_word_embeddings=True,
                     bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
LlamaForCausalLM(config).save_pretrained(out)
tokenizer.save_pretrained(out)
"""


class Measured(NamedTuple):
    """One command: its peak of resident memory, wall and processor time."""

    mib: float
    seconds: float
    processor: float


def measured(*words: str, log: Path) -> Measured:
    """Run `curate` with these words; its exit code must be 0."""
    command = [sys.executable, "-c", "from curate.cli import main; main()", *words]
    begun = time.perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[0]} ended with {process.returncode}: see {log}")
    seconds = time.perf_counter() - begun
    # Kibibytes on Linux. Of the process alone, which has no children on a CPU.
    return Measured(used.ru_maxrss / 1024, seconds, used.ru_utime + used.ru_stime)


def texts(number: int) -> tuple[str, str]:
    """An instruction and a response of a word each."""
    return WORDS[number % 4], WORDS[number // 4 % 3]


def rows(number: int) -> Iterator[dict[str, Any]]:
    """The recorded replies to a record."""
    x, y = texts(number)
    id = str(number)
    new = f"Well. [New Instruction] why {x} [End] [New Answer] so {y} [End]"
    yield {"id": id, "candidate": "instruction", "reply": new}
    for kind in ("response", "both"):
        yield {"id": id, "candidate": kind, "reply": f"Well. [Better Answer] very {y} [End]"}


def write_input(folder: Path, records: int) -> None:
    """Records and recorded replies."""
    with (folder / "data.jsonl").open("w") as data, (folder / "replies.jsonl").open("w") as replies:
        for number in range(records):
            x, y = texts(number)
            data.write(json.dumps({"id": str(number), "instruction": x, "output": y}) + "\n")
            replies.writelines(json.dumps(row) + "\n" for row in rows(number))


def files(folder: Path, pattern: str) -> str:
    """How many files, and how large, such as `1000 files of 25 KiB`."""
    sizes = [path.stat().st_size for path in folder.glob(pattern)]
    mean = sum(sizes) / max(len(sizes), 1)
    size = f"{mean / 2**20:.0f} MiB" if mean > 2**21 else f"{mean / 2**10:.0f} KiB"
    return f"{len(sizes)} of {size}"


def one_size(home: Path, records: int, student: Path) -> tuple[dict[str, Measured], dict[str, str]]:
    """Both commands on so many records; what they measured, and the files they left."""
    folder = home / str(records)
    folder.mkdir()
    write_input(folder, records)
    run, log = folder / "run", home / "log.txt"
    found = {}
    found["reflect"] = measured(
        "reflect", str(folder / "data.jsonl"), "--out", str(run), "--engine", "recorded",
        "--replies", str(folder / "replies.jsonl"), log=log,
    )  # fmt: skip
    print(records, "reflect", found["reflect"], file=sys.stderr, flush=True)
    found["select"] = measured(
        "select", str(run), "--student", str(student), "--device", "cpu", *KEEP_ALL, log=log
    )
    print(records, "select", found["select"], file=sys.stderr, flush=True)
    patterns = {"candidates/": "candidates/*", "journal/": "journal/*", "scores/": "scores/*/part*",
                "selected/": "selected/*/*.arrow", "rejected/": "rejected/*/*.arrow"}  # fmt: skip
    left = {name: files(run, pattern) for name, pattern in patterns.items()}
    check(run, records)
    shutil.rmtree(folder)
    return found, left


def check(run: Path, records: int) -> None:
    """Every record is accounted for."""
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    (selected,) = (entry for name, entry in stages.items() if name.startswith("select/"))
    counts = selected["counts"]
    assert stages["reflect"]["records"] == records == counts["selected"] + counts["rejected"]


def report(sizes: list[int], found: list[dict[str, Measured]], left: list[dict[str, str]]) -> str:
    """The results as Markdown."""
    lines = [
        "# A million records, CPU", "",
        f"`python benchmarks/million.py {' '.join(sys.argv[1:])}`".replace(" `", "`"), "",
        f"{date.today()}; {os.cpu_count()} cores, shared; Python {platform.python_version()}. Records of "
        "two words, four candidates each; peak resident memory of each command's process. "
        f"Target: at most {MOST} MiB more for {sizes[-1]:,} records than for {sizes[0]:,}.", "",
        "| command | records | peak MiB | more than the first | s | processor s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in found[0]:
        for size, one in zip(sizes, found, strict=True):
            more = one[name].mib - found[0][name].mib
            lines.append(f"| `curate {name}` | {size:,} | {one[name].mib:.0f} | {more:+.0f} | "
                         f"{one[name].seconds:.0f} | {one[name].processor:.0f} |")  # fmt: skip
    lines += ["", "| files | " + " | ".join(f"{size:,} records" for size in sizes) + " |"]
    lines += ["|---" * (len(sizes) + 1) + "|"]
    lines += [f"| `{name}` | " + " | ".join(one[name] for one in left) + " |" for name in left[0]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both sizes and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sizes = [options.first, options.records]
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        home = Path(name)
        student = home / "student"
        words = [sys.executable, "-c", STUDENT, str(DEMO / "student"), str(student)]
        subprocess.run(words, check=True, capture_output=True)
        both = [one_size(home, size, student) for size in sizes]
    text = report(sizes, [found for found, _ in both], [left for _, left in both])
    options.out.write_text(text)
    print(text)
    first, last = both[0][0], both[1][0]
    if any(last[name].mib - first[name].mib > MOST for name in first):
        raise SystemExit(f"more than {MOST} MiB more")


if __name__ == "__main__":
    main()
