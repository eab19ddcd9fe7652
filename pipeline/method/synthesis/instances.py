"""Self-Instruct's instances: inputs and outputs of one instruction, read and filtered."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

InstanceFault = Literal[
    "truncated", "output_is_input", "no_output", "ends_in_colon", "contradiction", "repeated",
    "above_five",
]  # fmt: skip
MOST_INSTANCES = 5
_EXAMPLE = re.compile(r"Example\s?\d*\.?")
_OUTPUT = re.compile(r"Output\s*\d*\s*:")
_INPUT = re.compile(r"Input\s*\d*\s*:")
_LABEL = "Class label:"


@dataclass(frozen=True, slots=True)
class Instance:
    """An input and its output, and why it is left out."""

    input: str
    output: str
    fault: InstanceFault | None = None


def is_yes(reply: str) -> bool:
    """Whether a reply says that a task is a classification; what says neither is taken for no."""
    return re.match(r"\W*yes\b", reply, re.IGNORECASE) is not None


def read_instances(reply: str, *, classification: bool, cut: bool) -> list[Instance]:
    """A reply's instances, each with its fault; the last one of a cut reply is not whole."""
    read = _labelled if classification else _examples
    found = [_judged(Instance(input.strip(), output.strip())) for input, output in read(reply)]
    if cut and found:
        found[-1] = replace(found[-1], fault="truncated")
    return _judged_together(found)


def _labelled(reply: str) -> Iterator[tuple[str, str]]:
    """Output first: a label on its line, the input behind it."""
    for part in reply.split(_LABEL)[1:]:
        label, _, input = part.strip().partition("\n")
        yield input, label


def _examples(reply: str) -> Iterator[tuple[str, str]]:
    """Input first; a reply without examples is one if it names an output."""
    if _EXAMPLE.search(reply):
        yield from (_example(part) for part in _EXAMPLE.split(reply) if part.strip())
    elif _OUTPUT.search(reply):
        yield _example(reply)


def _example(text: str) -> tuple[str, str]:
    input, *outputs = _OUTPUT.split(text)
    output = _INPUT.split(outputs[0] if outputs else text)[0]  # not the next one's input
    return _INPUT.sub("", input.strip(), count=1) if outputs else "", output


def _judged(one: Instance) -> Instance:
    if one.input == one.output:
        return replace(one, fault="output_is_input")
    if not one.output:
        return replace(one, fault="no_output")
    if one.input.endswith(":") or one.output.endswith(":"):
        return replace(one, fault="ends_in_colon")
    return one


def _judged_together(found: list[Instance]) -> list[Instance]:
    """One non-empty input with two outputs spoils all; of equal ones the first stays."""
    valid = {(one.input, one.output) for one in found if one.fault is None}
    inputs = [input for input, _ in valid if input]
    if len(inputs) > len(set(inputs)):
        return [replace(one, fault=one.fault or "contradiction") for one in found]
    kept: set[tuple[str, str]] = set()
    judged = []
    for one in found:
        if one.fault is None and (one.input, one.output) in kept:
            one = replace(one, fault="repeated")
        elif one.fault is None and len(kept) == MOST_INSTANCES:
            one = replace(one, fault="above_five")
        elif one.fault is None:
            kept.add((one.input, one.output))
        judged.append(one)
    return judged
