"""Starts the work on the next items before their results are asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item], start: Callable[[Item], Callable[[], Result]], depth: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with its result, in order, while up to `depth` items are worked on.

    `start` begins the work on an item and returns a function that waits for its result.

    >>> list(prefetch("ab", lambda item: item.upper, depth=2))
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
