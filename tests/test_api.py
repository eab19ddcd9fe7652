"""The Python API: any data, results as objects, errors as exceptions, silence on request."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import typer.main

import curate.pipeline
from curate.cli import app
from curate.pipeline import CurateError, api, explain, reflect, score, select, status

from .test_cli import REPLIES, ROWS, written

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in curate.pipeline.__all__ if name.islower() and name[0] != "_"]


def test_it_loads_when_it_is_used() -> None:
    program = (
        "import sys; from curate.pipeline import *; import curate.pipeline as p; p.__version__; "
        "print([n for n in ('torch', 'datasets', 'pyarrow', 'transformers') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_function_has_the_options_of_its_command() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {*FUNCTIONS, "demo", "next"} == commands.keys()
    for name in set(FUNCTIONS) - {"score"}:
        function = getattr(api, name)
        own = set(inspect.signature(function).parameters)
        typed = {"config", "json", "quiet", "verbose"}
        assert own == {p.name for p in commands[name].params} - typed | {"progress"}
        assert all(f"\n{option}: " in function.__doc__ for option in own - {"progress"})


def test_no_room_has_the_name_of_a_function() -> None:
    rooms = {path.stem for path in (ROOT / "pipeline").iterdir()}
    assert not rooms & set(FUNCTIONS)


def test_the_package_tells_what_is_in_it() -> None:
    assert {*FUNCTIONS, "CurateError", "__version__"} <= set(dir(curate.pipeline))
    with pytest.raises(AttributeError, match="ponder"):
        curate.pipeline.ponder  # noqa: B018


def test_data_may_be_a_path_a_list_or_a_data_set(
    tmp_path: Path, tiny_student: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"student": tiny_student, "device": "cpu", "progress": False}
    of_list = score(ROWS, **settings)
    assert isinstance(of_list, datasets.Dataset) and of_list["id"][:] == ["first", "second"]
    assert capfd.readouterr() == ("", "")
    file = written(tmp_path / "rows.jsonl", ROWS)
    assert score(str(file), **settings).to_list() == of_list.to_list()
    out = tmp_path / "s.parquet"
    of_set = score(datasets.Dataset.from_list(ROWS), out=out, **settings)
    assert of_set.to_list() == of_list.to_list() and out.exists()
    with pytest.raises(CurateError, match="another input"):
        score(ROWS[:1], out=out, **settings)


def test_a_run_from_rows_in_memory(tmp_path: Path, tiny_student: Path) -> None:
    replies = written(tmp_path / "replies.jsonl", REPLIES)
    run = tmp_path / "run"
    made = reflect(ROWS, out=run, replies=replies, progress=False)
    assert made.records == 2 and made.statuses == {"ok": 6}
    again = reflect(ROWS, out=run, replies=replies, progress=False)
    assert again.asked == 0
    chosen = select(str(run), student=tiny_student, device="cpu", max_ifd=9, max_rifd=9)
    assert chosen.counts["selected"] == 2
    assert [stage.state for stage in status(run).stages] == ["finished", "finished"]
    assert explain(str(run), "first").as_dict()["id"] == "first"


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        ([{"a": 1}], {}, "no column 'instruction' nor 'output'; its columns are a"),
        (datasets.Dataset.from_list([{"a": 1}]), {}, "no column 'instruction' nor 'output'"),
        (["rows.jsonl"], {}, "row 1: not an object but str"),
        (3, {}, "a datasets.Dataset or a list of dicts, not int"),
        ("none.jsonl", {}, "no such file or folder: none.jsonl"),
        (ROWS, {"max_lenght": 3}, "max_lenght; the nearest one is max_length"),
        (ROWS, {"max_length": "long"}, "max_length takes a whole number, not 'long'"),
        (ROWS, {"student": None}, "student is missing"),
    ],
)
def test_bad_input_is_a_curate_error(
    tiny_student: Path, data: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(CurateError, match=says):
        score(data, **{"student": tiny_student, "device": "cpu", "progress": False, **options})


def test_too_many_arguments_are_a_curate_error() -> None:
    with pytest.raises(CurateError, match="select takes 1"):
        select("run", "more")


def test_the_example_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    example = (ROOT / "README.md").read_text("utf-8").split("```python\n")[1].partition("```")[0]
    exec(compile(example, "README.md", "exec"), {})
    assert "Dataset" in capsys.readouterr().out
