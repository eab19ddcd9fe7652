"""`curate generate`: answers against the model's own generate(), formats, servers, resuming."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.config import GenerateConfig, InputConfig, ModelConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs.evaluation.answers import match_answers
from curate.pipeline.inputs.evaluation.questions import Question
from curate.pipeline.stages.generation.stage import Generated, Prompts, generate

from ...conftest import shared
from ...llm.faulty_server import Answer, FaultyServer, Received, completion, error
from ...scoring.tiny import byte_level, save_student

NEW = 12
ROWS = [
    {"instruction": "Say which animals fly.", "dataset": "birds"},
    {"instruction": "Translate.", "input": "ja {nein}", "dataset": "words"},
    {"instruction": "Say which animals fly, and tell me why the others cannot."},
]
OPENING = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)

pytestmark = pytest.mark.usefixtures("one_thread")


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def config(data: Path, out: Path, model: Path | str, **more: Any) -> GenerateConfig:
    input = {name: more.pop(name) for name in list(more) if name in InputConfig.__slots__}
    form = {
        name: more.pop(name) for name in list(more) if name in ("format", "template", "samples")
    }
    asked = {"max_tokens": NEW, "device": "cpu", "concurrency": 8, **more}
    return GenerateConfig(
        input=InputConfig(data=str(data), **input),
        model=ModelConfig(model=str(model), role="model", **asked),
        out=out,
        **form,
    )


class Alone:
    """The oracle: one prompt at a time by greedy generate()."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def new(self, ids: list[int]) -> list[int]:
        prompt = torch.tensor([ids])
        out = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=1,
        )
        found: list[int] = out[0, len(ids) :].tolist()
        return found

    def text(self, prompt: str) -> str:
        ids = self.tokenizer(prompt)["input_ids"]  # BOS in front, nothing behind
        assert ids[0] == 0 and ids[-1] != 1
        return self.decoded(ids)

    def decoded(self, ids: list[int]) -> str:
        """What follows; NUL cannot be stored."""
        text = str(self.tokenizer.decode(self.new(ids), skip_special_tokens=True))
        return text.replace("\0", "\ufffd")


def test_a_fine_tuned_model_is_asked_in_its_template(tmp_path: Path, tiny_student: Path) -> None:
    """The raw wire format behind BOS, though this tokenizer has a chat template too."""
    data, out = written(tmp_path / "set.jsonl", ROWS), tmp_path / "answers.json"
    done = generate(config(data, out, tiny_student, template="vicuna"))
    rows = json.loads(out.read_text("utf-8"))
    alone = Alone(tiny_student)
    prompts = [
        f"{OPENING}{ROWS[0]['instruction']} ASSISTANT:",
        f"{OPENING}Translate.\nInput:\nja {{nein}} ASSISTANT:",
        f"{OPENING}{ROWS[2]['instruction']} ASSISTANT:",
    ]
    answers = [alone.text(prompt).removeprefix(" ") for prompt in prompts]
    assert [row["output"] for row in rows] == answers
    assert rows[1] == {
        "instruction": "Translate.", "input": "ja {nein}", "output": rows[1]["output"],
        "generator": "tiny", "dataset": "words",
    }  # fmt: skip
    assert "dataset" not in rows[2] and "input" not in rows[2]
    assert (done.format, done.answers, done.asked, done.failed) == ("alpaca_eval", 3, 3, {})
    again = generate(config(data, out, tiny_student, template="vicuna"))
    assert (again.asked, again.reused) == (0, 3)
    assert json.loads(out.read_text("utf-8")) == rows


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nSay which animals fly.\n\n### Response:\n",
        ),
        ("wizardlm", "Say which animals fly.\n\n### Response:\n"),
    ],
)
def test_the_other_wire_formats(
    tmp_path: Path, tiny_student: Path, template: str, prompt: str
) -> None:
    data, out = written(tmp_path / "set.jsonl", ROWS[:1]), tmp_path / "a.json"
    generate(config(data, out, tiny_student, template=template))
    assert json.loads(out.read_text("utf-8"))[0]["output"] == Alone(tiny_student).text(prompt)


def test_the_chat_template_brings_its_own_bos(tmp_path: Path, tiny_student: Path) -> None:
    data, out = written(tmp_path / "set.jsonl", ROWS[1:2]), tmp_path / "a.json"
    generate(config(data, out, tiny_student, template="chat"))
    alone = Alone(tiny_student)
    chat = [{"role": "user", "content": "Translate.\nja {nein}"}]
    ids = alone.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ids.count(0) == 1
    assert json.loads(out.read_text("utf-8"))[0]["output"] == alone.decoded(ids)


def test_no_chat_template_is_needed_and_the_models_own_note_names_the_template(
    tmp_path: Path, tiny_student: Path
) -> None:
    model = save_student(tmp_path / "tuned", tokenizer=byte_level(chat=None))
    (model / "training.json").write_text('{"template": "wizardlm"}', "utf-8")
    data, out = written(tmp_path / "set.jsonl", ROWS[:1]), tmp_path / "a.json"
    generate(config(data, out, model))
    expected = Alone(model).text("Say which animals fly.\n\n### Response:\n")
    assert json.loads(out.read_text("utf-8"))[0]["output"] == expected


TURNS = [
    {"question_id": 81, "category": "writing", "turns": ["Say one.", "Say it again."]},
    {"question_id": 82, "category": "maths", "turns": ["Tell me why."]},
]


def test_the_second_turn_has_the_first_answer_before_it(tmp_path: Path, tiny_student: Path) -> None:
    """MT-Bench's file; its second prompt is T(x) + y + EOS as trained on, and the question."""
    data, out = written(tmp_path / "question.jsonl", TURNS), tmp_path / "tiny.jsonl"
    done = generate(config(data, out, tiny_student, template="vicuna"))
    first, second = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    alone = Alone(tiny_student)
    asked = alone.tokenizer(f"{OPENING}Say one. ASSISTANT:")["input_ids"]
    answer = alone.decoded(asked).removeprefix(" ")

    def bare(text: str) -> list[int]:
        ids: list[int] = alone.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    asked += [*bare(f" {answer}"), 1, *bare("USER: Say it again. ASSISTANT:")]
    again = alone.decoded(asked).removeprefix(" ")
    assert first["choices"] == [{"index": 0, "turns": [answer, again]}]
    assert (first["question_id"], first["model_id"]) == (81, "tiny")
    assert set(first) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    assert first["answer_id"] != second["answer_id"] and isinstance(first["tstamp"], float)
    assert len(second["choices"][0]["turns"]) == 1
    assert (done.format, done.asked) == ("mt_bench", 3)


def test_a_server_gets_messages_with_the_history(tmp_path: Path) -> None:
    data, out = written(tmp_path / "question.jsonl", TURNS), tmp_path / "a.jsonl"
    with FaultyServer(reply=lambda request: f"to {len(request.body['messages'])}") as server:
        done = generate(config(data, out, "m", base_url=server.url, format="jsonl"))
        asked = [request.body["messages"] for request in server.requests]
    history = [
        {"role": "user", "content": "Say one."},
        {"role": "assistant", "content": "to 1"},
        {"role": "user", "content": "Say it again."},
    ]
    assert history in asked and len(asked) == 3
    first, second = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert first["messages"] == [*history, {"role": "assistant", "content": "to 3"}]
    assert second == {
        "id": "82", "instruction": "Tell me why.", "output": "to 1", "generator": "m",
        "dataset": "maths",
    }  # fmt: skip
    assert done.answers == 2


@pytest.mark.parametrize("template", ["vicuna", "chat"])
def test_vllm_takes_the_rendered_prompt_as_it_is(
    tmp_path: Path, tiny_student: Path, template: str
) -> None:
    """By a chat template that passes it through: the same tokens as in process."""
    own, served = (
        Prompts(config(tmp_path, tmp_path, tiny_student, template=template), engine)
        for engine in ("transformers", "vllm")
    )
    question = Question(id="q", turns=("Say one.", "Again."), input="in")
    tokens = own.rendered(question, ("One.",))[1]
    messages, none = served.rendered(question, ("One.",))
    assert none is None and served.pass_through is not None and own.pass_through is None
    text = jinja2.Template(served.pass_through).render(messages=messages, bos_token="<s>")
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    sent = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(sent) == tokenizer.decode(tokens)
    assert sent[0] == 0 and sent.count(0) == 1 and sent.count(1) == (template == "vicuna")


def test_taken_up_after_an_error_nothing_is_asked_twice(tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {number}?"} for number in range(9)]
    data, out = written(tmp_path / "set.jsonl", rows), tmp_path / "a.json"

    def unpaid(request: Received) -> Any:
        return error(402, "no credit left") if request.number >= 4 else None

    with FaultyServer(unpaid, reply=lambda request: request.prompt) as server:
        asked = config(data, out, "m", base_url=server.url, concurrency=1)
        with pytest.raises(CurateError, match="paid first"):
            generate(asked)
        assert not out.exists()
        server.behaviour = None
        done = generate(asked)
    assert (done.asked, done.reused, done.answers) == (5, 4, 9)
    rows_out = json.loads(out.read_text("utf-8"))
    assert [row["output"] for row in rows_out] == [row["instruction"] for row in rows]


def test_what_has_no_answer_is_left_out_and_counted(tmp_path: Path, tiny_student: Path) -> None:
    rows: list[dict[str, Any]] = [
        *ROWS[:1],
        {"instruction": "word " * 400},
        {"instruction": ""},
        {"instruction": 7},
    ]
    data, out = written(tmp_path / "set.jsonl", rows), tmp_path / "a.json"
    done = generate(config(data, out, tiny_student))
    assert (done.answers, done.rejected, done.cut) == (1, 2, 1)
    (reason,) = done.failed
    assert reason.startswith("longer than the model's context")


SHAPES = {
    "beside": completion("Yes.", reasoning_content="Hm."),
    "inside": completion("<think>\nHm.\n</think>\n\nYes."),
    "unopened": completion("Hm.\n</think>\n\nYes.<|im_end|>"),
    "about": completion("Write <think> first."),
    "unclosed": completion("<think>\nYes."),
    "only": completion(None, reasoning_content="Yes."),
    "tools": completion(None, tool_calls=[{"id": "x"}]),
    "filter": completion("Half of", finish_reason="content_filter"),
    "cut": completion("Half of", finish_reason="MAX_TOKENS"),
}


def test_reasoning_is_no_answer_and_no_text_is_none(tmp_path: Path) -> None:
    data = written(tmp_path / "set.jsonl", [{"instruction": name} for name in SHAPES])
    out = tmp_path / "a.json"

    def behaviour(request: Received) -> Answer | None:
        return SHAPES[request.prompt]

    with FaultyServer(behaviour) as server:
        done = generate(config(data, out, "m", base_url=server.url, max_tokens=99))
        asked = len(server.requests)
        again = generate(config(data, out, "m", base_url=server.url, max_tokens=99))
        assert len(server.requests) == asked and again.failed == done.failed
        server.behaviour = None
        retry = ("unparsed", "refused", "truncated")
        rescued = generate(config(data, out, "m", base_url=server.url, max_tokens=99, retry=retry))
        assert len(server.requests) == asked + 5 and rescued.answers == len(SHAPES)
    assert (done.answers, done.cut) == (5, 1)
    assert done.failed == {
        "unparsed: reasoning without a reply": 2,
        "unparsed: empty reply": 1,
        "refused: stopped by the server's filter: content_filter": 1,
    }
    rows = {row["instruction"]: row["output"] for row in json.loads(out.read_text("utf-8"))}
    assert [rows[name] for name in list(SHAPES)[:4]] == ["Yes."] * 3 + ["Write <think> first."]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "number", "turns"),
    [
        ("koala_test_set.jsonl.gz", 180, 1),
        ("lima_test_set.jsonl", 300, 1),
        ("mt_bench_question.jsonl", 80, 2),
        ("sinstruct_test_set.jsonl.gz", 252, 1),
        ("vicuna_bench_question.jsonl", 80, 1),
        ("vicuna_test_set.jsonl", 80, 1),
        ("wizardlm_test_set.jsonl.gz", 218, 1),
    ],
)
def test_the_papers_test_sets_are_read(tmp_path: Path, name: str, number: int, turns: int) -> None:
    data = shared(f"data/testsets/{name}")
    with FaultyServer(reply=lambda request: "Yes.") as server:
        made = config(data, tmp_path / "a.jsonl", "m", base_url=server.url)
        done = generate(made)
        asked = [request.body["messages"] for request in server.requests]
    assert (done.answers, done.rejected) == (number, 0)
    assert max(len(messages) for messages in asked) == 2 * turns - 1
    if turns == 1:
        form = tmp_path / "a.jsonl"
        matched = match_answers(str(form), str(form), InputConfig(data=str(form)))
        assert len(matched.pairs) >= number - 1


def told(made: GenerateConfig) -> str:
    before = set(made.out.parent.rglob("*"))
    with pytest.raises(CurateError) as problem:
        generate(made)
    assert set(made.out.parent.rglob("*")) == before
    return str(problem.value)


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, tiny_student: Path) -> None:
    data, out = written(tmp_path / "set.jsonl", ROWS), tmp_path / "a.json"
    good = config(data, out, tiny_student)
    assert "no such model folder" in told(config(data, out, "./nobody"))
    assert "is no model folder" in told(config(data, out, tmp_path))
    assert "no such file" in told(config(tmp_path / "none.json", out, tiny_student))
    empty = written(tmp_path / "empty.jsonl", [])
    assert "is empty" in told(config(empty, out, tiny_student))
    other = written(tmp_path / "other.jsonl", [{"topic": "x"}])
    assert "its columns are topic: name it with --instr" in told(config(other, out, tiny_student))
    assert "(--strict)" in told(config(other, out, tiny_student, strict=True))
    turns = written(tmp_path / "turns.jsonl", TURNS)
    assert "holds one answer" in told(config(turns, out, tiny_student))
    assert "was not made by this command" in told(config(data, data, tiny_student))
    assert "is a folder" in told(config(data, tmp_path, tiny_student))
    server = {"base_url": "http://127.0.0.1:9/v1"}
    assert "cannot reach" in told(config(data, out, "m", **server))
    with pytest.raises(UsageError, match="a server renders"):
        generate(config(data, out, "m", template="vicuna", **server))
    bare = save_student(tmp_path / "bare", tokenizer=byte_level(chat=None))
    assert "no chat template" in told(config(data, out, bare, template="chat"))
    assert isinstance(generate(good), Generated)
    with pytest.raises(CurateError, match="made with temperature = 0"):
        generate(replace(good, model=replace(good.model, temperature=1.0)))
