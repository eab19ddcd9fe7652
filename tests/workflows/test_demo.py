"""`curate demo`, once as a whole: what it says adds up and lies where it says."""

import contextlib
import io
import json
import re
import signal
from pathlib import Path

import pytest
from datasets import load_from_disk

from curate.cli import app
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.explaining import explain

LINE = re.compile(r" *(\d+)  (.+)")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run directory and what was printed; under a minute on an idle machine."""
    out = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        said = _printed(["demo", "--out", str(out)])
    return out, said


def _printed(arguments: list[str]) -> str:
    before = signal.getsignal(signal.SIGTERM)
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
            app(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Not 3: some of the recorded replies are malformed on purpose.
    assert ended.value.code == 0
    return text.getvalue()


@pytest.mark.timeout(900)
def test_the_table_adds_up_to_the_records(demo: tuple[Path, str]) -> None:
    out, said = demo
    table = said.split("\n\n")[1]
    lines = [LINE.fullmatch(line) for line in table.splitlines()]
    assert all(lines)
    given, *parts = [int(line[1]) for line in lines if line]
    assert given == sum(parts) >= 150
    assert all("dropped" not in line[2] or ":" in line[2] for line in lines if line)
    entry = RunDir.open(out).stage("reflect")
    assert entry is not None and entry["records"] == given
    assert entry["input"]["rows"] == given + 2  # a duplicate, and a row without an output
    assert (entry["input"]["duplicates"], entry["input"]["rejected"]) == (1, 1)


def test_all_four_branches_occur(demo: tuple[Path, str]) -> None:
    out, _ = demo
    (folder,) = (out / "selected").iterdir()
    kept = load_from_disk(str(folder))["candidate"]
    assert set(kept) == {"original", "instruction", "response", "both"}


def test_the_held_out_loss_falls(demo: tuple[Path, str]) -> None:
    _, said = demo
    found = re.search(r"(\d+) rows\): ([\d.]+) before, ([\d.]+) after", said)
    assert found and int(found[1]) == 48
    assert float(found[3]) < float(found[2])


def test_the_files_are_where_it_says(demo: tuple[Path, str]) -> None:
    out, said = demo
    places = {Path(place) for place in re.findall(rf"{re.escape(str(out))}/[^\s:]+", said)}
    assert {place.parent.name for place in places} >= {"selected", "rejected"}
    assert all(place.is_dir() for place in places)
    model = out / "model"
    assert model in places and (model / "model.safetensors").is_file()
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(model).num_parameters() > 10_000


def test_the_examples_are_records_of_its_own(demo: tuple[Path, str]) -> None:
    out, said = demo
    examples = re.findall(r"Example \d: (.*)\n  before: (.*)\n  after:  (.*)\n", said)
    assert len(examples) == 3
    candidates = [c for group in RunDir.open(out).records() for c in group]
    known = {(c.instruction, c.output) for c in candidates}
    originals = {c.output for c in candidates if c.candidate == "original"}
    for instruction, before, after in examples:
        assert (instruction, after) in known and before in originals and before != after


def test_the_command_that_it_names_explains_a_record(demo: tuple[Path, str]) -> None:
    out, said = demo
    command = re.search(r"curate explain (\S+) (\S+)", said)
    assert command and Path(command[1]) == out
    found = explain(str(out), command[2])
    assert [c.candidate for c in found.candidates] == [
        "original",
        "instruction",
        "response",
        "both",
    ]
    assert found.students and set(found.replies) <= {"instruction", "response", "both"}


def test_nothing_of_it_was_paid_for(demo: tuple[Path, str]) -> None:
    out, _ = demo
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["stages"]["reflect"]["tokens"] == {"prompt": 0, "completion": 0}
    assert manifest["identity"]["teacher"] == "recorded"
