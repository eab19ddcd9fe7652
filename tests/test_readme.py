"""README.md and data/: commands that exist, files that are there, and a demo student that reads."""

import hashlib
import json
import random
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import typer.main

from curate.cli import app
from curate.pipeline.method.spans import Pair
from curate.pipeline.models.devices import pick_device
from curate.pipeline.models.loading import load_tokenizer
from curate.pipeline.records import CANDIDATES
from curate.pipeline.scoring.model import load_student
from curate.pipeline.scoring.scorer import Scorer
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.templates import Template

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "data" / "demo"
README = (ROOT / "README.md").read_text("utf-8")
SHUFFLES = 3

# --- README.md ------------------------------------------------------------------------------------


def commands_of(text: str) -> list[list[str]]:
    """Each `curate …` in a code block of its own or within a line."""
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.split("\n")
    ]
    lines += re.findall(r"`(curate [^`]+)`", text)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("curate ")]


PAGES = [README, *(page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS = [words for page in PAGES for words in commands_of(page)]


def test_the_readme_shows_the_main_commands() -> None:
    shown = {words[1] for words in COMMANDS}
    assert {"reflect", "select", "finetune", "run", "score", "explain", "compare"} <= shown
    assert {"generate", "judge", "evaluate"} <= shown


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_command_of_the_pages_parses(words: list[str]) -> None:
    """With all its options known and well-formed; what is required may be left out in passing."""
    command: Any = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    if len(words) > 2 and not words[2].startswith("--"):
        command.make_context("curate", list(words[2:]))  # parses, runs nothing


def test_the_options_that_the_readme_mentions_exist() -> None:
    known = {
        "--help",
        "--install-completion",
        "--nproc-per-node",
        "--head",
        "--port",
        "--address",
    }  # torchrun's, Ray's
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        known |= {name for parameter in command.params for name in parameter.opts}
    ours = re.sub(r"^#SBATCH .*", "", README, flags=re.M)
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", ours)) <= known


def test_the_make_targets_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"(?:^|`|\s)make ([a-z]+)(?=`|\s{2,}|$)", README, re.M)) <= targets
    assert {"demo", "test", "check", "install"} <= targets


def test_the_files_that_the_readme_names_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)]+)\)", README)
    quoted = re.findall(r"`((?:tests|data|constraints|benchmarks|prompts)/[\w./-]*)`", README)
    assert linked and quoted
    missing = [name for name in linked + quoted if not (ROOT / name).exists()]
    assert not missing


def test_the_number_of_demo_records_is_the_one_it_tells() -> None:
    assert f"reflects {len(records())} records" in re.sub(r"\s+", " ", README)


# --- data/ ----------------------------------------------------------------------------------------


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / name).read_text("utf-8").splitlines()]


def records() -> list[dict[str, Any]]:
    """The usable ones, each once."""
    usable = [row for row in lines("records.jsonl") if row.get("output") is not None]
    return list({row["id"]: row for row in usable}.values())


def test_the_checksums_of_the_data_are_right() -> None:
    text = (ROOT / "data" / "README.md").read_text("utf-8")
    told = dict(re.findall(r"`([\w/.]+)` \|.*\| `([0-9a-f]{64})` \|", text))
    assert set(told) == {f"demo/{name}.jsonl" for name in ("records", "replies", "heldout")}
    for name, checksum in told.items():
        assert hashlib.sha256((ROOT / "data" / name).read_bytes()).hexdigest() == checksum, name


def test_the_numbers_of_the_data_are_right() -> None:
    text = (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"{len(records())} instruction records" in text
    assert f"a teacher's {len(lines('replies.jsonl'))} replies" in text
    assert f"{len(lines('heldout.jsonl'))} good records" in text


def test_the_demo_records_and_their_replies() -> None:
    rows = records()
    assert len(rows) >= 150
    assert len({row["quality"] for row in rows}) > 1
    assert len({row["instruction"] + row.get("input", "") for row in rows}) > 0.9 * len(rows)
    replies = lines("replies.jsonl")
    places = Counter((reply["id"], reply["candidate"]) for reply in replies)
    assert {id for id, _ in places} == {row["id"] for row in rows}
    assert {kind for _, kind in places} == set(CANDIDATES[1:])
    assert set(places.values()) == {1}


def test_no_held_out_record_is_a_demo_record() -> None:
    known = {row["instruction"] for row in records()} | {row["output"] for row in records()}
    assert not known & {row["instruction"] for row in lines("heldout.jsonl")}
    assert not known & {row["output"] for row in lines("heldout.jsonl")}


def test_the_demo_set_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 5 << 20


# --- the demo student -----------------------------------------------------------------------------


def log_ifd(prompts: list[str], outputs: list[str]) -> npt.NDArray[np.float64]:
    """log IFD of each output behind a prompt, by the shipped student [N]."""
    folder = str(DEMO / "student")
    tokenizer = load_tokenizer(folder, None)
    student = load_student(folder, revision=None, device=pick_device("cpu"), dtype="float32")
    template, length = Template("vicuna"), student.context or 2048
    tokens = Tokenization(tokenizer, template, name="exact", max_length=length)
    pairs = [Pair(prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]
    spans = tokens.span_pairs(pairs)
    assert {span.status for span in spans} == {"ok"}
    scorer = Scorer(student, tokens.header_ids(template.headers()))
    try:
        given = scorer.nll([span.conditional for span in spans if span.conditional])
        alone = scorer.nll([span.unconditional for span in spans if span.unconditional])
    finally:
        scorer.close()
    return np.asarray(given - alone)


def test_the_demo_student_prefers_a_records_own_instruction() -> None:
    """For at least 80 % of the well-aligned originals, against three fixed shuffles."""
    rows = [row for row in records() if row["quality"] == "aligned"]
    assert len(rows) >= 30
    asked = [Template("vicuna").prompt(row["instruction"], row.get("input") or "") for row in rows]
    outputs = [row["output"] for row in rows]
    own = log_ifd(asked, outputs)
    wins = []
    for seed in range(SHUFFLES):
        wins.append(own < log_ifd(deranged(asked, seed), outputs))
    assert np.mean(wins) >= 0.8, [float(np.mean(won)) for won in wins]


def deranged(texts: list[str], seed: int) -> list[str]:
    """The texts in another order, none in its own place."""
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    moved = [""] * len(texts)
    for place, successor in zip(order, order[1:] + order[:1], strict=True):
        moved[place] = texts[successor]
    return moved
