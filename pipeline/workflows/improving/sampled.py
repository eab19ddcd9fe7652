"""Reads what the stages wrote: samples, with their ratings where they have some."""

from pathlib import Path

from ...config import InputConfig
from ...inputs.ingest import Intake
from ...inputs.readers import open_source
from ...inputs.samples import read_samples
from ...pair_records import Sample


def samples_of(path: str | Path) -> list[Sample]:
    """The samples of a file; CurateError where it holds none."""
    return list(read_samples(open_source(str(path)), InputConfig(data=str(path)), Intake()))
