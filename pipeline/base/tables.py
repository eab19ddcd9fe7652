"""Numbers and tables for a terminal."""

from collections.abc import Iterator, Sequence


def shown(value: float | None, form: str, bounds: tuple[float, float] | None = None) -> str:
    """The value in this format, with its 95 % interval where there is one; `-` for no value."""
    text = "-" if value is None else f"{value:{form}}"
    return f"{text} [95 %: {bounds[0]:{form}} to {bounds[1]:{form}}]" if bounds else text


def many(number: int, thing: str, things: str | None = None) -> str:
    """A number of things: `1 row`, `1,340 rows`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def aligned(rows: Sequence[Sequence[str]], *, names: int = 1) -> Iterator[str]:
    """A line a row, in columns of one width: the first ones are names, the others numbers.

    >>> list(aligned([["", "wins", "ties"], ["all", "7", "12"]]))
    ['     wins  ties', 'all     7    12']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if place < names else ">" for place in range(len(widths))]
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()
