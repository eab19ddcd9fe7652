"""RUN/decisions/<selection>/: each record's decision, in shards like those of the candidates."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..base.files import intact_parquet, replace_folder, write_parquet
from ..records import DECISIONS_SCHEMA
from .directory import RunDir

_REMEDY = "run `curate select` again, which scores nothing anew"


@dataclass(frozen=True, slots=True)
class DecisionFiles:
    """One selection's decisions, or a draft of them."""

    run: RunDir
    folder: Path

    @classmethod
    def of(cls, run: RunDir, key: str) -> "DecisionFiles":
        """Those that were published last."""
        return cls(run, run.path / "decisions" / key)

    def begin_draft(self) -> "DecisionFiles":
        """An empty hidden folder beside the published files."""
        folder = self.folder.with_name(f".{self.folder.name}.draft")
        shutil.rmtree(folder, ignore_errors=True)
        return replace(self, folder=folder)

    def publish(self, draft: "DecisionFiles") -> None:
        """Put a draft in the place of these."""

        def fill(new: Path) -> None:
            for shard in self.run.shard_paths():
                (draft.folder / shard.name).rename(new / shard.name)

        replace_folder(self.folder, fill)
        shutil.rmtree(draft.folder, ignore_errors=True)

    def write(self, shard: Path, table: pa.Table) -> None:
        """Write the decisions on a shard of candidates."""
        write_parquet(self.folder / shard.name, table)

    def shards(self, columns: list[str] | None = None) -> Iterator[tuple[Path, pa.Table]]:
        """The shards of candidates that have decisions, with these, in input order.

        Raises CurateError for a damaged file.
        """
        for shard in self.run.shard_paths():
            path = self.folder / shard.name
            if path.exists():
                yield shard, intact_parquet(path, columns, remedy=_REMEDY)

    def table(self, columns: list[str]) -> pa.Table:
        """These columns of all decisions."""
        schema = pa.schema([DECISIONS_SCHEMA.field(name) for name in columns])
        parts = (table.select(columns).cast(schema) for _, table in self.shards(columns))
        return pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()

    def counts(self) -> dict[str, Any]:
        """How many rows were selected and rejected, by candidate and by rule."""
        rows = self.table(["candidate", "reason", "filter_rule", "near_tie"])
        kept = rows.filter(pc.is_null(rows.column("reason")))
        return {
            "selected": len(kept),
            "rejected": len(rows) - len(kept),
            "by_candidate": _value_counts(kept.column("candidate")),
            "by_rule": _value_counts(rows.column("filter_rule")),
            "near_ties": int(pc.sum(rows.column("near_tie")).as_py() or 0),
        }


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
