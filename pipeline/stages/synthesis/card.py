"""The card that lies with new instructions: from what, how, and what was left out."""

from collections.abc import Mapping
from typing import Any

from ...base.foreign_text import one_line
from ...runs.directory import RunDir
from ...runs.published.card import LOADING, counts_table, ending, front

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
    licence = run.config.get("licence")
    asked = (f"- {name}: `{identity[name]}`" for name in _ASKED if identity.get(name) is not None)
    lines = [
        *front(licence, counts["rows"], "*.arrow", ("synthetic", "instruction-tuning")),
        "",
        "# Synthetic instructions",
        "",
        _HOW[identity["method"]],
        "",
        f"- Seeds: `{one_line(str(run.config.get('data')))}` (fingerprint "
        f"`{str(identity['input'])[:64]}`), licence {one_line(licence or 'unknown: fill in')}",
        *asked,
        "",
        "## What",
        "",
        f"{counts['instructions']} instructions in {counts['rounds']} rounds, {counts['rows']} "
        "rows; the others are in `left_out/`, each with its reason.",
        "",
        *counts_table("left out because", counts["left_out"]),
        *ending(LOADING, "new texts are the teacher's output, and its terms of use apply to them."),
    ]
    return "\n".join(lines)
