"""`curate export` of pairs, read back by each tool's own loader where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset, load_from_disk
from huggingface_hub import DatasetCard

from curate.pipeline.config import ExportConfig, ExportFormat, InputConfig, PairsConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.stages.exporting.stage import ExportResult, export
from curate.pipeline.stages.pairs.stage import pairs

from ...training.data import Row, write_jsonl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs: one has a system turn, one letters of all kinds, one several turns."""
    folder = tmp_path_factory.mktemp("pairs")
    turns = [
        {"role": role, "content": text}
        for role, text in (("user", "Hi"), ("assistant", "Hello"), ("user", "And?"))
    ]
    rows = [
        {"id": id, **prompt, "generations": ["good 𝄞\u2028", "bad"], "ratings": [5, 1]}
        for id, prompt in (
            ("plain", {"instruction": 'Say "naïve"', "input": "now"}),
            ("system", {"instruction": "Speak.", "system": "Be short."}),
            ("turns", {"prompt": turns}),
        )
    ]
    data = write_jsonl(folder / "samples.jsonl", rows)
    config = PairsConfig(input=InputConfig(data=str(data)), out=folder / "my pairs")
    return pairs(config).out


def rows(made: Path) -> list[Row]:
    found: list[Row] = load_from_disk(str(made)).to_list()
    assert [row["id"] for row in found] == ["plain", "system", "turns"]
    return found


def lines(result: ExportResult) -> list[Row]:
    """data.jsonl as the hub's own loader reads it."""
    data = str(result.out / "data.jsonl")
    found: list[Row] = load_dataset("json", data_files=data, split="train").to_list()
    assert len(found) == result.rows
    return found


def exported(made: Path, out: Path, tool: ExportFormat, *, unpaired: bool = False) -> ExportResult:
    return export(ExportConfig(run=str(made), to=tool, out=out, unpaired=unpaired))


def test_jsonl_is_the_pairs(made: Path, tmp_path: Path) -> None:
    result = exported(made, tmp_path / "out", "jsonl")
    assert lines(result) == rows(made)
    card = DatasetCard.load(result.out / "README.md")
    assert card.data.configs == [{"config_name": "default", "data_files": "data.jsonl"}]
    unpaired = lines(exported(made, tmp_path / "out", "jsonl", unpaired=True))
    assert [(row["id"], row["label"], row["score"]) for row in unpaired[:2]] == [
        ("plain", True, 5), ("plain", False, 1),
    ]  # fmt: skip


def test_trls_own_loaders_take_it(made: Path, tmp_path: Path) -> None:
    from trl.data_utils import is_conversational, unpair_preference_dataset

    found = exported(made, tmp_path / "out", "trl")
    data = load_dataset("json", data_files=str(found.out / "data.jsonl"), split="train")
    assert set(data.column_names) == {"prompt", "chosen", "rejected"}
    assert is_conversational(data[0])
    ours = lines(exported(made, tmp_path / "kto", "trl", unpaired=True))
    theirs = unpair_preference_dataset(data).to_list()
    assert sorted(ours, key=str) == sorted(theirs, key=str)
    # Good and bad alternate, where TRL would put all the good ones first.
    assert [row["label"] for row in ours] == [True, False] * 3


def llama_factory_reads(out: Path) -> list[Row]:
    """What LLaMA-Factory makes of the folder; the test is skipped where it is not installed."""
    reason = "llamafactory is not installed"
    parser = pytest.importorskip("llamafactory.data.parser", reason=reason)
    converter = pytest.importorskip("llamafactory.data.converter", reason=reason)
    (name,) = json.loads((out / "dataset_info.json").read_text("utf-8"))
    (about,) = parser.get_dataset_list([name], str(out))
    convert = converter.get_dataset_converter(about.formatting, about, None)
    data = load_dataset("json", data_files=str(out / "data.jsonl"), split="train")
    return [convert(row) for row in data]


def test_llama_factory_ranking(made: Path, tmp_path: Path) -> None:
    result = exported(made, tmp_path / "out", "llama-factory")
    ((name, info),) = json.loads((result.out / "dataset_info.json").read_text("utf-8")).items()
    assert (name, info["ranking"], info["formatting"]) == ("my_pairs", True, "sharegpt")
    columns = info["columns"]
    for line, row in zip(lines(result), rows(made), strict=True):
        system = [turn["content"] for turn in row["prompt"] if turn["role"] == "system"]
        assert line[columns["system"]] == "".join(system)
        asked = [turn["content"] for turn in row["prompt"] if turn["role"] != "system"]
        assert [turn["value"] for turn in line[columns["messages"]]] == asked
        for side in ("chosen", "rejected"):
            assert line[columns[side]]["value"] == row[side][0]["content"]
    for found, row in zip(llama_factory_reads(result.out), rows(made), strict=True):
        system = [{"role": "system", "content": found["_system"]}] if found["_system"] else []
        assert system + found["_prompt"] == row["prompt"]
        assert found["_response"] == [row["chosen"][0], row["rejected"][0]]


def test_llama_factory_kto(made: Path, tmp_path: Path) -> None:
    result = exported(made, tmp_path / "out", "llama-factory", unpaired=True)
    (info,) = json.loads((result.out / "dataset_info.json").read_text("utf-8")).values()
    tag, turns = info["columns"]["kto_tag"], info["columns"]["messages"]
    assert "ranking" not in info
    both = lines(result)
    assert [line[tag] for line in both] == [True, False] * 3
    assert [line[turns][-1]["from"] for line in both] == ["gpt"] * 6
    found = llama_factory_reads(result.out)
    empty = {"role": "assistant", "content": ""}
    for row, good, bad in zip(rows(made), found[::2], found[1::2], strict=True):
        assert good["_response"] == [row["chosen"][0], empty]
        assert bad["_response"] == [empty, row["rejected"][0]]


def test_axolotl(made: Path, tmp_path: Path) -> None:
    result = exported(made, tmp_path / "out", "axolotl")
    config = yaml.safe_load((result.out / "axolotl.yml").read_text("utf-8"))
    (block,) = config["datasets"]
    assert (config["rl"], block["type"]) == ("dpo", "chat_template.default")
    for line, row in zip(lines(result), rows(made), strict=True):
        assert line[block["field_messages"]] == row["prompt"]
        assert line[block["field_chosen"]] == row["chosen"][0]
        assert line[block["field_rejected"]] == row["rejected"][0]
    reason = "axolotl is not installed"
    schema = pytest.importorskip("axolotl.utils.schemas.datasets", reason=reason)
    schema.DPODataset(**block)


def test_axolotls_kto_form_holds_one_question(made: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="turns has several turns"):
        exported(made, tmp_path / "out", "axolotl", unpaired=True)
    single = write_jsonl(
        tmp_path / "s.jsonl", [{"prompt": "q", "generations": ["a", "b"], "ratings": [1, 2]}]
    )
    config = PairsConfig(input=InputConfig(data=str(single)), out=tmp_path / "pairs")
    result = exported(pairs(config).out, tmp_path / "out", "axolotl", unpaired=True)
    config_file = yaml.safe_load((result.out / "axolotl.yml").read_text("utf-8"))
    assert config_file["rl"] == "kto"
    assert [(line["prompt"], line["completion"], line["label"]) for line in lines(result)] == [
        ("q", "b", True), ("q", "a", False),
    ]  # fmt: skip


def test_what_cannot_be_exported_is_one_sentence(made: Path, tmp_path: Path) -> None:
    lonely = write_jsonl(
        tmp_path / "s.jsonl", [{"prompt": "q", "generations": ["a"], "ratings": [1]}]
    )
    config = PairsConfig(input=InputConfig(data=str(lonely)), out=tmp_path / "pairs")
    with pytest.raises(CurateError, match="holds no pair"):
        exported(pairs(config).out, tmp_path / "out", "trl")
    settings: dict[str, Any] = {"to": "trl", "out": tmp_path / "out"}
    with pytest.raises(UsageError, match="--selection"):
        export(ExportConfig(run=str(made), selection="x", **settings))
    with pytest.raises(UsageError, match="--unpaired"):
        export(ExportConfig(run=str(tmp_path), unpaired=True, **settings))
