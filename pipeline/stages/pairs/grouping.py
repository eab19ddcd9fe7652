"""Values by key, sorted on disk: a prompt's answers may stand anywhere in a large data set."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from ...base.scratch import scratch_database


def grouped(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """All values of each key, keys and values in the order in which they first appear.

    Values are what JSON holds.
    """
    with scratch_database() as database:
        database.execute("create table keys (key text primary key, place integer)")
        database.execute("create table items (key text, value text)")
        for place, (key, value) in enumerate(items):
            database.execute("insert or ignore into keys values (?, ?)", (key, place))
            database.execute("insert into items values (?, ?)", (key, json.dumps(value)))
        database.execute("create index by_key on items (key)")
        rows = database.execute(
            "select keys.key, value from keys join items using (key) "
            "order by keys.place, items.rowid"
        )
        for key, group in groupby(rows, key=lambda row: row[0]):
            yield key, [json.loads(value) for _, value in group]
