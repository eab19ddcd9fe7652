"""Which (prefix, target) texts the two scores of a candidate need."""

from dataclasses import dataclass
from typing import Literal

from ..records import Candidate
from ..templates import Template

Side = Literal["ifd", "rifd"]
SIDES: tuple[Side, ...] = ("ifd", "rifd")


@dataclass(frozen=True, slots=True)
class Pair:
    """A target text and the prompt in front of it; its score takes PPL(target) with and without.

    `context` is T(h), which stands in front of the target either way: see `Template.context`.
    """

    prefix: str
    target: str
    context: tuple[str, ...] = ()


def pair(candidate: Candidate, side: Side, template: Template) -> Pair:
    """IFD: y behind T(h, x). r-IFD: instruction and input, joined directly, behind T(h, G(y)).

    >>> c = Candidate(id="1", candidate="original", instruction="Add", input="1 2", output="3")
    >>> pair(c, "ifd", Template("wizardlm"))
    Pair(prefix='Add\\n1 2\\n\\n### Response:', target='3', context=())
    >>> pair(c, "rifd", Template("wizardlm")).target
    'Add1 2'
    """
    x, extra, y = candidate.instruction, candidate.input or "", candidate.output
    assert x is not None and y is not None, candidate
    system, history = candidate.system, candidate.history
    context = template.context(history, system=system)
    if side == "ifd":
        return Pair(template.prompt(x, extra, system=system, history=history), y, context)
    return Pair(template.guess(y, system=system, history=history), x + extra, context)
