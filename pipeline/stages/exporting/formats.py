"""A selection's rows and settings in the format of a training tool."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...config import ExportFormat
from ...errors import CurateError
from ...templates import SEPARATORS, Template

DATA = "data.jsonl"

Row = Mapping[str, Any]
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """How a row is written, the tool's own file beside the data, and how the data are loaded."""

    line: Callable[[Row], Fields]
    files: dict[str, str]
    loading: str
    """For the card: Markdown."""


def export_for(
    tool: ExportFormat, *, name: str, template: str, student: str, max_length: int
) -> Export:
    """What one tool needs; `template` is the scores' own, `name` what the tool calls the data."""
    if tool == "llama-factory":
        info = {name: LLAMA_FACTORY}
        text = json.dumps(info, indent=2) + "\n"
        return Export(
            line=_alpaca,
            files={"dataset_info.json": text},
            loading=f"LLaMA-Factory: `dataset_dir: this folder`, `dataset: {name}`; or put "
            "`data.jsonl` and the entry of `dataset_info.json` into your own `data/`.",
        )
    if tool == "axolotl":
        return Export(
            line=lambda row: {"messages": row["messages"]},
            files={"axolotl.yml": AXOLOTL},
            loading="axolotl: put the block of `axolotl.yml` into your configuration; `path` is "
            "taken from the folder that axolotl is started in.",
        )
    if tool == "trl":
        script = TRL.format(student=repr(student), max_length=max_length)
        return Export(
            line=lambda row: _prompt_completion(row, template),
            files={"train.py": script},
            loading="TRL: `python train.py MODEL OUT`; the loss is on the completions only.",
        )
    return Export(line=_plain, files={}, loading=LOADING_JSONL)


def _plain(row: Row) -> Fields:
    names = ("id", "instruction", "input", "output", "messages", "candidate", "ifd", "rifd")
    return {name: row[name] for name in names}


def _system(row: Row) -> str:
    return next((turn["content"] for turn in row["messages"] if turn["role"] == "system"), "")


def _alpaca(row: Row) -> Fields:
    texts = {"instruction": row["instruction"], "input": row["input"] or ""}
    turns = [turn["content"] for turn in _history(row)]
    history = [list(pair) for pair in zip(turns[::2], turns[1::2], strict=True)]
    return {**texts, "output": row["output"], "system": _system(row), "history": history}


def _history(row: Row) -> list[Mapping[str, str]]:
    """The turns before the last exchange, without the system's."""
    return [turn for turn in row["messages"][:-2] if turn["role"] != "system"]


def _prompt_completion(row: Row, template: str) -> Fields:
    """Turns where the scores were made with a chat template, else its texts."""
    if template not in SEPARATORS:
        return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    if _history(row):
        raise CurateError(
            f"{row['id']} has earlier turns, which the template {template} cannot write as one "
            "text: export to jsonl, axolotl or llama-factory"
        )
    prompt = Template(template).prompt(
        row["instruction"], row["input"] or "", system=_system(row) or None
    )
    return {"prompt": prompt, "completion": row["output"]}


LLAMA_FACTORY = {
    "file_name": DATA,
    "formatting": "alpaca",
    "columns": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    },
}
AXOLOTL = """\
datasets:
  - path: data.jsonl
    ds_type: json
    type: chat_template
    field_messages: messages
    message_property_mappings:
      role: role
      content: content
    roles_to_train: ["assistant"]
    train_on_eos: turn
"""
LOADING_JSONL = """\
```python
import datasets

rows = datasets.load_dataset("json", data_files="data.jsonl", split="train")
```"""
TRL = '''\
"""Fine-tunes a model on data.jsonl beside this file: python train.py [MODEL] [OUT]"""

import sys
from pathlib import Path

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model = sys.argv[1] if len(sys.argv) > 1 else {student}
out = sys.argv[2] if len(sys.argv) > 2 else "trained"
data = load_dataset("json", data_files=str(Path(__file__).with_name("data.jsonl")), split="train")
trainer = SFTTrainer(
    model=model,
    train_dataset=data,
    args=SFTConfig(
        output_dir=out,
        max_length={max_length},
        completion_only_loss=True,
        num_train_epochs=3,
        learning_rate=2e-5,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=32,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
    ),
)
trainer.train()
trainer.save_model()
'''
