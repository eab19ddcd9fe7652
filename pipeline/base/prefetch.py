"""Work started ahead of who takes its results, and results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], start: Callable[[Item], Callable[[], Result]], depth: int
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with its result, in order, while up to `depth` items are at work.

    `start` begins an item's work and returns what waits for its result.

    >>> list(ahead("ab", lambda item: item.upper, depth=2))
    [('a', 'A'), ('b', 'B')]
    """
    waiting: deque[tuple[Item, Callable[[], Result]]] = deque()
    for item in items:
        waiting.append((item, start(item)))
        if len(waiting) >= depth:
            oldest, result = waiting.popleft()
            yield oldest, result()
    while waiting:
        oldest, result = waiting.popleft()
        yield oldest, result()
