"""Preference pairs in the format of a training tool: both answers in a row, or a row an answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...config import ExportFormat
from ...errors import CurateError
from .formats import DATA, LOADING_JSONL, Export, Fields, Row, axolotl, llama_factory, system_of

Turns = Sequence[Mapping[str, str]]


def pair_export_for(tool: ExportFormat, *, name: str, unpaired: bool) -> Export:
    """What one tool needs; `name` is what it calls the data.

    `unpaired`: each answer is a row with a label, as KTO takes it.
    """
    lines = _LINES[tool, unpaired]
    if tool == "llama-factory":
        made = llama_factory(name, _LLAMA_FACTORY_KTO if unpaired else _LLAMA_FACTORY, lines)
        stage = "kto" if unpaired else "dpo"
        return replace(made, loading=f"{made.loading}, `stage: {stage}`.")
    if tool == "axolotl":
        return axolotl(_AXOLOTL_KTO if unpaired else _AXOLOTL, lines)
    trainer = "KTOTrainer" if unpaired else "DPOTrainer"
    note = f"\n\nTRL's `{trainer}` takes it as it is." if tool == "trl" else ""
    return Export(lines=lines, loading=LOADING_JSONL + note)


def _trl(row: Row) -> Iterator[Fields]:
    yield {name: row[name] for name in ("prompt", "chosen", "rejected")}


def _trl_unpaired(row: Row) -> Iterator[Fields]:
    for side, label in _SIDES:
        yield {"prompt": row["prompt"], "completion": row[side], "label": label}


def _plain(row: Row) -> Iterator[Fields]:
    yield dict(row)


def _plain_unpaired(row: Row) -> Iterator[Fields]:
    for (side, _), fields in zip(_SIDES, _trl_unpaired(row), strict=True):
        about = {"score": row[f"{side}_score"], "from": row[f"{side}_from"]}
        yield {"id": row["id"], **fields, **about, "source": row["source"]}


def _sharegpt(row: Row) -> Iterator[Fields]:
    sides = {side: _said(row[side])[0] for side, _ in _SIDES}
    yield {
        "conversations": _said(_without_system(row)),
        **sides,
        "system": system_of(row["prompt"]),
    }


def _sharegpt_unpaired(row: Row) -> Iterator[Fields]:
    for side, label in _SIDES:
        turns = [*_said(_without_system(row)), *_said(row[side])]
        yield {"conversations": turns, "label": label, "system": system_of(row["prompt"])}


def _axolotl(row: Row) -> Iterator[Fields]:
    yield {"messages": row["prompt"], **{side: row[side][0] for side, _ in _SIDES}}


def _axolotl_unpaired(row: Row) -> Iterator[Fields]:
    questions = _without_system(row)
    if len(questions) > 1:
        raise CurateError(
            f"the prompt of {row['id']} has several turns, which axolotl's KTO form cannot hold: "
            "take --to trl, or leave out --unpaired"
        )
    about = {"system": system_of(row["prompt"]), "prompt": questions[0]["content"]}
    for side, label in _SIDES:
        yield {**about, "completion": row[side][0]["content"], "label": label}


def _said(turns: Turns) -> list[dict[str, str]]:
    """Messages as ShareGPT names them."""
    return [{"from": _NAMES[turn["role"]], "value": turn["content"]} for turn in turns]


def _without_system(row: Row) -> list[Mapping[str, str]]:
    return [turn for turn in row["prompt"] if turn["role"] != "system"]


_SIDES = (("chosen", True), ("rejected", False))
_NAMES = {"user": "human", "assistant": "gpt"}
_LINES: dict[tuple[ExportFormat, bool], Callable[[Row], Iterator[Fields]]] = {
    ("trl", False): _trl,
    ("trl", True): _trl_unpaired,
    ("jsonl", False): _plain,
    ("jsonl", True): _plain_unpaired,
    ("llama-factory", False): _sharegpt,
    ("llama-factory", True): _sharegpt_unpaired,
    ("axolotl", False): _axolotl,
    ("axolotl", True): _axolotl_unpaired,
}
_COLUMNS = {"messages": "conversations", "system": "system"}
_LLAMA_FACTORY = {
    "file_name": DATA,
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {**_COLUMNS, "chosen": "chosen", "rejected": "rejected"},
}
_LLAMA_FACTORY_KTO = {
    "file_name": DATA,
    "formatting": "sharegpt",
    "columns": {**_COLUMNS, "kto_tag": "label"},
}
_AXOLOTL = """\
rl: dpo
datasets:
  - path: data.jsonl
    ds_type: json
    split: train
    type: chat_template.default
    field_messages: messages
    field_chosen: chosen
    field_rejected: rejected
"""
_AXOLOTL_KTO = """\
rl: kto
datasets:
  - path: data.jsonl
    ds_type: json
    split: train
    type: chatml.prompt_pairs
"""
