"""The configurations of `bpc`, `solve` and `check`."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ..errors import UsageError
from . import DtypeOption, TokenizationName, _choice, _positive


@dataclass(frozen=True, slots=True, kw_only=True)
class BpcConfig:
    """`curate bpc`."""

    data: str
    """A file, a folder, a hub id, or `-`."""
    student: str
    revision: str | None = None
    base: str | None = None
    """A second model, whose bits a character are subtracted on the same documents."""
    base_revision: str | None = None
    text_column: str | None = None
    """`text` if None, else the response."""
    window: int | None = None
    """Tokens that the model reads at once; 1900 or its context if None."""
    stride: int | None = None
    """Tokens that a window after the first scores; 512 or the window if None."""
    tokenization: TokenizationName = "exact"
    """Each document alone, or one stream as the paper's released code has it."""
    by: str | None = None
    """A column whose values form groups."""
    out: Path | None = None
    """A Parquet file with a row for each document."""
    strict: bool = False
    """A row without text is an error instead of a counted rejection."""
    limit: int | None = None
    """Take only the first documents."""
    device: str = "auto"
    dtype: DtypeOption = "auto"
    batch_tokens: int | None = None
    """Tokens of a packed row; changes speed, not numbers."""

    def __post_init__(self) -> None:
        for option in ("window", "stride", "limit", "batch_tokens"):
            _positive(f"--{option.replace('_', '-')}", getattr(self, option))
        _choice("--dtype", self.dtype, get_args(DtypeOption))
        _choice("--tokenization", self.tokenization, get_args(TokenizationName))
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise UsageError(
                f"--stride {self.stride} is above --window {self.window}: tokens between two "
                "windows would not be scored"
            )
        if self.data == "-" and self.base is not None:
            raise UsageError("--base reads the corpus twice: give a file instead of `-`")
