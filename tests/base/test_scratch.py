"""A full disk of temporary files is one sentence."""

import tempfile
from pathlib import Path

import pytest

from curate.pipeline.base.scratch import scratch_database
from curate.pipeline.errors import CurateError

from ..disks import small_disk


def test_a_full_disk_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "disk"
    with small_disk(place, "256k"):
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with pytest.raises(CurateError, match="TMPDIR"), scratch_database() as database:
            database.execute("create table t (x text)")
            database.executemany("insert into t values (?)", [("x" * 1000,)] * 10_000)
        assert not list(place.iterdir())
        (place / "all").write_bytes(b"x" * (255 << 10))
        with pytest.raises(CurateError, match="TMPDIR"), scratch_database() as database:
            database.execute("create table t (x text)")
