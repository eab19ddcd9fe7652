"""Records that a server can tell apart, and what it was asked by the journal's keys."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curate.pipeline.llm.protocol import request_key
from curate.pipeline.templates import teacher_prompts

from .faulty_server import Received
from .faulty_server import reflect as proper

MODEL = "teacher-7b"

Row = dict[str, Any]


def records(number: int, *, start: int = 0) -> list[Row]:
    return [
        {"id": f"r{n}", "instruction": f"Say what rec-{n:03d} is.", "output": f"It is {n}."}
        for n in range(start, start + number)
    ]


def written(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def key_of(request: Received) -> str:
    """The journal's key of a request as the server saw it."""
    return request_key(
        model=request.body["model"],
        revision=None,
        messages=request.body["messages"],
        prompt_version=teacher_prompts().version,
        temperature=request.body["temperature"],
        seed=request.body.get("seed"),
    )


def journaled(folder: Path) -> set[str]:
    """The keys of every whole line of a journal: what has been acknowledged."""
    keys = set()
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                keys.add(json.loads(line)["key"])
            except ValueError:
                continue  # torn by a kill
    return keys


def journal_lines(folder: Path) -> list[Row]:
    """The entries of a journal whose lines are all whole."""
    texts = (path.read_text("utf-8") for path in folder.glob("*.jsonl"))
    return [json.loads(line) for text in texts for line in text.split("\n")[:-1]]


def about(request: Received) -> tuple[str, str]:
    """(rec-NNN, instruction|response) of a request; `both` looks like a response."""
    mark = re.search(r"rec-\d{3}|$", request.prompt)
    assert mark is not None
    return mark[0], "instruction" if "[New Instruction]" in request.prompt else "response"


def naming(request: Received) -> str:
    """A proper reply whose new instruction names the record, so that `both` can be told."""
    return proper(request).replace("harder instruction", f"harder {about(request)[0]}")
