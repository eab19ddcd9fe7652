"""The card that lies with new instructions: from what, how, and what was left out."""

from collections.abc import Mapping
from typing import Any

from ...base.tables import many
from ...runs.directory import RunDir
from ...runs.published.card import OF_TEACHER, card, counts_table, noted, source_fact

_HOW = {
    "self-instruct": "Self-Instruct (arXiv 2212.10560): a teacher went on with lists of eight "
    "instructions; what was too much like another one was left out.",
    "evol": "Evol-Instruct (arXiv 2304.12244): a teacher rewrote each seed, round by round, into a "
    "harder or a rarer one.",
}
_ASKED = (
    "teacher", "revision", "prompts", "temperature", "top_p", "presence_penalty", "seed",
    "language", "rounds", "answers",
)  # fmt: skip


def synthesis_card(run: RunDir, counts: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    identity: Mapping[str, Any] = run.config["identity"]
    return card(
        "Synthetic instructions",
        _HOW[identity["method"]],
        licence=run.config.get("licence"),
        rows=counts["rows"],
        tags=("synthetic", "instruction-tuning"),
        facts=[source_fact(run, "Seeds"), *noted(identity, _ASKED)],
        what=[
            f"{counts['instructions']} instructions in {many(counts['rounds'], 'round')}, "
            f"{counts['rows']} rows; the others are in `left_out/`, each with its reason.",
            "",
            *counts_table("left out because", counts["left_out"]),
        ],
        terms=OF_TEACHER,
    )
