"""Evol-Instruct (Xu et al. 2023, arXiv 2304.12244): its operations, and what it eliminates."""

import re
from typing import Literal, get_args

from ..corpus.ngrams import words
from ..replies.wording import refuses

Operation = Literal[
    "add_constraint", "deepen", "concretize", "add_reasoning", "complicate_input", "in_breadth"
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
"""Five in depth and one in breadth."""
EvolutionFault = Literal["no_gain", "leak", "refusal", "empty_words"]
SHORT_ANSWER = 80
"""Words; a shorter answer that says sorry is a refusal."""
_LEAK = re.compile(r"\b(?:given|rewritten|created)[\s_]+prompts?\b", re.IGNORECASE)
_APOLOGY = re.compile(
    r"\W{0,9}(?:(?:i am|i'm|we are|we're)\s+(?:\w+\s+)?)?sorry\s*(?:[,.;:!–—-]|but\b)",  # noqa: RUF001
    re.IGNORECASE,
)
_SORRY = re.compile(r"\bsorry\b", re.IGNORECASE)
_EQUAL = re.compile(r"\bequal\b", re.IGNORECASE)
_UNEQUAL = re.compile(r"\b(?:not\s+equal|unequal|different)\b", re.IGNORECASE)
_FUNCTION_WORDS = """
a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has have
having he her here hers him his how i if in into is it its just me more most my no nor not now of
off on once only or other our out over own s same she should so some such t than that the their
them then there these they this those through to too under until up very was we were what when
where which while who whom why will with would you your
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def prompt_fault(before: str, after: str) -> EvolutionFault | None:
    """Why an evolved prompt is eliminated by its own text, beside the one that it evolved from.

    Words of the rewriting request are no leak where they stand in the prompt before, too.
    """
    if words(before) == words(after):
        return "no_gain"
    if _is_empty(after):
        return "empty_words"
    if refuses(after) or _APOLOGY.match(after.replace("’", "'")):  # noqa: RUF001
        return "refusal"
    if _LEAK.search(after) and not _LEAK.search(before):
        return "leak"
    return None


def answer_fault(answer: str) -> EvolutionFault | None:
    """Why an evolved prompt is eliminated by its answer.

    >>> answer_fault("I am sorry, that is beyond me.")
    'refusal'
    """
    if _is_empty(answer):
        return "empty_words"
    short = len(answer.split()) < SHORT_ANSWER
    return "refusal" if refuses(answer) or (short and _SORRY.search(answer)) else None


def says_equal(reply: str) -> bool | None:
    """Whether a reply calls two prompts equal; None where it says neither.

    >>> says_equal("Not Equal.")
    False
    """
    if _UNEQUAL.search(reply):
        return False
    return True if _EQUAL.search(reply) else None


def _is_empty(text: str) -> bool:
    """Whether a text is punctuation and stop words."""
    return STOP_WORDS.issuperset(words(text))
