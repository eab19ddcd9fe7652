"""`curate export`: each tool's files, read by that tool's own loader where it is installed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import yaml
from datasets import load_dataset, load_from_disk
from huggingface_hub import DatasetCard
from safetensors.torch import load_file

from curate.pipeline.base.files import write_json
from curate.pipeline.config import ExportConfig, InputConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs.examples import read_examples
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.lock import output_lock
from curate.pipeline.stages.exporting import stage
from curate.pipeline.stages.selection.stage import SelectResult
from curate.pipeline.templates import Template

from ...training.data import candidate, record, scoring_with, select_from, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
TOKEN = "hf_very_secret_0123456789"


def export(run: str, **options: Any) -> stage.ExportResult:
    return stage.export(ExportConfig(run=run, **options))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> SelectResult:
    """A run whose every record is kept; one has a system turn and letters of all kinds."""
    folder = tmp_path_factory.mktemp("export")
    odd = candidate("odd", "original", 'Say "naïve" 𝄞\u2028now.', "", "<b>naïve</b>\n𝄞 שלום")
    odd["system"] = "Be short."
    rows = [row for n in range(6) for row in record(f"r{n}", seed=n)]
    data = write_jsonl(folder / "candidates.jsonl", [*rows, odd])
    return select_from(
        data, folder / "my run", scoring_with(tiny_student), max_ifd=1e9, max_rifd=1e9
    )


def selected(done: SelectResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = load_from_disk(str(done.selected)).to_list()
    assert len(rows) == 7
    return rows


def lines(folder: Path) -> list[dict[str, Any]]:
    """data.jsonl as the hub's own loader reads it."""
    rows: list[dict[str, Any]] = load_dataset(
        "json", data_files=str(folder / "data.jsonl"), split="train"
    ).to_list()
    return rows


def system_of(row: dict[str, Any]) -> str:
    return row["messages"][0]["content"] if len(row["messages"]) == 3 else ""


# --- the card -------------------------------------------------------------------------------------


def test_the_card_says_what_from_what_how_and_how_to_load_it(done: SelectResult) -> None:
    card = DatasetCard.load(done.selected / "README.md")
    assert card.data.license == "unknown" and card.data.size_categories == ["n<1K"]
    counts = done.counts
    for told in (
        str(done.run.parent / "candidates.jsonl"),
        "Licence of the source: unknown: fill in",
        "Teacher: none asked",
        "template: `wizardlm`",
        "7 rows selected, 0 rejected",
        *(f"| `{kind}` | {number} |" for kind, number in counts["by_candidate"].items()),
    ):
        assert told in card.text, told
    pattern = str(done.selected / "*.arrow")
    assert 'data_files="this folder/*.arrow"' in card.text
    rows = load_dataset("arrow", data_files=pattern, split="train")
    assert rows.to_list() == selected(done)


def test_a_strangers_texts_stay_on_their_lines(done: SelectResult, tmp_path: Path) -> None:
    run = RunDir.open(done.run)
    config = {**run.config, "licence": "mit\ntags:\n- x", "data": "a\n---\nb.jsonl"}
    config.pop("check")
    shutil.copytree(done.run, tmp_path / "run")
    write_json(tmp_path / "run" / "config.json", config)
    card = DatasetCard.load(
        export(str(tmp_path / "run"), to="jsonl", out=tmp_path / "out").out / "README.md"
    )
    assert card.data.license == "mit tags: - x"
    assert card.data.tags == ["instruction-tuning", "selective-reflection-tuning"]
    assert "- Input: `a --- b.jsonl` (" in card.text


# --- the tools ------------------------------------------------------------------------------------


def test_jsonl_is_the_selection(done: SelectResult, tmp_path: Path) -> None:
    result = export(str(done.run), to="jsonl", out=tmp_path / "out")
    assert (result.rows, result.files) == (7, ("data.jsonl", "README.md"))
    for line, row in zip(lines(result.out), selected(done), strict=True):
        assert line == {name: row[name] for name in line}
    assert (result.out / "data.jsonl").read_bytes().count(b"\n") == 7
    card = DatasetCard.load(result.out / "README.md")
    assert card.data.configs == [{"config_name": "default", "data_files": "data.jsonl"}]
    again = export(str(done.run), to="axolotl", out=tmp_path / "out")
    assert sorted(p.name for p in again.out.iterdir()) == sorted(again.files)


def test_llama_factory(done: SelectResult, tmp_path: Path) -> None:
    """By its documented fields; by its own parser where it is installed."""
    out = export(str(done.run), to="llama-factory", out=tmp_path / "out").out
    ((name, info),) = json.loads((out / "dataset_info.json").read_text("utf-8")).items()
    assert name == "my_run" and info["file_name"] == "data.jsonl"
    columns = info["columns"]
    for line, row in zip(lines(out), selected(done), strict=True):
        told = {key: line[column] for key, column in columns.items()}
        # LLaMA-Factory joins prompt and query by a newline, as our user turn does.
        assert (
            "\n".join(filter(None, (told["prompt"], told["query"])))
            == (row["messages"][-2]["content"])
        )
        assert (told["response"], told["system"]) == (row["output"], system_of(row))
    source = open_source(str(out))
    for read, row in zip(
        read_examples(source, InputConfig(data="x"), Intake()), selected(done), strict=True
    ):
        assert (read.system or "", read.output) == (system_of(row), row["output"])
    parser = pytest.importorskip("llamafactory.data.parser", reason="llamafactory is not installed")
    (found,) = parser.get_dataset_list([name], str(out))
    assert (found.prompt, found.response) == ("instruction", "output")


def test_axolotl(done: SelectResult, tmp_path: Path) -> None:
    """By its documented fields; by its own schema where it is installed."""
    out = export(str(done.run), to="axolotl", out=tmp_path / "out").out
    (block,) = yaml.safe_load((out / "axolotl.yml").read_text("utf-8"))["datasets"]
    assert (block["path"], block["ds_type"], block["type"]) == (
        "data.jsonl", "json", "chat_template",
    )  # fmt: skip
    messages = [line[block["field_messages"]] for line in lines(out)]
    assert messages == [row["messages"] for row in selected(done)]
    properties = block["message_property_mappings"]
    assert {turn[properties["role"]] for turns in messages for turn in turns} == {
        "system", "user", *block["roles_to_train"],
    }  # fmt: skip
    schema = pytest.importorskip(
        "axolotl.utils.schemas.datasets", reason="axolotl is not installed"
    )
    schema.SFTDataset(**block)


def test_trl_trains_with_the_snippet(
    done: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    out = export(str(done.run), to="trl", out=tmp_path / "out").out
    for line, row in zip(lines(out), selected(done), strict=True):
        template = Template("wizardlm")
        prompt = template.prompt(row["instruction"], row["input"], system=system_of(row) or None)
        assert line == {"prompt": prompt, "completion": row["output"]}
    subprocess.run(
        [sys.executable, out / "train.py", tiny_student, tmp_path / "trained"],
        check=True,
        capture_output=True,
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )
    before = load_file(tiny_student / "model.safetensors")
    after = load_file(tmp_path / "trained" / "model.safetensors")
    assert any(not weight.equal(after[name]) for name, weight in before.items() if name in after)


def test_trl_gets_turns_where_the_students_own_chat_template_scored(
    done: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    data = write_jsonl(tmp_path / "c.jsonl", record("r1", seed=1))
    scoring = scoring_with(tiny_student, template="chat")
    chat = select_from(data, tmp_path / "run", scoring, max_ifd=1e9, max_rifd=1e9)
    (line,) = lines(export(str(chat.run), to="trl", out=tmp_path / "out").out)
    assert [turn["role"] for turn in line["prompt"]] == ["user"]
    assert [turn["role"] for turn in line["completion"]] == ["assistant"]


# --- bad input ------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_one_sentence(
    done: SelectResult, tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "data.jsonl").write_text("{}", "utf-8")
    with pytest.raises(CurateError, match="is not empty and no export of curate"):
        export(str(done.run), to="jsonl", out=mine)
    with pytest.raises(CurateError, match="is a file"):
        export(str(done.run), to="jsonl", out=mine / "data.jsonl")
    with pytest.raises(CurateError, match=r"--selection 'none' is none of .*tiny-"):
        export(str(done.run), to="jsonl", out=tmp_path / "out", selection="none")
    empty = select_from(
        write_jsonl(tmp_path / "c.jsonl", record("r1", seed=1)),
        tmp_path / "run", scoring_with(tiny_student), max_ifd=1e-9,
    )  # fmt: skip
    with pytest.raises(CurateError, match="is empty"):
        export(str(empty.run), to="jsonl", out=tmp_path / "out")
    with pytest.raises(UsageError, match="--push-to-hub takes owner/name, not 'me'"):
        export(str(done.run), to="jsonl", out=tmp_path / "out", push_to_hub="me")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(CurateError, match="needs a token that may write: set HF_TOKEN"):
        export(str(done.run), to="jsonl", out=tmp_path / "out", push_to_hub="me/data")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CurateError, match="cannot be reached") as caught:
        export(str(done.run), to="jsonl", out=tmp_path / "out", push_to_hub="me/data")
    assert TOKEN not in str(caught.value) and not (tmp_path / "out").exists()


def test_one_export_at_a_time(done: SelectResult, tmp_path: Path) -> None:
    with (
        output_lock(tmp_path / "out", "export"),
        pytest.raises(CurateError, match="out is in use"),
    ):
        export(str(done.run), to="jsonl", out=tmp_path / "out")
    assert export(str(done.run), to="jsonl", out=tmp_path / "out").rows == 7
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- the hub --------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a push of small files asks for."""

    requests: ClassVar[list[tuple[str, str | None, bytes]]] = []
    refuse: ClassVar[bool] = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        token = self.headers.get("authorization")
        self.requests.append((self.path, token, body))
        if self.refuse:
            self._answer({"error": f"{token} may not write"}, 403)
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._answer({"files": [{"path": name, **regular} for name in names]})
        elif self.path.endswith("/commit/main"):
            url = f"http://{self.headers['host']}/datasets/me/data/commit/abc"
            self._answer({"success": True, "commitOid": "abc", "commitUrl": url})
        elif self.path.endswith("/validate-yaml"):
            self._answer({"errors": [], "warnings": []})
        else:
            host = self.headers["host"]
            self._answer({"url": f"http://{host}/datasets/me/data", "name": "me/data"})

    def do_GET(self) -> None:
        self._answer({"id": "me/data", "sha": "abc", "siblings": []})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.requests.clear()
    Hub.refuse = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def push(run: Path, out: Path, hub: str) -> subprocess.CompletedProcess[str]:
    """An export that is pushed."""
    return pushing(["export", str(run), "--to", "jsonl", "--out", str(out)], hub)


def pushing(line: list[str], hub: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's address is read when its client is imported."""
    line = [*line, "--push-to-hub", "me/data"]
    hidden = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"HF_ENDPOINT": hub, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    code = "from curate.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *line], env=env, capture_output=True, text=True
    )


def test_a_push_puts_data_and_card_there_and_shows_no_token(
    done: SelectResult, tmp_path: Path, hub: str
) -> None:
    ended = push(done.run, tmp_path / "out", hub)
    assert ended.returncode == 0, ended.stderr
    assert f"pushed: {hub}/datasets/me/data/commit/abc" in ended.stdout
    assert TOKEN not in ended.stdout + ended.stderr
    assert {token for _, token, _ in Hub.requests} >= {f"Bearer {TOKEN}"}
    (created,) = [json.loads(body) for path, _, body in Hub.requests if path.endswith("/create")]
    private = created.get("visibility") == "private" or created.get("private") is True
    assert private and created["type"] == "dataset"
    (commit,) = [body for path, _, body in Hub.requests if path.endswith("/commit/main")]
    sent = [json.loads(line)["value"].get("path") for line in commit.splitlines()]
    assert sorted(filter(None, sent)) == ["README.md", "data.jsonl"]
    Hub.refuse = True
    ended = push(done.run, tmp_path / "out", hub)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "error: cannot push to 'me/data': " in ended.stderr
    assert TOKEN not in ended.stdout + ended.stderr and "is whole" in ended.stderr


def test_a_trained_model_is_put_there_without_what_resumes_its_training(
    done: SelectResult, tiny_student: Path, tmp_path: Path, hub: str
) -> None:
    line = ["finetune", str(done.run), "--model", str(tiny_student), "--out", str(tmp_path / "m")]
    line += ["--preset", "demo", "--max-steps", "1", "--held-out", "0"]
    ended = pushing(line, hub)
    assert ended.returncode == 0, ended.stderr
    assert "pushed: " in ended.stdout and TOKEN not in ended.stdout + ended.stderr
    (created,) = [json.loads(body) for path, _, body in Hub.requests if path.endswith("/create")]
    assert created.get("type", "model") == "model"
    (commit,) = [body for path, _, body in Hub.requests if path.endswith("/commit/main")]
    sent = {json.loads(line)["value"].get("path") for line in commit.splitlines()}
    assert {"README.md", "config.json", "model.safetensors"} <= sent
    assert not sent & {"finetune.json", "options.json"}
