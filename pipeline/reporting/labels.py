"""What the codes of the decision and the versions of a record are called on the page."""

from typing import Literal

from ..runs.published.baselines import MOST_APART as MOST_APART

RuleStep = Literal["instruction", "response", "filter"]

VERSIONS = {
    "original": "kept as it was",
    "instruction": "new instruction and its answer",
    "response": "better response",
    "both": "new instruction, better response",
}
SHORT = {
    "original": "as it was",
    "instruction": "new instruction",
    "response": "better response",
    "both": "both new",
}
CANDIDATES = {
    "original": "original",
    "instruction": "instruction reflected",
    "response": "response reflected",
    "both": "both reflected",
}
RULES: dict[RuleStep, dict[str, str]] = {
    "instruction": {
        "ifd_rose": "new taken: its IFD is higher",
        "original_unscored": "new taken: the original has no IFD",
        "original_not_below_max": "new taken: the original's IFD is too high",
        "ifd_fell": "old stays: the new one's IFD is lower",
        "ifd_tie": "old stays: both IFDs are equal",
        "no_instruction_reflection": "old stays: there is no usable new one",
        "instruction_unscored": "old stays: the new one has no IFD",
        "instruction_not_below_max": "old stays: the new one's IFD is too high",
        "neither_scored": "old stays: neither has an IFD",
    },
    "response": {
        "rifd_fell": "new taken: its r-IFD is lower",
        "incumbent_unscored": "new taken: the old one has no r-IFD",
        "rifd_rose": "old stays: the new one's r-IFD is higher",
        "rifd_tie": "old stays: both r-IFDs are equal",
        "no_response_reflection": "old stays: there is no usable new one",
        "response_unscored": "old stays: the new one has no r-IFD",
        "neither_scored": "old stays: neither has an r-IFD",
    },
    "filter": {
        "kept": "kept",
        "ifd_not_below_max": "dropped: IFD too high",
        "rifd_not_below_max": "dropped: r-IFD too high",
        "ifd_unscored": "dropped: no IFD",
        "rifd_unscored": "dropped: no r-IFD",
        "not_improved": "dropped: response not replaced",
        "contaminated": "dropped: repeats an evaluation set",
        "below_top": "dropped: outside --top",
        "not_diverse": "dropped: --diverse chose others",
    },
}
STATUSES = {
    "ok": "usable",
    "unchanged": "unchanged: the teacher gave the same pair again",
    "unparsed": "unparsed: the reply has not the parts asked for",
    "truncated": "truncated: the reply was cut",
    "refused": "refused by the teacher",
    "failed": "failed: no reply",
}
BASELINES = {"random": "random rows, as many", "length": "rows matched in response length"}


def rule_label(step: RuleStep, code: str) -> str:
    """What a rule did; a code that this version does not know, as it is."""
    return RULES[step].get(code, code.replace("_", " "))
