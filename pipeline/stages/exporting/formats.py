"""A selection's rows and settings in the format of a training tool."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...config import ExportFormat
from ...errors import CurateError
from ...templates import SEPARATORS, Template

DATA = "data.jsonl"

Row = Mapping[str, Any]
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The lines of a row, the tool's own file, and how the data are loaded, in Markdown."""

    lines: Callable[[Row], Iterable[Fields]]
    files: dict[str, str] = field(default_factory=dict)
    loading: str


def llama_factory(name: str, info: Fields, lines: Callable[[Row], Iterable[Fields]]) -> Export:
    """The data set's entry beside it."""
    return Export(
        lines=lines,
        files={"dataset_info.json": json.dumps({name: info}, indent=2) + "\n"},
        loading=f"LLaMA-Factory: `dataset_dir: this folder`, `dataset: {name}`",
    )


def axolotl(block: str, lines: Callable[[Row], Iterable[Fields]]) -> Export:
    """The block of the configuration beside the data."""
    return Export(
        lines=lines,
        files={"axolotl.yml": block},
        loading="axolotl: put the block of `axolotl.yml` into your configuration; `path` is "
        "taken from the folder that axolotl is started in.",
    )


def export_for(
    tool: ExportFormat, *, name: str, template: str, student: str, max_length: int
) -> Export:
    """What one tool needs; `template` is the scores' own, `name` what the tool calls the data."""
    if tool == "llama-factory":
        made = llama_factory(name, LLAMA_FACTORY, _alpaca)
        more = "; or put `data.jsonl` and the entry of `dataset_info.json` into your own `data/`."
        return replace(made, loading=made.loading + more)
    if tool == "axolotl":
        return axolotl(AXOLOTL, lambda row: [{"messages": row["messages"]}])
    if tool == "trl":
        script = TRL.format(student=repr(student), max_length=max_length)
        return Export(
            lines=lambda row: [_prompt_completion(row, template)],
            files={"train.py": script},
            loading="TRL: `python train.py MODEL OUT`; the loss is on the completions only.",
        )
    return Export(lines=_plain, loading=LOADING_JSONL)


def _plain(row: Row) -> Iterator[Fields]:
    names = ("id", "instruction", "input", "output", "messages", "candidate", "ifd", "rifd")
    yield {name: row[name] for name in names}


def system_of(turns: Sequence[Mapping[str, str]]) -> str:
    """The text of the system turn, empty without one."""
    return next((turn["content"] for turn in turns if turn["role"] == "system"), "")


def _alpaca(row: Row) -> Iterator[Fields]:
    texts = {"instruction": row["instruction"], "input": row["input"] or ""}
    turns = [turn["content"] for turn in _history(row)]
    history = [list(pair) for pair in zip(turns[::2], turns[1::2], strict=True)]
    system = system_of(row["messages"])
    yield {**texts, "output": row["output"], "system": system, "history": history}


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
        row["instruction"], row["input"] or "", system=system_of(row["messages"]) or None
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
