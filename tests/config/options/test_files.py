"""`--config FILE`: YAML, JSON, a run's config.json; what is wrong in one names key and file."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import ReflectConfig, RunConfig, SelectConfig, configured
from curate.pipeline.config.options.files import file_options
from curate.pipeline.errors import CurateError


def written(folder: Path, text: str, name: str = "own.yaml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    yaml = written(
        tmp_path,
        "max-ifd: 0.9\nlearning_rate: 1e-5\ndedup: off\ntop: 2%\nno_finetune: yes\nseed:\n"
        "retry: [failed, refused]\nbase_url:\n  - http://a/v1\n  - http://b/v1\npacking: false\n",
    )
    values = {"max_ifd": 0.9, "learning-rate": 1e-5, "dedup": "off", "top": "2%", "seed": None,
              "no_finetune": True, "retry": ["failed", "refused"], "packing": False,
              "base_url": ["http://a/v1", "http://b/v1"]}  # fmt: skip
    json_file = written(tmp_path, json.dumps(values), "own.json")
    given = {"data": "d", "out": "run", "student": "s"}
    made = configured(RunConfig, {**given, **file_options(RunConfig, yaml)})
    assert made == configured(RunConfig, {**given, **file_options(RunConfig, json_file)})
    assert made.selecting.max_ifd == 0.9 and made.finetuning.learning_rate == 1e-5
    assert made.reflecting.teacher.base_urls == ("http://a/v1", "http://b/v1") and made.no_finetune


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_idf: 1", r"max_idf in .*own\.yaml; the nearest one is max_ifd"),
        ("max_ifd: high", r"max_ifd in .*own\.yaml takes a number, not 'high'"),
        ("max_ifd: [1, 2]", r"max_ifd in .*own\.yaml takes a number"),
        ("tokenization: latin", r"tokenization in .*own\.yaml takes exact, .*'latin'"),
        ("limit: 0", r"limit in .*own\.yaml must be at least 1"),
        ("student: {a: b}", r"student in .*own\.yaml takes a text"),
        ("shard: [0, 2]", r"shard in .*own\.yaml takes a text"),
        ("- a\n- b", r"own\.yaml is no mapping"),
        ("", r"own\.yaml is no mapping"),
        ("a: [1", r"cannot read --config .*own\.yaml.*line 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CurateError, match=says):
        file_options(SelectConfig, written(tmp_path, text))


def test_a_pipe_that_is_open_is_read_once() -> None:
    """As a shell gives it for `--config <(…)`."""
    read, write = os.pipe()
    os.write(write, b"max_ifd: 0.9")
    os.close(write)
    assert file_options(SelectConfig, Path(f"/dev/fd/{read}")) == {"max_ifd": "0.9"}
    os.close(read)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"none\.yaml"):
        file_options(SelectConfig, tmp_path / "none.yaml")


def test_of_a_run_s_config_json_another_command_takes_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"data": "d.jsonl", "teacher": "t", "limit": 3}
    path = written(tmp_path, json.dumps({"curate_run": 1, "options": options}), "config.json")
    assert file_options(ReflectConfig, path) == {"data": "d.jsonl", "teacher": "t", "limit": "3"}
    assert not capsys.readouterr().err
    assert file_options(SelectConfig, path) == {"data": "d.jsonl", "limit": "3"}
    assert "teacher" in capsys.readouterr().err
