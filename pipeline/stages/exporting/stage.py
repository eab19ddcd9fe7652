"""`curate export`: a selection as the files that a training tool reads, and to the hub."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ...base.files import replace_folder
from ...config import ExportFormat
from ...errors import CurateError, UsageError
from ...inputs.hub import hub_token, push_data_set
from ...inputs.model_files import short_name
from ...run.card import TITLE, dataset_card
from ...run.directory import RunDir
from ...run.lock import output_lock
from ...run.selected import finished_selection, selected_rows
from .formats import DATA, Export, export_for

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """Where the export is, how many rows it has, and its address on the hub if it was put there."""

    out: Path
    files: tuple[str, ...]
    rows: int
    pushed: str | None = None


def export(
    path: str,
    *,
    to: ExportFormat,
    out: Path,
    selection: str | None = None,
    push_to_hub: str | None = None,
) -> ExportResult:
    """Write a selection for a tool: data.jsonl, the tool's own file, a card. Then push it.

    Raises CurateError for a run without that selection, a folder that holds something else, and
    what the hub refuses.
    """
    if push_to_hub is not None and not _REPOSITORY.fullmatch(push_to_hub):
        raise UsageError(f"--push-to-hub takes owner/name, not {push_to_hub!r}")
    run = RunDir.open(path)
    name, entry = finished_selection(run, selection)
    if not entry["counts"]["selected"]:
        raise CurateError(f"{path}: the selection {name} is empty, there is nothing to export")
    token = hub_token() if push_to_hub else ""  # before anything is written
    out = out.resolve()
    scoring, student = entry["scoring"], entry.get("student") or entry["scoring"]["student"]
    made = export_for(
        to,
        name=short_name(str(run.path.resolve())),
        template=scoring["template"],
        student=student,
        max_length=scoring["max_length"],
    )
    card = dataset_card(
        run, scoring, entry["settings"], entry["counts"],
        student=student, loading=made.loading, data_file=DATA,
    )  # fmt: skip
    with output_lock(out, "export"):
        _check_free(out)
        rows = _written(run.path / "selected" / name, out, made, card)
        pushed = push_data_set(out, push_to_hub, token) if push_to_hub else None
    return ExportResult(
        out=out, files=(DATA, *made.files, "README.md"), rows=rows, pushed=pushed
    )  # fmt: skip


def _check_free(out: Path) -> None:
    """CurateError unless the folder is new, empty or an export of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CurateError(f"{out} is a file: give a folder as --out")
    card = out / "README.md"
    ours = card.is_file() and TITLE in card.read_text("utf-8", "replace")
    ours = ours and (out / DATA).is_file()
    if any(out.iterdir()) and not ours:
        raise CurateError(f"{out} is not empty and no export of curate: choose another --out")


def _written(selected: Path, out: Path, made: Export, card: str) -> int:
    rows = 0

    def fill(folder: Path) -> None:
        nonlocal rows
        with (folder / DATA).open("w", encoding="utf-8") as file:
            for row in selected_rows(selected):
                file.write(json.dumps(made.line(row), ensure_ascii=False) + "\n")
                rows += 1
        for name, text in {**made.files, "README.md": card}.items():
            (folder / name).write_text(text, "utf-8")

    replace_folder(out, fill)
    return rows
