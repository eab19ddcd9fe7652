"""Checkpoints: whole or not there, and what a disk refuses to the libraries that write them."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from curate.pipeline.training.folder.checkpoints import (
    disk_errors,
    last_complete,
    publish_checkpoint,
)


@pytest.mark.parametrize("way", ["torch", "safetensors"])
def test_a_write_that_is_refused_is_an_oserror(tmp_path: Path, way: str) -> None:
    """A limit on the size of files stands in for the disk."""
    weights = {"a": torch.zeros(100_000)}
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"put/output|too large|space"), disk_errors(tmp_path):
            if way == "torch":
                torch.save(weights, tmp_path / "weights.pt")
            else:
                save_file(weights, tmp_path / "weights.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), disk_errors(tmp_path):
        raise RuntimeError("shapes differ")


def test_a_checkpoint_is_sealed_before_the_oldest_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        staged = tmp_path / f".new/checkpoint-{step}"
        staged.mkdir(parents=True)
        (staged / "weights").write_bytes(b"w" * step)
        publish_checkpoint(staged, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("c*")) == ["checkpoint-2", "checkpoint-3"]
    assert last_complete(tmp_path) == tmp_path / "checkpoint-3"
    (tmp_path / "checkpoint-3/weights").unlink()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"
