"""Smaller shards in what calls reflect with the default size: commands and workflows."""

import pytest

from curate.pipeline.stages.reflection.stage import reflect


def small_shards(monkeypatch: pytest.MonkeyPatch, records: int) -> None:
    defaults = reflect.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "shard_size", records)
