"""Files, folders, URLs and hub ids -> raw rows, streamed, each with the place it came from.

A format is one module with a function from a path to rows, and one line in `files.READERS`.
"""

from .rows import RawRow, Row, Source, Unreadable
from .sources import open_source

__all__ = ["RawRow", "Row", "Source", "Unreadable", "open_source"]
