"""Demonstrations and a model's answers to the same instructions -> rivals (SPIN)."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from ...config import InputConfig
from ...inputs.examples import read_examples
from ...inputs.ingest import Intake
from ...inputs.readers import Source
from ...inputs.samples import read_samples
from ...method.preferences.rivals import Answer, Rivals
from ...pair_records import Origin, Prompt, Sample
from .rated import grouped, sample_from, sampled_answer

_Item = tuple[str, tuple[str, dict[str, Any]]]


def demonstration_rivals(
    source: Source, against: Source, columns: InputConfig, intake: Intake
) -> Iterator[Rivals]:
    """Each demonstration with each of the model's answers, or alone where it has none.

    They are matched by instruction and input; the model's answers to anything else are not used.
    """
    both = chain(_demonstrations(source, columns, intake), _answers(against))
    for _, group in grouped(both):
        found = [(made, sample_from(fields)) for made, fields in group]
        answers = [sample for made, sample in found if made == "answer"]
        for made, sample in found:
            if made == "demonstration":
                yield from _matched(sample, answers)


def _demonstrations(source: Source, columns: InputConfig, intake: Intake) -> Iterator[_Item]:
    for one in read_examples(source, columns, intake):
        prompt = Prompt(instruction=one.instruction, input=one.input, system=one.system)
        sample = Sample(id=one.id, prompt=prompt, output=one.output)
        yield prompt.turn, ("demonstration", asdict(sample))


def _answers(against: Source) -> Iterator[_Item]:
    for sample in read_samples(against, InputConfig(data=against.name), Intake()):
        yield sample.prompt.turn, ("answer", asdict(sample))


def _matched(demonstration: Sample, answers: list[Sample]) -> Iterator[Rivals]:
    good = Answer(text=demonstration.output, origin=Origin(candidate="demonstration"))
    own = [[sampled_answer(answer, place)] for place, answer in enumerate(answers)]
    for others in own or [[]]:
        yield Rivals(
            id=demonstration.id,
            prompt=demonstration.prompt.messages,
            answers=[good, *others],
            source="demonstrations",
        )
