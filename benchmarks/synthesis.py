"""How fast new instructions are compared with all that are there: `python benchmarks/synthesis.py`.

`--new` instructions of random words come in rounds of 512. Each is compared by ROUGE-L with the
seeds and with all that was kept before, and half of them change a few words of an earlier one, so
that some are left out.
"""

import argparse
import os
import platform
import resource
import time
from importlib.metadata import version
from pathlib import Path
from random import Random

from curate.pipeline.method.corpus.rouge_l import DistinctTexts

RESULTS = Path(__file__).parent / "results" / "synthesis-cpu.md"
ROUND = 512
VOCABULARY = 20_000


def instructions(number: int) -> list[tuple[str, str]]:
    chance = Random(0)
    ranks = [1 / rank for rank in range(1, VOCABULARY + 1)]  # as words are distributed
    texts: list[list[str]] = []
    for place in range(number):
        if place % 2:
            text = list(chance.choice(texts))
            for _ in range(chance.randint(1, 8)):
                text[chance.randrange(len(text))] = f"w{chance.randrange(VOCABULARY)}"
        else:
            drawn = chance.choices(range(VOCABULARY), ranks, k=chance.randint(6, 40))
            text = [f"w{word}" for word in drawn]
        texts.append(text)
    return [(str(place), " ".join(text)) for place, text in enumerate(texts)]


def filtered(texts: list[tuple[str, str]], known: DistinctTexts) -> int:
    """How many are kept, round by round."""
    kept = 0
    for begin in range(0, len(texts), ROUND):
        new = texts[begin : begin + ROUND]
        found = known.judge(new)
        admitted = [one for one, alike in zip(new, found, strict=True) if alike is None]
        known.add(admitted)
        kept += len(admitted)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=175)
    options = parser.parse_args()
    texts = instructions(options.new + options.seeds)
    known = DistinctTexts()
    known.add(texts[: options.seeds])
    begun, used = time.monotonic(), time.process_time()
    kept = filtered(texts[options.seeds :], known)
    wall, processor = time.monotonic() - begun, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    RESULTS.write_text(
        f"""# ROUGE-L of new instructions against a growing pool

`python benchmarks/synthesis.py --new {options.new} --seeds {options.seeds}`: rounds of {ROUND}, instructions of 6 to 40 words, half of them variants of others.

{time.strftime("%Y-%m-%d")}; {platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; python {platform.python_version()}, rapidfuzz {version("rapidfuzz")}.

| new | kept | left out | wall s | processor s | peak memory |
|---|---|---|---|---|---|
| {options.new:,} | {kept:,} | {options.new - kept:,} | {wall:.1f} | {processor:.1f} | {memory:.0f} MiB |
""",
        "utf-8",
    )
    print(RESULTS.read_text("utf-8"))


if __name__ == "__main__":
    main()
