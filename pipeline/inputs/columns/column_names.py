"""Which columns a data set has, told from its first rows."""

from collections.abc import Sequence
from itertools import islice

from ...errors import CurateError
from ..readers import Row, Source

_LOOKED_AT = 20


def columns_of(source: Source) -> list[str]:
    """The columns of the first rows that can be read. CurateError for an empty data set."""
    found: dict[str, None] = {}
    for row in islice((row for row in source.rows() if isinstance(row, Row)), _LOOKED_AT):
        found |= dict.fromkeys(map(str, row.values))
    if not found:
        raise CurateError(f"{source.name} is empty: it has no rows that can be read")
    return list(found)


def require_column(
    source: Source, columns: Sequence[str], name: str | None, usual: Sequence[str], option: str
) -> str:
    """The column named, else the first usual one. CurateError, listing the columns, for none."""
    wanted = [name] if name is not None else list(usual)
    found = next((column for column in wanted if column in columns), None)
    if found is None:
        raise CurateError(
            f"{source.name} has no column {' nor '.join(map(repr, wanted))}; its columns are "
            f"{', '.join(columns)}: name one with {option}"
        )
    return found
