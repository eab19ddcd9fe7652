"""Teachers behind a real server: new instructions, instances, evolutions, answers."""

import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

from curate.pipeline.commands import synthesize
from curate.pipeline.config import InputConfig, ModelConfig, SynthesizeConfig
from curate.pipeline.runs.published.arrow_set import read_rows
from curate.pipeline.stages.synthesis.stage import SynthesizeResult

from ...llm.faulty_server import Answer, FaultyServer, Received, completion
from ...llm.records_asked import written

MODEL = "teacher-7b"
TOPICS = (
    "bread",
    "rivers",
    "violins",
    "bees",
    "glaciers",
    "lanterns",
    "harbours",
    "comets",
    "chess",
    "tunnels",
)


def seeds(number: int = 10) -> list[dict[str, Any]]:
    return [
        {"id": f"s{n}", "instruction": f"Explain to a child why {topic} matter to people."}
        for n, topic in enumerate(TOPICS[:number])
    ]


def mark_of(request: Received, digits: int = 8) -> str:
    """A word that the messages decide."""
    return blake2b(request.prompt.encode(), digest_size=digits // 2).hexdigest()


def items(request: Received, number: int = 8) -> str:
    """A list that goes on at 9; each item is of words of its own."""
    mark = mark_of(request)
    texts = (f"Describe {mark}{n} x{n}{mark} beside y{n}{mark} now." for n in range(number))
    return "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 9))


def teaches(request: Received) -> Answer:
    """All that either method asks for."""
    prompt = request.prompt
    if "classification task: is its answer" in prompt:
        return completion("Yes" if mark_of(request)[0] in "01234567" else "No.")
    if "Write examples of the classification" in prompt:
        return completion("Class label: good\nText: Fine.\nClass label: bad\nText: Poor.")
    if "Write examples of the task" in prompt:
        return completion(
            "Example 1\nInput: one\nOutput: two\nExample 2\nInput: three\nOutput: six"
        )
    if "Continue the list" in prompt:
        return completion(items(request))
    if "Compare the two prompts" in prompt:
        return completion("Not equal")
    if "Given prompt:" in prompt:
        given = prompt.rpartition("Given prompt:\n")[2]
        return completion(f"{given} Also weigh {mark_of(request)} in your words.")
    return completion(f"A full answer that speaks of {mark_of(request)} at length.")


def config(data: Path, out: Path, server: FaultyServer, **more: Any) -> SynthesizeConfig:
    names = ("seed", "concurrency", "max_tokens", "max_total_tokens")
    asked = {name: more.pop(name) for name in names if name in more}
    teacher = ModelConfig(model=MODEL, base_url=server.url, **asked)
    source = InputConfig(data=str(data), **more.pop("input", {}))
    return SynthesizeConfig(
        input=source, teacher=teacher, out=out, **{"method": "self-instruct", **more}
    )


def run(data: Path, out: Path, server: FaultyServer, **more: Any) -> SynthesizeResult:
    result = synthesize(config(data, out, server, **more))
    assert isinstance(result, SynthesizeResult)
    return result


def seed_file(folder: Path, number: int = 10) -> Path:
    return written(folder / "seeds.jsonl", seeds(number))


def made(out: Path) -> list[dict[str, Any]]:
    return list(read_rows(out / "instructions"))


def left_out(out: Path) -> list[dict[str, Any]]:
    return list(read_rows(out / "left_out"))


def shown(request: Received) -> list[str]:
    """The instructions of a request's list."""
    return re.findall(r"(?m)^\d+\. (.+)$", request.prompt)
