"""Scores given a history: both passes of both ratios, held against a plain forward."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.method.spans import pair
from curate.pipeline.records import Candidate, Message, Score
from curate.pipeline.scoring.engine import ScoringEngine
from curate.pipeline.scoring.forward.packing import plan
from curate.pipeline.scoring.identity import resolve
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.templates import student_template

from ..training.data import scoring_with

pytestmark = pytest.mark.usefixtures("one_thread")

HISTORY: tuple[Message, ...] = (
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "A robin."},
)
RECORD = Candidate(
    id="c",
    candidate="original",
    instruction="And one that swims?",
    output="A penguin swims.",
    history=HISTORY,
)


def scored(student: Path, candidate: Candidate, template: str, **settings: Any) -> Score:
    config = scoring_with(student, template=template, score_all=True, **settings)
    identity = resolve(config, student / "scores")
    scores: dict[Any, Score] = {}
    with closing(ScoringEngine(config, identity)) as engine:
        engine.fill([{"original": candidate}], [scores])
    return scores["original"]


def mean_nll(student: Path, prefix: Sequence[int], target: Sequence[int]) -> float:
    model = AutoModelForCausalLM.from_pretrained(student).double().eval()
    with torch.no_grad():
        logits = model(torch.tensor([[*prefix, *target]])).logits[0]
    log_probs = logits.log_softmax(-1)[len(prefix) - 1 : -1]
    return -float(log_probs.gather(1, torch.tensor(target)[:, None]).mean())


def chat_texts(instruction: str) -> tuple[str, str]:
    """T(h) and T(h, x) of the tiny student's own template."""
    before = "<s>[user]Name a bird.[assistant]A robin."
    return before, f"{before}[user]{instruction}[assistant]"


def test_both_passes_are_given_the_history(tiny_student: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    score = scored(tiny_student, RECORD, "chat")
    before, asked = chat_texts("And one that swims?")
    y, x = ids("A penguin swims."), ids("And one that swims?")
    guess = student_template("chat", tokenizer).guess("A penguin swims.", history=HISTORY)
    assert guess.startswith(before) and guess.endswith("[assistant]")
    wanted = {
        "nll_response_given_instruction": mean_nll(tiny_student, ids(asked), y),
        "nll_response": mean_nll(tiny_student, ids(before), y),
        "nll_instruction_given_response": mean_nll(tiny_student, ids(guess), x),
        "nll_instruction": mean_nll(tiny_student, ids(before), x),
    }
    for name, value in wanted.items():
        assert getattr(score, name) == pytest.approx(value, abs=1e-5), name


def test_a_wire_format_ends_each_answer_with_eos(tiny_student: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    template = student_template("wizardlm", tokenizer)
    tokens = Tokenization(tokenizer, template, name="exact", max_length=256)
    [found] = tokens.span_pairs([pair(RECORD, "ifd", template)])
    assert found.conditional is not None and found.unconditional is not None
    text = "<s>Name a bird.\n\n### Response:\nA robin.</s>"
    asked = "\n\nAnd one that swims?\n\n### Response:\n"
    assert tokenizer.decode(found.unconditional.ids) == f"{text}A penguin swims."
    assert tokenizer.decode(found.conditional.ids) == f"{text}{asked}A penguin swims."


@pytest.mark.parametrize("template", ["chat", "vicuna"])
def test_the_history_is_in_a_row_once(tiny_student: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    chosen = student_template(template, tokenizer)
    tokens = Tokenization(tokenizer, chosen, name="exact", max_length=256)
    pairs = tokens.span_pairs([pair(RECORD, side, chosen) for side in ("ifd", "rifd")])
    spans = [span for p in pairs for span in (p.conditional, p.unconditional) if span is not None]
    [row] = plan(spans, [], 1 << 20)
    shared = len(tokens.context_ids(chosen.context(HISTORY)))
    assert len(row.ids) == sum(len(s.ids) - 1 for s in spans) - (len(spans) - 1) * shared


def test_without_a_history_scores_are_those_of_the_exchange(tiny_student: Path) -> None:
    bare = Candidate(id="c", candidate="original", instruction="Add.", output="3.", system="Short.")
    rifd = scored(tiny_student, bare, "chat").nll_instruction_given_response
    without = Candidate(id="c", candidate="original", instruction="Add.", output="3.")
    assert rifd == scored(tiny_student, without, "chat").nll_instruction_given_response


@pytest.mark.parametrize("tokenization", ["exact", "reference"])
def test_a_history_that_fills_the_context(tiny_student: Path, tokenization: str) -> None:
    long = ({"role": "user", "content": "Say it again. " * 200}, HISTORY[1])
    candidate = Candidate(
        id="c", candidate="original", instruction="Add.", output="3.", history=long
    )
    score = scored(tiny_student, candidate, "chat", tokenization=tokenization)
    assert (score.ifd_status, score.rifd_status) == ("overlong", "overlong")
    assert score.ifd is None and score.rifd is None
