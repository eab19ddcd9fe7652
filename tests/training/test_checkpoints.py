"""What a disk refuses to the libraries that write weights."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from curate.pipeline.training.checkpoints import disk_errors


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
