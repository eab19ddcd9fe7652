"""examples/: each recipe loads with the commands that it names, and says what it would cost."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from curate.cli import app

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "examples").glob("*.yaml"))
pytestmark = pytest.mark.usefixtures("one_thread")


def commands(recipe: Path) -> list[list[str]]:
    lines = re.findall(r"^#   (curate .*)$", recipe.read_text("utf-8"), re.M)
    return [shlex.split(line) for line in lines]


COMMANDS = [words for recipe in RECIPES for words in commands(recipe)]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_command_loads_its_recipe(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command: Any = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    given = command.make_context("curate", list(words[2:])).params
    if "--config" in words:
        text = Path(words[words.index("--config") + 1]).read_text("utf-8")
        names = [name.replace("-", "_") for name in re.findall(r"^([\w-]+): ", text, re.M)]
        assert names and all(given[name] not in (None, ()) for name in names)


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])
def test_each_recipe_is_used_by_a_command(recipe: Path) -> None:
    assert any(f"examples/{recipe.name}" in words for words in commands(recipe))


@pytest.mark.parametrize(
    ("command", "data", "recipe", "said"),
    [
        ("reflect", "data/demo/records.jsonl", "api-teacher", "USD"),
        ("solve", "PROBLEMS", "reasoning", "tokens"),
    ],
    ids=["reflect", "solve"],
)
def test_a_dry_run_says_what_it_would_cost(
    command: str, data: str, recipe: str, said: str, tmp_path: Path
) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"id": "a", "question": "2 + 3?", "answer": "5"}\n', "utf-8")
    words = [command, str(problems if data == "PROBLEMS" else ROOT / data)]
    config = ["--config", str(ROOT / "examples" / f"{recipe}.yaml")]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), *config, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert said in done.output and not (tmp_path / "run" / "journal").exists()


def test_the_example_in_python_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"))["main"](tmp_path)
    said = capsys.readouterr().out
    assert re.search(r"^kept \d+ of 24: ", said, re.M) and "response: " in said
    assert (tmp_path / "run" / "report.html").exists()
