"""`curate export`: a selection as the files that a training tool reads, and to the hub."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ...base.files import replace_folder
from ...config import ExportFormat
from ...errors import CurateError, UsageError
from ...inputs.hub import hub_token, push_data_set
from ...inputs.model_files import short_name
from ...run.arrow_set import read_rows
from ...run.card import TITLE, dataset_card
from ...run.directory import RunDir
from ...run.lock import output_lock
from ...run.pair_card import PAIRS_TITLE, pairs_card
from ...run.pair_set import PairSet, is_pair_set
from ...run.selected import finished_selection
from .formats import DATA, Export, Fields, Row, export_for
from .pair_formats import pair_export_for

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
    unpaired: bool = False,
) -> ExportResult:
    """Write a selection or pairs for a tool: data.jsonl, the tool's own file, a card. Then push it.

    Raises CurateError for a run without that selection, a folder that holds something else, and
    what the hub refuses.
    """
    if push_to_hub is not None and not _REPOSITORY.fullmatch(push_to_hub):
        raise UsageError(f"--push-to-hub takes owner/name, not {push_to_hub!r}")
    if is_pair_set(path):
        if selection is not None:
            raise UsageError("--selection is of a run, not of pairs")
        token = hub_token() if push_to_hub else ""
        return _export_pairs(PairSet(Path(path)), to, out.resolve(), unpaired, push_to_hub, token)
    if unpaired:
        raise UsageError("--unpaired is for preference pairs, not for a selection")
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
    rows = read_rows(run.path / "selected" / name)
    return _published(out, made, rows, card, push_to_hub, token)


def _export_pairs(
    pairs: PairSet, to: ExportFormat, out: Path, unpaired: bool, repository: str | None, token: str
) -> ExportResult:
    manifest = pairs.manifest
    if not manifest["counts"]["pairs"]:
        raise CurateError(f"{pairs.path} holds no pair, there is nothing to export")
    name = short_name(str(pairs.path.resolve()))
    made = pair_export_for(to, name=name, unpaired=unpaired)
    card = pairs_card(manifest, loading=made.loading, data=DATA)
    return _published(out, made, pairs.rows(), card, repository, token)


def _published(
    out: Path, made: Export, rows: Iterable[Row], card: str, repository: str | None, token: str
) -> ExportResult:
    """Write the folder whole or not at all, and put it on the hub where that is asked for."""
    files = {**made.files, "README.md": card}
    with output_lock(out, "export"):
        _check_free(out)
        written = _written(chain.from_iterable(map(made.lines, rows)), out, files)
        pushed = push_data_set(out, repository, token) if repository else None
    return ExportResult(out=out, files=(DATA, *files), rows=written, pushed=pushed)


def _check_free(out: Path) -> None:
    """CurateError unless the folder is new, empty or an export of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CurateError(f"{out} is a file: give a folder as --out")
    card = out / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    ours = (TITLE in text or PAIRS_TITLE in text) and (out / DATA).is_file()
    if any(out.iterdir()) and not ours:
        raise CurateError(f"{out} is not empty and no export of curate: choose another --out")


def _written(lines: Iterable[Fields], out: Path, files: dict[str, str]) -> int:
    rows = 0

    def fill(folder: Path) -> None:
        nonlocal rows
        with (folder / DATA).open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                rows += 1
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")

    replace_folder(out, fill)
    return rows
