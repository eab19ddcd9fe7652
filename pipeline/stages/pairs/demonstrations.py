"""Demonstrations and a model's answers to the same instructions -> rivals (SPIN)."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from ...config import InputConfig
from ...inputs.examples import read_examples
from ...inputs.ingest import Intake
from ...inputs.readers import Source
from ...method.preferences.rivals import Answer, Rivals
from ...records import Origin, user_turn
from .grouping import grouped
from .prompts import prompt_of
from .samples import Sample, usable_rows


def demonstration_rivals(
    source: Source, against: Source, columns: InputConfig, intake: Intake
) -> Iterator[Rivals]:
    """Each demonstration with each of the model's answers, or alone where it has none.

    They are matched by instruction and input; the model's answers to anything else are not used.
    """
    both = chain(_demonstrations(source, columns, intake), _answers(against))
    for _, group in grouped(both):
        answers = [Sample(**fields) for made, fields in group if made == "answer"]
        for made, fields in group:
            if made == "demonstration":
                yield from _matched(fields, answers)


def _demonstrations(
    source: Source, columns: InputConfig, intake: Intake
) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    for one in read_examples(source, columns, intake):
        texts = {"instruction": one.instruction, "input": one.input, "system": one.system}
        prompt = prompt_of(texts, InputConfig(data=source.name))
        fields = {"id": one.id, "prompt": prompt, "text": one.output}
        yield user_turn(one.instruction, one.input), ("demonstration", fields)


def _answers(against: Source) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    for _, samples in usable_rows(against, InputConfig(data=against.name), Intake()):
        for sample in samples:
            yield str(samples[0].prompt[-1]["content"]), ("answer", sample.fields())


def _matched(demonstration: dict[str, Any], answers: list[Sample]) -> Iterator[Rivals]:
    good = Answer(text=demonstration["text"], origin=Origin(candidate="demonstration"))
    about = {"id": demonstration["id"], "prompt": demonstration["prompt"]}
    if not answers:
        yield Rivals(**about, answers=[good], source="demonstrations")
    for place, answer in enumerate(answers):
        both = [good, answer.answer(place)]
        yield Rivals(**about, answers=both, source="demonstrations")
