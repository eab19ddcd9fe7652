"""The cards that lie with data sets: what they are, from what, how, and how to load them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
OF_TEACHER = "new texts are the teacher's output, and its terms of use apply to them."
_METHOD_TAG = "selective-reflection-tuning"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_SCORING = ("template", "tokenization", "max_length", "dtype")


def card(
    title: str,
    about: str,
    *,
    licence: str | None,
    rows: int,
    tags: Sequence[str],
    facts: Iterable[str],
    what: Iterable[str],
    terms: str,
    loading: str = LOADING,
    data_file: str = "*.arrow",
) -> str:
    """A card as Markdown: `facts` say how the set was made, `what` what is in it, a line each.

    `terms` say whose terms hold for the texts beside the source's.
    """
    size = next((name for bound, name in _SIZES if rows < bound), "n>1M")
    front = [
        *("---", f"license: {yaml_text(licence or 'unknown')}"),  # `unknown` is the hub's own word
        *("task_categories:", "- text-generation", "tags:", *(f"- {tag}" for tag in tags)),
        *("size_categories:", f"- {size}", "configs:", "- config_name: default"),
        *(f'  data_files: "{data_file}"', "---", ""),
    ]
    source = f"- Licence of the source: {one_line(licence or 'unknown: fill in')}"
    body = [f"# {title}", "", about, "", *facts, source, "", "## What", "", *what]
    loaded = ["## How to load it", "", loading, ""]
    ending = ["## Terms", "", f"The texts keep the licence of the source; {terms}", ""]
    return "\n".join([*front, *body, *loaded, *ending])


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
    """The card of a selection; `student` is what `--student` was, `loading` how it is read."""
    return card(
        "Selected instruction data",
        f"{TITLE}: a teacher model rewrote each record, and the student's own perplexities (IFD "
        "and r-IFD) decided which version to keep, and whether.",
        licence=run.config.get("licence"),
        rows=counts["selected"],
        tags=("instruction-tuning", _METHOD_TAG),
        facts=[
            source_fact(run, "Input"),
            *_rows(run),
            *_teacher(run),
            f"- Student, which chose: `{student}`, revision `{scoring['revision']}`",
            *noted(scoring, _SCORING),
            *(f"- {name}: {_shown(v)}" for name, v in settings.items() if v is not None),
        ],
        what=[
            *(f"{counts['selected']} rows selected, {counts['rejected']} rejected.", ""),
            *counts_table("version kept", counts["by_candidate"]),
            *counts_table("filter", counts["by_rule"]),
        ],
        terms=OF_TEACHER,
        loading=loading,
        data_file=data_file,
    )


def source_fact(run: RunDir, name: str) -> str:
    """What a run's data are made from."""
    fingerprint = str(run.config["identity"]["input"])
    data = one_line(str(run.config.get("data", "unknown")))
    return f"- {name}: `{data}` (fingerprint `{fingerprint[:64]}`)"


def noted(values: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """Those of the values that are known, a line each."""
    yield from (f"- {name}: `{values[name]}`" for name in names if values.get(name) is not None)


def _rows(run: RunDir) -> Iterator[str]:
    entry = run.stage("reflect") or run.stage("import") or {}
    if rows := entry.get("input"):
        yield (
            f"- Rows read: {rows['rows']}; records: {rows['records']}; duplicates: "
            f"{rows['duplicates']}; unusable: {rows['rejected']}"
        )


def _teacher(run: RunDir) -> Iterator[str]:
    identity = run.config["identity"]
    if not identity.get("teacher"):
        yield "- Teacher: none asked in this run"
        return
    revision = f", revision `{identity['revision']}`" if identity.get("revision") else ""
    yield f"- Teacher, which rewrote: `{identity['teacher']}`{revision}"
    seed = "no seed" if identity["seed"] is None else f"seed {identity['seed']}"
    yield (
        f"- Its prompts: version `{identity['prompts']}`, temperature {identity['temperature']}, "
        f"{seed}, schedule `{identity['schedule']}`"
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
