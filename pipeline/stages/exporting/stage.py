"""`curate export`: a selection as the files that a training tool reads, and to the hub."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ...base.files import replace_folder
from ...config import ExportConfig
from ...errors import CurateError, UsageError
from ...inputs.model_files import short_name
from ...inputs.remote.hub import hub_token, push_folder
from ...runs.directory import RunDir
from ...runs.lock import output_lock
from ...runs.published.arrow_set import read_rows
from ...runs.published.card import TITLE, dataset_card
from ...runs.published.pair_card import PAIRS_TITLE, pairs_card
from ...runs.published.pair_set import PairSet, is_pair_set
from ...runs.published.selected import finished_selection
from .formats import DATA, Export, Fields, Row, export_for
from .pair_formats import pair_export_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """Where the export is, how many rows it has, and its address on the hub if it was put there."""

    out: Path
    files: tuple[str, ...]
    rows: int
    pushed: str | None = None


def export(config: ExportConfig) -> ExportResult:
    """Write a selection or pairs for a tool: data.jsonl, the tool's own file, a card. Then push it.

    Raises CurateError for a run without that selection, a folder that holds something else, and
    what the hub refuses.
    """
    if is_pair_set(config.run):
        if config.selection is not None:
            raise UsageError("--selection is of a run, not of pairs")
        return _export_pairs(config, PairSet(Path(config.run)))
    if config.unpaired:
        raise UsageError("--unpaired is for preference pairs, not for a selection")
    run = RunDir.open(config.run)
    name, entry = finished_selection(run, config.selection)
    if not entry["counts"]["selected"]:
        raise CurateError(
            f"{config.run}: the selection {name} is empty, there is nothing to export"
        )
    scoring, student = entry["scoring"], entry.get("student") or entry["scoring"]["student"]
    made = export_for(
        config.to,
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
    return _published(config, made, rows, card)


def _export_pairs(config: ExportConfig, pairs: PairSet) -> ExportResult:
    manifest = pairs.manifest
    if not manifest["counts"]["pairs"]:
        raise CurateError(f"{pairs.path} holds no pair, there is nothing to export")
    name = short_name(str(pairs.path.resolve()))
    made = pair_export_for(config.to, name=name, unpaired=config.unpaired)
    card = pairs_card(manifest, loading=made.loading, data=DATA)
    return _published(config, made, pairs.rows(), card)


def _published(config: ExportConfig, made: Export, rows: Iterable[Row], card: str) -> ExportResult:
    """Write the folder whole or not at all, and put it on the hub where that is asked for."""
    out, repository = config.out.resolve(), config.push_to_hub
    token = hub_token(repository) if repository else ""  # before anything is written
    files = {**made.files, "README.md": card}
    with output_lock(out, "export"):
        _check_free(out)
        written = _written(chain.from_iterable(map(made.lines, rows)), out, files)
        pushed = push_folder(out, repository, token, kind="dataset") if repository else None
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
