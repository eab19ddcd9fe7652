"""A file system that fills up, for the tests of full disks."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[], object]]:
    """A file system of so many bytes; what is yielded makes it larger."""
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    larger = ["mount", "-o", "remount,size=50m", str(place)]
    try:
        yield lambda: subprocess.run(larger, check=True, capture_output=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)
