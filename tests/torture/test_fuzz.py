"""Random options, files and replies: an exit code and a sentence, never a traceback or a hang."""

import gzip
import json
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import typer.main

from curate.cli import app

from ..llm.faulty_server import Answer, FaultyServer, Received, completion, reflect
from ..llm.records_asked import records, written
from .conftest import IDS, TRIALS, Landed, reflecting, selecting
from .forker import LIGHT, Forker, forking
from .hostile import VALUES, WORDS, as_json, broken, changed

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]
EACH = max(TRIALS // 3, 2)
"""Of five kinds: 500 trials in all."""
ASKING = tuple(f"curate.pipeline.stages.{name}" for name in
               ("generation.stage", "rating", "solving.stage", "checking.stage"))  # fmt: skip
KEY = "sk-verysecretkey-1234567890"
ASKED_TO_STOP, KILLED = 45.0, 90.0
"""Seconds after which what still works is told to end, and after which it hangs."""
Words = list[str | Path]
Row = dict[str, Any]


class Trials:
    """Runs commands in a folder each, and looks at what they leave."""

    def __init__(self, curate: Forker, folder: Path, landed: Landed) -> None:
        self._curate, self._folder, self._landed = curate, folder, landed
        self._number = 0

    def place(self) -> Path:
        """The next trial's folder, within one in which nothing else may appear."""
        self._number += 1
        place = self._folder / f"trial-{self._number}" / "here"
        place.mkdir(parents=True)
        return place

    def run(self, place: Path, words: Sequence[str | Path]) -> None:
        """One trial; what it says and leaves is fit for its user."""
        child = self._curate.start(*words, patience=(0.5, 20.0), folder=place)
        timers = [Timer(ASKED_TO_STOP, child.send, [signal.SIGTERM]),
                  Timer(KILLED, child.send, [signal.SIGKILL])]  # fmt: skip
        for timer in timers:
            timer.start()
        code = child.wait()
        for timer in timers:
            timer.cancel()
        about = f"{place}: {[str(word)[:200] for word in words]!r}\n{child.said[-3000:]}"
        assert code in (0, 1, 2, 3, 4, 130), f"exit code {code}: {about}"
        assert "Traceback" not in child.said, about
        assert not set(child.said) & set("\x1b\x9b\x07\u202e"), about
        assert KEY not in child.said and "S3cret" not in child.said, about
        assert [path.name for path in place.parent.iterdir()] == ["here"], about
        self._landed(f"code {code}")
        shutil.rmtree(place.parent)


@pytest.fixture
def trials(curate: Forker, tmp_path: Path, landed: Landed) -> Trials:
    return Trials(curate, tmp_path, landed)


@pytest.fixture
def with_key(tmp_path: Path) -> Iterator[Forker]:
    with forking((*LIGHT, *ASKING), tmp_path, CURATE_API_KEY=KEY) as started:
        yield started


QUESTIONS: list[Row] = [
    {"question_id": 1, "category": "c", "turns": ["Why?", "And?"]},
    {"instruction": "Q"},
]
PAIR: Row = {"prompt": "Why?", "chosen": "It is so.", "rejected": "No."}
PROBLEM: Row = {"instruction": "1 + 1?", "output": "It is 2.", "answer": "2"}
REPLIES = [
    {"id": "r0", "candidate": "response", "reply": "C.\n[Better Answer] A bird. [End]"},
    {"id": "r1", "candidate": "instruction", "reply": "[New Instruction] Q?\n[New Answer] A."},
]  # fmt: skip
ROWS: list[Row] = [
    {"id": "r0", "instruction": "Say.", "input": "", "output": "It is 1.", "answer": "1", "n": {}},
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
                  {"role": "assistant", "content": "A", "weight": 1}], "source": "x"},
    {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    {"prompt": "Q", "completion": "A"},
    {"instruction": "Q", "output": "A", "system": "S", "history": [["q", "a"]], "tools": None},
    {"id": "r0", "candidate": "original", "instruction": "Q", "output": "A", "status": "ok"},
    {"prompt": "Q", "chosen": [{"role": "assistant", "content": "A"}], "rejected": "B"},
    {"id": "r0", "sample": 1, "prompt": "Q", "output": "A", "rating": 2.5, "ratings": [2, 3]},
]  # fmt: skip
MANY = ["--samples", "2", "--temperature", "1"]
ASKED = {"solve": "teacher", "judge": "judge", "generate": "model"}
"""What the asked model is called."""
LOGS: list[list[Row]] = [
    [{"review": "8 7", "review_reverse": "7 8", "category": "c"}],
    [{"judgment": "[[5]]", "question_id": 1, "model": "m"}],
    [{"instruction": "Q", "output_1": "A", "output_2": "B", "generator_1": "a", "preference": 1.5}],
]


def commands(run: Path, student: Path, place: Path) -> dict[str, Words]:
    """Each command with words that do."""
    data = written(place / "data.jsonl", records(3))
    replies = written(place / "replies.jsonl", REPLIES)
    questions = written(place / "questions.jsonl", QUESTIONS)
    problems = written(place / "problems.jsonl", [PROBLEM])
    unanswered = written(place / "unanswered.jsonl", [])
    pairs = written(place / "pairs.jsonl", [PAIR | {"id": str(n)} for n in range(8)])
    asking: Words = ["--model", student, "--max-tokens", "4", "--engine-device", "cpu"]
    (place / "log.json").write_bytes(as_json(LOGS[0]))
    scoring: Words = ["--student", student, "--device", "cpu"]
    small: Words = ["--preset", "demo", "--max-steps", "1", "--max-length", "128"]
    return {
        "reflect": ["reflect", data, "--out", "out", "--replies", replies],
        "select": selecting(run, student),
        "score": ["score", data, "--out", "scores.parquet", *scoring],
        "finetune": ["finetune", data, "--model", student, "--out", "tuned", *small],
        "run": ["run", data, "--out", "out", "--replies", replies, "--no-finetune", *scoring],
        "explain": ["explain", run, IDS[0]],
        "report": ["report", run],
        "status": ["status", run],
        "export": ["export", run, "--to", "jsonl", "--out", "out"],
        "pairs": ["pairs", run, "--out", "out"],
        "judge": ["judge", "--from-log", place / "log.json"],
        "bpc": ["bpc", questions, "--text-column", "instruction", *scoring],
        "solve": ["solve", problems, "--out", "out", "--replies", unanswered],
        "check": ["check", problems, "--out", "out"],
        "align": ["align", pairs, "--model", student, "--out", "aligned", *small],
        "rate": ["judge", data, "--rate", "--out", "rated.jsonl", "--replies", unanswered],
        "generate": ["generate", questions, "--out", "answers.json", "--format", "jsonl", *asking],
        "samples": ["generate", data, "--out", "samples.jsonl", *MANY, *asking],
    }  # fmt: skip


def test_the_words_do(curate: Forker, selected: Path, tiny_student: Path, tmp_path: Path) -> None:
    """Else the trials below would try nothing."""
    run = Path(shutil.copytree(selected, tmp_path / "run"))
    wrong = {}
    for number, (name, words) in enumerate(commands(run, tiny_student, tmp_path).items()):
        place = tmp_path / str(number)
        place.mkdir()
        child = curate.start(*words, folder=place)
        if child.wait() not in (0, 3):
            wrong[name] = child.said
    assert not wrong


def test_options(
    trials: Trials, selected: Path, tiny_student: Path, moments: random.Random
) -> None:
    found: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for _ in range(EACH):
        place = trials.place()
        run = Path(shutil.copytree(selected, place / "run"))
        words = moments.choice([*commands(run, tiny_student, place).values()])
        for option in moments.sample(found[str(words[0])].params, moments.choice((1, 1, 2))):
            flag = moments.choice([*option.opts, *option.secondary_opts])
            words += [flag] if flag.startswith("--") else []
            words += [] if getattr(option, "is_flag", False) else [moments.choice(WORDS)]
        trials.run(place, [str(word).replace("\0", "") for word in words])


def written_as(place: Path, rows: list[Any], moments: random.Random) -> Path:
    """A file of one of the formats of text, perhaps with other bytes than it should have."""
    name = moments.choice(
        ("d.jsonl", "d.json", "d.jsonl.gz", "d.csv", "state.json", "bad\udcff.jsonl")
    )
    data = as_json(rows) if name == "d.json" else b"".join(as_json(row) + b"\n" for row in rows)
    data = broken(data, moments) if moments.random() < 0.4 else data
    path = place / "set" / name
    path.parent.mkdir()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return moments.choice((path, path.parent))


def test_data(trials: Trials, selected: Path, tiny_student: Path, moments: random.Random) -> None:
    for _ in range(EACH):
        place = trials.place()
        words = commands(selected, tiny_student, place)
        command = moments.choice(("reflect", "reflect", "score", "finetune", "align", "judge",
                                  "rate", "check", "solve", "bpc", "generate", "samples", "pairs",
                                  "replies", "prices"))  # fmt: skip
        rows: list[Any] = [moments.choice(ROWS), *records(2)]
        rows = {"judge": moments.choice(LOGS), "replies": REPLIES}.get(command, rows)
        rows = [{"prices": {"m": {"prompt": 1, "completion": 2}}}] if command == "prices" else rows
        path = written_as(place, changed(rows, moments), moments)
        if command == "replies":
            trials.run(place, [*words["reflect"][:-1], path])
        elif command == "prices":
            trials.run(place, [*words["reflect"], "--dry-run", "--prices", path])
        else:
            at = 2 if command == "judge" else 1
            trials.run(place, [*words[command][:at], path, *words[command][at + 1 :]])


def headers(moments: random.Random) -> Iterator[tuple[str, str]]:
    """Headers that a good answer may have, some of them strange."""
    yield "content-type", "application/json"
    values = ("-1", "1e400", "nan", "soon", "9" * 400, "Mon, 01 Jan 99999999999 00:00:00 GMT", "")
    for name in ("date", "retry-after", "x-ratelimit-remaining-tokens"):
        if moments.random() < 0.3:
            yield name, moments.choice(values)


def test_replies(with_key: Forker, tmp_path: Path, moments: random.Random, landed: Landed) -> None:
    """What a server sends, with text, counts, reasons and headers of any kind."""

    def answer(request: Received) -> Answer:
        text = moments.choice((reflect(request), KEY, "[End]" * 99, "\x1b[31m\ud800\0", None))
        good = json.loads(completion(text, finish_reason=moments.choice((None, "stop", "x"))).body)
        good |= {"error": moments.choice(VALUES)} if moments.random() < 0.2 else {}
        body = as_json(changed(good, moments))
        body = broken(body, moments) if moments.random() < 0.2 else body
        status = moments.choice((200, 200, 200, 200, 400, 418))
        return Answer(status, body, tuple(headers(moments)))

    trials = Trials(with_key, tmp_path, landed)
    with FaultyServer(answer) as server:
        for _ in range(EACH):
            place = trials.place()
            rows = [row | {"answer": "1"} for row in records(2)]
            data = written(place / "data.jsonl", rows)
            words = reflecting(data, place / "out", server.url)
            if (command := moments.choice(("reflect", "solve", "judge", "generate"))) != "reflect":
                words[0] = command
                words[words.index("--teacher")] = f"--{ASKED[command]}"
                words += {"judge": ["--rate"], "generate": MANY}.get(command, [])
            trials.run(place, words)


def test_a_run_s_own_files(
    trials: Trials, selected: Path, tiny_student: Path, moments: random.Random
) -> None:
    files = [path.relative_to(selected) for path in sorted(selected.rglob("*")) if path.is_file()]
    documents = [path for path in files if path.suffix == ".json"]
    for _ in range(EACH):
        place = trials.place()
        run = Path(shutil.copytree(selected, place / "run"))
        path = run / moments.choice(documents if moments.random() < 0.7 else files)
        if path.suffix == ".json" and moments.random() < 0.8:
            path.write_bytes(as_json(changed(json.loads(path.read_bytes()), moments)))
        else:
            path.write_bytes(broken(path.read_bytes(), moments))
        names = ("select", "explain", "report", "status", "export", "pairs")
        trials.run(place, commands(run, tiny_student, place)[moments.choice(names)])


def test_models(trials: Trials, selected: Path, tiny_student: Path, moments: random.Random) -> None:
    for _ in range(EACH):
        place = trials.place()
        model = Path(shutil.copytree(tiny_student, place / "model"))
        path = moments.choice(sorted(model.iterdir()))
        if path.suffix == ".json" and moments.random() < 0.8:
            path.write_bytes(as_json(changed(json.loads(path.read_bytes()), moments)))
        else:
            path.write_bytes(broken(path.read_bytes(), moments))
        words = commands(selected, model, place)[
            moments.choice(("score", "finetune", "align", "samples", "bpc"))
        ]
        trials.run(place, [*words, "--template", "chat"] if moments.random() < 0.3 else words)
