"""Runs with one student or two, baselines, and texts that would like to be more than texts."""

import json
from dataclasses import replace
from pathlib import Path

import datasets

from curate.pipeline.config import (
    InputConfig,
    ModelConfig,
    PairsConfig,
    ReflectConfig,
    ScoringConfig,
    SelectConfig,
)
from curate.pipeline.config.shared.training import FinetuneConfig
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.finetuning import finetune_run
from curate.pipeline.stages.pairs.stage import pairs
from curate.pipeline.stages.reflection.stage import reflect
from curate.pipeline.stages.selection.stage import select

HOSTILE = "\n".join(
    [
        "<script>window.hacked = 1; document.title = 'hacked'</script>",
        "<img src='/leak.png' onerror='window.hacked = 2'>",
        "</div></details></main><style>body { display: none }</style><!-- <svg onload=hacked()>",
        "{{ 7 * 7 }} {% raw %} &amp; &lt;b&gt; ]]> ${hacked}",
        "abc \u202egnp.exe \u2066x\u2069 \u200f\u0634\u0643\u0631\u0627 \u05e9\u05dc\u05d5\u05dd",
        "NUL \0 ESC \x1b[31m CR \r\nTAB \t. \u0085 \ufeff zero\u200bwidth",
        "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 e\u0301 \u65e5\u672c\u8a9e",
    ]
)
LONG_LINE = "x" * 5000
WORDS = (
    "bread",
    "water",
    "stone",
    "river",
    "answer",
    "list",
    "reason",
    "number",
    "garden",
    "music",
)
NEW = "Weak.\n[New Instruction] {0} [End]\n[New Answer] {1} [End]"
BETTER = "Short.\n[Better Answer] {0} [End]"


def records() -> list[dict[str, str]]:
    rows = [
        {"id": f"r{number:02d}", "instruction": f"Say {number} {_words(number, 6)}?",
         "input": _words(number + 3, 3) if number % 3 == 0 else "",
         "output": f"{_words(number, 9 + number % 7)}."}
        for number in range(36)
    ]  # fmt: skip
    odd = {"id": "!<b>0", "instruction": HOSTILE, "input": "<i>in</i>", "output": "Hm. " + HOSTILE}
    long = {"id": "!1", "instruction": "Be long.", "input": "", "output": LONG_LINE}
    return [odd, long, *rows]


def _words(seed: int, number: int) -> str:
    return " ".join(
        WORDS[(seed * 7 + place * (seed % 5 + 1)) % len(WORDS)] for place in range(number)
    )


def replies() -> list[dict[str, str]]:
    found = []
    for place, row in enumerate(records()):
        new = NEW.format(f"Tell of {row['instruction']}", f"{_words(place + 1, 12)}.")
        if place % 9 == 5:
            new = "I see nothing to do."
        both = BETTER.format(f"{_words(place, 5)}, and {_words(place + 4, 11)}.")
        better = BETTER.format(f"{row['output']} {_words(place + 2, 6)}.")
        if place % 8 == 3:
            better = BETTER.format(row["output"])
        for kind, reply in (("instruction", new), ("response", better), ("both", both)):
            if (place, kind) != (10, "both"):
                found.append({"id": row["id"], "candidate": kind, "reply": reply})
    return found


def _lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def reflected(folder: Path) -> Path:
    """Reflected only; one duplicate and two unusable input rows."""
    rows = records()
    unusable = [{"instruction": "<script>hacked = 3</script>"}, {"output": "no instruction"}]
    data = _lines(folder / "data.jsonl", [*rows, rows[4], *unusable])
    run = folder / "run <b> & co"
    reflect(
        ReflectConfig(
            input=InputConfig(data=str(data)),
            teacher=ModelConfig(replies=_lines(folder / "replies.jsonl", replies())),
            out=run,
        )
    )
    return run


def selected(folder: Path, student: Path) -> Path:
    """Selected by one student, who has two baselines."""
    run = reflected(folder)
    scoring = ScoringConfig(student=str(student), device="cpu")
    data = InputConfig(data=str(run))
    result = select(SelectConfig(input=data, scoring=scoring, max_ifd=2.0, max_rifd=1.6))
    write_baselines(run, result.student)
    return run


def whole(folder: Path, student: Path) -> Path:
    """Selected by two students, the second with a budget and in half precision; a model, pairs."""
    run = selected(folder, student)
    scoring = ScoringConfig(
        student=str(student), device="cpu", template="alpaca", dtype="bfloat16", score_all=True
    )
    data = InputConfig(data=str(run))
    select(SelectConfig(input=data, scoring=scoring, top="50%", max_ifd=1.8, max_rifd=1.9))
    made = sorted(path.name for path in (run / "selected").iterdir())[0]
    pairs(PairsConfig(input=data, out=run / "made" / "pairs", student=made))
    recipe = FinetuneConfig(input=data, out=run / "model", model=str(student), selection=made)
    finetune_run(replace(recipe, preset="demo", max_steps=3, held_out=0.3))
    about = RunDir.open(run)
    cost = {"tokens": {"prompt": 12345, "completion": 6789}, "cost_usd": 1.25}
    about.finish_stage("reflect", {**(about.stage("reflect") or {}), **cost})
    return run


def write_baselines(run: Path, key: str) -> None:
    """Two sets of originals, as many as are selected, their scores unknown or known."""
    kept = datasets.load_from_disk(str(run / "selected" / key))
    originals = {
        c.id: c for group in RunDir.open(run).records() for c in group if c.candidate == "original"
    }
    for name, ids in (("random", sorted(originals)), ("length", sorted(originals, reverse=True))):
        rows = []
        for place, id in enumerate(ids[: len(kept)]):
            original = originals[id]
            row = dict.fromkeys(kept.column_names) | {"id": id, "candidate": "original"}
            row |= {n: getattr(original, n) for n in ("instruction", "input", "output")}
            rows.append(row | {"ifd": 0.25 if place == 0 else None})
        made = datasets.Dataset.from_list(rows, features=kept.features)
        made.save_to_disk(str(run / "baselines" / key / name))
