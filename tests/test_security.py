"""SECURITY.md, claim by claim: hostile models, checkpoints, data sets and texts do nothing."""

import ast
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.testing

from curate.cli import app
from curate.pipeline.base.progress import inert, say
from curate.pipeline.config import InputConfig, ModelConfig, recorded_options
from curate.pipeline.config.shared.training import FinetuneConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.llm.engines.local.continuous_batching import Settings, start_model
from curate.pipeline.models.devices import pick_device
from curate.pipeline.models.loading import load_causal_lm, load_config, load_tokenizer
from curate.pipeline.records import Candidate
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.scoring.model import load_student
from curate.pipeline.stages.finetuning import finetune_run
from curate.pipeline.training.folder.checkpoints import CHECKPOINTS, last_complete, seal

from .scoring.tiny import save_student
from .training.data import write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there only if something was run that must not be."""
    return tmp_path / "it was run"


def test_the_traps_of_these_tests_do_spring(tmp_path: Path, mark: Path) -> None:
    torch.save({"weight": Hostile(mark)}, tmp_path / "trap.bin")
    torch.load(tmp_path / "trap.bin", weights_only=False)
    assert mark.exists()


# --- models ---------------------------------------------------------------------------------------


def loaders(name: str) -> list[Callable[[], Any]]:
    settings = Settings(model=name, revision=None, device="cpu", ceiling=2, memory=1 << 24)
    return [
        lambda: load_config(name),
        lambda: load_tokenizer(name),
        lambda: load_student(name, revision=None, device=pick_device("cpu"), dtype="float32"),
        lambda: load_causal_lm(name, dtype="float32"),
        lambda: start_model(settings),
    ]


def with_code(folder: Path, mark: Path, *, known: bool) -> str:
    """A model whose folder maps all to code of its own; transformers may know its type as well."""
    save_student(folder)
    code = "from transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
    code += f"from transformers import PreTrainedTokenizerFast as T\nopen({str(mark)!r}, 'w')\n"
    (folder / "own.py").write_text(code, "utf-8")
    maps: dict[str, dict[str, Any]] = {
        "config.json": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
        "tokenizer_config.json": {"AutoTokenizer": ["own.T", "own.T"]},
    }
    for name, mapped in maps.items():
        settings = json.loads((folder / name).read_text("utf-8")) | {"auto_map": mapped}
        if not known:
            settings |= {"model_type": "own", "tokenizer_class": "Own"}
        (folder / name).write_text(json.dumps(settings), "utf-8")
    return str(folder)


def test_a_model_s_own_code_is_not_run_and_nobody_is_asked(
    tmp_path: Path, mark: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = with_code(tmp_path / "unknown", mark, known=False)
    for load in loaders(hostile):
        with pytest.raises(CurateError) as caught:
            load()
        assert "\n" not in str(caught.value)
    known = with_code(tmp_path / "known", mark, known=True)
    for load in loaders(known)[:4]:  # transformers' own classes are taken
        load()
    assert not mark.exists()
    said = capfd.readouterr()
    assert "[y/N]" not in said.out + said.err


def test_weights_that_are_no_safetensors_are_refused_in_one_sentence(
    tmp_path: Path, mark: Path
) -> None:
    folder = save_student(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Hostile(mark)}, folder / "pytorch_model.bin")
    for load in loaders(str(folder))[2:]:
        with pytest.raises(CurateError, match=r"model\.safetensors") as caught:
            load()
        assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_checkpoint_that_holds_more_than_numbers_is_refused(
    tmp_path: Path, mark: Path, tiny_student: Path
) -> None:
    rows = [{"instruction": f"Say {n}.", "output": f"{n}."} for n in range(4)]
    data = str(write_jsonl(tmp_path / "data.jsonl", rows))
    config = FinetuneConfig(
        model=str(tiny_student), out=tmp_path / "out", preset="demo", batch_size=2, max_steps=2,
        save_steps=1, held_out=0, max_length=200, keep_checkpoints=True,
        input=InputConfig(data=data),
    )  # fmt: skip
    finetune_run(config)
    told = json.loads((config.out / "training.json").read_text("utf-8"))
    assert re.fullmatch(r"[0-9a-f]{16}", told["weights"])
    checkpoint = last_complete(config.out / CHECKPOINTS)
    assert checkpoint is not None
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        assert (checkpoint / name).exists()
    torch.save(Hostile(mark), checkpoint / "training_args.bin")  # which nobody reads
    torch.save({"state": Hostile(mark)}, checkpoint / "optimizer.pt")
    seal(checkpoint)
    (config.out / "training.json").unlink()
    with pytest.raises(CurateError, match="checkpoint-2 is damaged or holds more than numbers"):
        finetune_run(config)
    assert not mark.exists()


READS_PICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "pipeline").rglob("*.py"), ROOT / "cli.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_file_of_ours_reads_pickle_or_runs_a_text(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & READS_PICKLE
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in READS_PICKLE:
            assert [alias.name for alias in node.names] == ["UnpicklingError"]
        elif isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("torch.load", "eval", "exec", "os.system")
            shell = [word.value for word in node.keywords if word.arg == "shell"]
            assert not shell


# --- data sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret.jsonl", "/etc/passwd", "..", "", 7, "a/b.jsonl"])
def test_a_data_set_names_no_file_outside_its_folder(tmp_path: Path, name: object) -> None:
    secret = [{"instruction": "Who?", "output": "Nobody."}]
    write_jsonl(tmp_path / "secret.jsonl", secret)
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}), "utf-8")
    with pytest.raises(CurateError, match="which is no file of its own"):
        open_source(str(folder))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [name]}), "utf-8")
    with pytest.raises(CurateError, match="which is no file of its own"):
        open_source(str(folder))


# --- texts and keys -------------------------------------------------------------------------------

DRIVES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\u2066\r\x00"


def test_what_drives_a_terminal_is_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = "Größe\t1\nשלם 𝄞 👩‍👩‍👧 \\u001b"
    assert inert(plain) == plain
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", inert(DRIVES))
    assert json.loads(inert(json.dumps(DRIVES, ensure_ascii=False))) == DRIVES
    say(f"note: {DRIVES}")
    assert "\x1b" not in capsys.readouterr().err
    run = RunDir.create(tmp_path / "run", {"command": "select", "input": "x"}, data=DRIVES)
    run.write_shard(0, [Candidate(id="a", candidate="original", instruction=DRIVES, output="b")])
    for line in (["explain", str(run.path), "a"], ["explain", str(run.path), "a", "--json"],
                 ["status", str(run.path)], ["explain", str(run.path), DRIVES]):  # fmt: skip
        shown = typer.testing.CliRunner().invoke(app, line).output
        assert shown and not set(shown) & set("\x1b\x9b\x07\u202e\u2066"), line


def test_no_key_is_noted_with_the_options() -> None:
    secret = "sk-secret"
    for url in (f"http://me:{secret}@host/v1", f"http://host/v1?key={secret}"):
        teacher = ModelConfig(model="t", base_url=url, api_key=secret)
        assert recorded_options(teacher) == {"model": "t"}
    args = ("--api-key", secret)
    assert recorded_options(ModelConfig(model="t", engine_args=args)) == {"model": "t"}
    harmless = ModelConfig(model="t", base_url="http://h/v1", engine_args=("--a", "b c"))
    assert recorded_options(harmless) == {
        "model": "t", "base_url": ["http://h/v1"], "engine_args": "--a 'b c'",
    }  # fmt: skip
    given = InputConfig(data="d", strict=True, limit=3)
    assert recorded_options(given) == {"data": "d", "strict": True, "limit": 3}


def test_the_documents_name_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`((?:tests|\.ci)/[\w./]+)`", text)
    assert named and all((ROOT / name).exists() for name in named)
