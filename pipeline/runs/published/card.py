"""The dataset card that lies with a selection: what it is, from what, how, and how to load it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...base.foreign_text import one_line, yaml_text
from ..directory import RunDir

TITLE = "Chosen with curate by Selective Reflection-Tuning (arXiv 2402.10110)"
LOADING = """\
```python
import datasets

rows = datasets.load_from_disk("this folder")
# or, from anywhere: datasets.load_dataset("arrow", data_files="this folder/*.arrow")
```"""
_METHOD_TAG = "selective-reflection-tuning"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def dataset_card(
    run: RunDir,
    scoring: Mapping[str, Any],
    settings: Mapping[str, Any],
    counts: Mapping[str, Any],
    *,
    student: str,
    loading: str = LOADING,
    data_file: str = "*.arrow",
) -> str:
    """The card as Markdown; `student` is what `--student` was, `loading` how the data are read."""
    licence = run.config.get("licence")
    lines = [
        *front(licence, counts["selected"], data_file, ("instruction-tuning", _METHOD_TAG)),
        "",
        "# Selected instruction data",
        "",
        f"{TITLE}: a teacher model rewrote each record, and the student's own perplexities (IFD "
        "and r-IFD) decided which version to keep, and whether.",
        "",
        "## From what",
        "",
        *_source(run),
        f"- Licence of the source: {one_line(licence or 'unknown: fill in')}",
        "",
        "## How",
        "",
        *_teacher(run),
        f"- Student, which chose: `{student}`, revision `{scoring['revision']}`",
        *(f"- {name}: `{scoring[name]}`" for name in _SCORING if name in scoring),
        *(f"- {name}: {_shown(value)}" for name, value in settings.items() if value is not None),
        "",
        "## What",
        "",
        f"{counts['selected']} rows selected, {counts['rejected']} rejected.",
        "",
        *counts_table("version kept", counts["by_candidate"]),
        *counts_table("filter", counts["by_rule"]),
        *ending(loading, "new texts are the teacher's output, and its terms of use apply to them."),
    ]
    return "\n".join(lines)


_SCORING = ("template", "tokenization", "max_length", "dtype")


def front(licence: str | None, rows: int, data_file: str, tags: Sequence[str]) -> Iterator[str]:
    """What the hub reads; `unknown` is its own word."""
    size = next((name for bound, name in _SIZES if rows < bound), "n>1M")
    yield from ("---", f"license: {yaml_text(licence or 'unknown')}")
    yield from ("task_categories:", "- text-generation")
    yield from ("tags:", *(f"- {tag}" for tag in tags))
    yield from ("size_categories:", f"- {size}", "configs:", "- config_name: default")
    yield from (f'  data_files: "{data_file}"', "---")


def ending(loading: str, terms: str) -> Iterator[str]:
    """How the data are loaded, and whose terms hold for them beside the source's."""
    yield from ("## How to load it", "", loading, "")
    yield from ("## Terms", "", f"The texts keep the licence of the source; {terms}", "")


def _source(run: RunDir) -> Iterator[str]:
    fingerprint = str(run.config["identity"]["input"])
    data = one_line(str(run.config.get("data", "unknown")))
    yield f"- Input: `{data}` (fingerprint `{fingerprint[:64]}`)"
    entry = run.stage("reflect") or run.stage("import") or {}
    rows = entry.get("input") or {}
    if rows:
        yield (
            f"- Rows: {rows['rows']} read, {rows['records']} records, {rows['duplicates']} "
            f"duplicates, {rows['rejected']} unusable"
        )


def _teacher(run: RunDir) -> Iterator[str]:
    identity = run.config["identity"]
    if not identity.get("teacher"):
        yield "- Teacher: none asked in this run"
        return
    revision = f", revision `{identity['revision']}`" if identity.get("revision") else ""
    yield f"- Teacher, which rewrote: `{identity['teacher']}`{revision}"
    yield (
        f"- Its prompts: version `{identity['prompts']}`, temperature {identity['temperature']}, "
        f"seed {identity['seed']}, schedule `{identity['schedule']}`"
    )


def counts_table(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    """A Markdown table of names and numbers, with an empty line behind it."""
    yield from (f"| {title} | rows |", "|---|---|")
    yield from (f"| `{name}` | {number} |" for name, number in sorted(counts.items()))
    yield ""


def _shown(value: Any) -> str:
    """A setting's value; of data sets, each with the beginning of its fingerprint."""
    if not isinstance(value, Mapping):
        return f"`{value}`"
    return ", ".join(f"`{name}` (fingerprint `{mark[:16]}`)" for name, mark in value.items())
