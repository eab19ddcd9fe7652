"""The run directory: what it is (config.json), what is done (manifest.json), where things lie."""

import hashlib
import json
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from os.path import exists, isdir  # unlike Path's, False for a name that is too long
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..base.checksums import checksum_holds, with_checksum
from ..base.files import create_json, intact_parquet, write_json, write_parquet
from ..base.foreign_json import read_object
from ..base.foreign_text import whole
from ..base.nearest import nearest_path
from ..base.processes.sharding import WHOLE, Share
from ..errors import CurateError, UsageError
from ..records import CANDIDATE_SCHEMA, Candidate, candidates_from, to_table
from .lock import moved

FORMAT = 1
_OF_INPUT = ("problems", "shots.jsonl")
"""In a run: what is made of the input alone."""
TEMPLATE_COPY = "chat_template.jinja"
"""In a scores folder: the file that was given as --template."""


def is_run(path: str | Path) -> bool:
    """Whether a folder is a run: it has a config.json of ours; CurateError for a damaged one."""
    config = read_object(Path(path) / "config.json")
    if config and config.get("curate_run") == FORMAT and checksum_holds(config):
        return True
    if _was_run(Path(path), config):
        raise CurateError(
            f"{path}/config.json is damaged: begin another run with the same options, another "
            f"--out and --journal {path}/journal, which asks for no reply again"
        )
    return False


def out_needed(data: str) -> UsageError:
    """What to raise where the input is no run and no place for one was given."""
    near = "" if exists(data) else nearest_path(data)
    return UsageError(f"--out is needed: {whole(data)} is no run directory{whole(near)}")


def _was_run(path: Path, config: Mapping[str, Any] | None) -> bool:
    """Whether what is no config.json of a run was one: a folder may hold a model's, for one."""
    if config is not None:
        return not checksum_holds(config) and bool({"identity", "curate_run"} & config.keys())
    return exists(path / "config.json") and any(
        exists(path / name) for name in ("manifest.json", "candidates", "journal")
    )


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory on disk."""

    path: Path

    @classmethod
    def create(cls, path: str | Path, identity: Mapping[str, Any], **notes: Any) -> "RunDir":
        """Make a run of this identity, or take up the one that is there; `notes` are kept with it.

        Raises CurateError naming the field when the folder holds a run of another identity, or
        things that are no run.
        """
        run = cls(Path(path))
        _refuse_name(run.path)
        if exists(run.path) and not is_run(path):
            if not run.path.is_dir():
                raise CurateError(f"{path} is a file, not a run directory")
            strange = any(not p.name.startswith(".") for p in run.path.iterdir())
            if strange and not is_run(path):  # it may have become one just now
                raise CurateError(f"{path} is not empty and no run of curate: choose another --out")
        if not is_run(path):
            config = {
                "curate_run": FORMAT,
                "id": uuid.uuid4().hex,
                "identity": dict(identity),
                **notes,
            }
            create_json(run.path / "config.json", with_checksum(config))
        named = [str(about["data"]) for about in (run.config, notes) if about.get("data")]
        refuse_changes(path, run.config["identity"], identity, inputs=named)
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """A run that is there; CurateError if it is not, or has a name that cannot be noted."""
        _refuse_name(Path(path))
        if not is_run(path):
            there = "no run of curate" if exists(path) else "no such run directory"
            near = "" if exists(path) else nearest_path(str(path))
            raise CurateError(f"{path}: {there} (a run has a config.json made by curate){near}")
        return cls(Path(path))

    @contextmanager
    def discarded_if_empty(self) -> Iterator[None]:
        """After an error, leave no run behind that holds only its name and its own input."""
        try:
            yield
        except CurateError:
            there = self.path.iterdir() if self.path.is_dir() else ()  # it may have been moved
            names = {path.name for path in there}
            if "config.json" in names and names <= {"config.json", *_OF_INPUT}:
                shutil.rmtree(self.path)
            raise

    @property
    def config(self) -> dict[str, Any]:
        """The id and the identity of the run; CurateError where it is not there any more."""
        config = read_object(self.path / "config.json")
        if config is None:
            raise CurateError(moved(self.path))
        return config

    @property
    def manifest(self) -> dict[str, Any]:
        """What each finished stage left: its settings, versions and counts.

        Raises CurateError where it is damaged.
        """
        found = read_object(self.path / "manifest.json")
        if found is not None and checksum_holds(found):
            return found
        if exists(self.path / "manifest.json"):
            raise CurateError(
                f"{self.path}/manifest.json is damaged: remove it and run the same commands again; "
                "what is finished is found, so that nothing is asked or scored anew"
            )
        return {}

    def finish_stage(self, stage: str, entry: Mapping[str, Any]) -> None:
        """Write a finished stage into the manifest."""
        self._write_stages({**self.manifest.get("stages", {}), stage: dict(entry)})

    def forget_stage(self, stage: str) -> None:
        """Take a stage out of the manifest, before its files are made anew."""
        stages = self.manifest.get("stages", {})
        self._write_stages({name: entry for name, entry in stages.items() if name != stage})

    def _write_stages(self, stages: Mapping[str, Any]) -> None:
        config = self.config
        write_json(
            self.path / "manifest.json",
            with_checksum({"run": config["id"], "identity": config["identity"],
                        "versions": versions(), "stages": stages}),
        )  # fmt: skip

    def stage(self, name: str) -> dict[str, Any] | None:
        """The manifest's entry of a finished stage."""
        entry: dict[str, Any] | None = self.manifest.get("stages", {}).get(name)
        return entry

    def record_selection(self, key: str, options: Mapping[str, Any]) -> None:
        """Keep, beside a student's scores, the options that a selection is begun with."""
        write_json(self._selection_options(key), options)

    def selection_options(self, key: str) -> dict[str, Any] | None:
        """The options that a selection was last begun with."""
        return read_object(self._selection_options(key))

    def _selection_options(self, key: str) -> Path:
        student = student_of(key)
        return self.path / "scores" / student / f"options{key.removeprefix(student)}.json"

    # --- candidates ---

    @property
    def candidates(self) -> Path:
        """The folder of candidate shards."""
        return self.path / "candidates"

    @property
    def num_records(self) -> int | None:
        """The records of the stage that made the candidates, None while it has not finished."""
        stage = self.stage("reflect") or self.stage("import") or {}
        return stage.get("records")

    def shard_paths(self, share: Share = WHOLE) -> list[Path]:
        """The finished candidate shards, in input order; those of one task's share."""
        paths = [p for p in self.candidates.glob("part-*.parquet") if p.stem[5:].isdigit()]
        return sorted((path for path in paths if share.takes(shard_index(path))), key=shard_index)

    def shard_path(self, index: int) -> Path:
        """The place of a candidate shard."""
        return self.candidates / f"part-{index:05d}.parquet"

    def write_shard(self, index: int, rows: list[Candidate], **notes: Any) -> None:
        """Write a candidate shard."""
        _ = self.config  # in a run that was moved away it would stand alone
        write_parquet(self.shard_path(index), to_table(rows, CANDIDATE_SCHEMA), **notes)

    def read_shard(self, path: Path) -> list[Candidate]:
        """The candidates of a finished shard; CurateError when it is damaged."""
        return candidates_from(self.shard_table(path))

    def shard_table(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        """The same as a table, of all columns or of some."""
        try:
            return intact_parquet(
                path, columns, remedy="remove it and run the command that made it again"
            )
        except CurateError:
            _ = self.config  # in a run that was moved away all is absent
            raise

    def records(self) -> Iterator[list[Candidate]]:
        """All candidates, a record at a time, in input order."""
        for path in self.shard_paths():
            yield from by_record(self.read_shard(path))


def selection_key(student: str, name: str | None) -> str:
    """What a selection's folders are called.

    >>> selection_key("llama-fc0fb748", None), selection_key("llama-fc0fb748", "strict")
    ('llama-fc0fb748', 'llama-fc0fb748~strict')
    """
    return f"{student}~{name}" if name else student


def student_of(key: str) -> str:
    """Whose scores a selection was decided by: a folder's name in `scores/`."""
    return key.partition("~")[0]


def folder_beside(out: Path) -> Path:
    """The run's folder beside a file that is its result.

    Raises CurateError where the file is there without one: it is not ours to replace.
    """
    folder = out.with_name(f"{out.name}.run")
    if isdir(out):
        raise CurateError(f"--out {out} is a folder; give the name of a file")
    if exists(out) and not is_run(folder):
        raise CurateError(f"{out} is there and was not made by this command: choose another --out")
    return folder


def work_folder(out: Path, identity: Mapping[str, Any]) -> Path:
    """The hidden folder beside a file that holds what is finished of a job with this identity."""
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    return out.with_name(f".{out.name}.{digest}.work")


def _refuse_name(path: Path) -> None:
    """CurateError for a name that cannot be noted in a file: it is no UTF-8."""
    if whole(str(path)) != str(path):
        raise CurateError(f"{whole(str(path))}: the name is not UTF-8; choose another")


def shard_index(shard: Path) -> int:
    """The number of a shard."""
    return int(shard.stem.removeprefix("part-"))


def by_record(candidates: list[Candidate]) -> Iterator[list[Candidate]]:
    """Split a shard's rows into the records' own: an id's rows stand together."""
    begin = 0
    for end in range(1, len(candidates) + 1):
        if end == len(candidates) or candidates[end].id != candidates[begin].id:
            yield candidates[begin:end]
            begin = end


def refuse_changes(
    path: str | Path, old: Mapping[str, Any], new: Mapping[str, Any], *, inputs: Sequence[str] = ()
) -> None:
    """CurateError naming the first field in which a run's identity is not the one it was.

    `inputs`: what the fingerprints of the two inputs are of.
    """
    for field in sorted({*old, *new}):
        if old.get(field) != new.get(field):
            if field == "input" and len(inputs) == 2:
                raise CurateError(_other_input(path, *inputs))
            raise CurateError(
                f"{path} was made with {field} = {_shown(old.get(field))}, now it is "
                f"{_shown(new.get(field))}: choose another --out, or give the old value"
            )


def _other_input(path: str | Path, old: str, new: str) -> str:
    changed = f"{new} has changed since" if old == new else f"{new} holds other records"
    return (
        f"{path} was made with the input {old}, and {changed}: choose another --out, or give the "
        "old input"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


@cache
def versions(*more: str) -> dict[str, str]:
    """The versions that numbers may depend on, and more of libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in ("curate-reflection", "torch", "transformers", "datasets", "pyarrow", "trl", *more):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
