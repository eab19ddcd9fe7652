"""docs/: the commands that it shows parse, and those that need no server do what it says."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from curate.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text("utf-8"), re.S)


COMMANDS = [
    shlex.split(line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.splitlines()
    if line.startswith("curate ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_command_parses(words: list[str]) -> None:
    command: Any = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    command.make_context("curate", list(words[2:]))


def shown(name: str, argument: str) -> list[str]:
    return next(words[1:] for words in COMMANDS if words[1] == name and words[2] == argument)


def test_the_corpus_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shown("bpc", "data/demo/heldout.jsonl")
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--limit", "3"])
    assert done.exit_code == 0, done.output
    assert "bits a character" in done.stdout and "3 documents" in done.stdout


def test_the_samples_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples.jsonl").write_text(blocks(ROOT / "docs" / "reasoning.md", "json")[0])
    done = CliRunner().invoke(app, shown("check", "samples.jsonl"))
    assert done.exit_code == 0, done.output
    assert "solved 1 of 2 problems" in done.stdout


def test_instructions_are_made_of_the_recorded_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replies.jsonl").write_text(blocks(ROOT / "docs" / "synthesis.md", "json")[0])
    records = (ROOT / "data" / "demo" / "records.jsonl").read_text("utf-8")
    (tmp_path / "seeds.jsonl").write_text(records, "utf-8")
    words = next(words[1:] for words in COMMANDS if "synthesize" in words and "recorded" in words)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "made 2 instructions" in done.stdout and "1 too_short" in done.stdout
