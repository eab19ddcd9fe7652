"""What becomes of an input's rows: each is used, or counted with the reason why it is not."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import CurateError
from .readers import Row, Source, Unreadable

Item = TypeVar("Item")


class Unusable(Exception):
    """Why a row is not used."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record whose instruction repeats that of an earlier one, which was kept."""

    id: str
    duplicate_of: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row (its number from 0, and its place) with the id and the content of an earlier one."""

    row: int
    place: str
    duplicate_of: str


@dataclass(slots=True)
class Intake:
    """What became of the input's rows: `rows` = `records` + `duplicates` + `rejected`.

    Where every exchange of a conversation is a record, each counts as a row.

    `near_duplicates` are records that were left out afterwards.
    """

    rows: int = 0
    row: int = -1
    """The number of the row that was read last, from 0."""
    records: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)
    surrogates: int = 0
    rejected: list[Unreadable] = field(default_factory=list)
    num_rejected: int = 0
    near_duplicates: list[LeftOut] = field(default_factory=list)

    def reject(self, place: str, reason: str) -> None:
        """Count a row that is not used; the first thousand are kept with place and reason."""
        self.num_rejected += 1
        if len(self.rejected) < 1000:
            self.rejected.append(Unreadable(place, reason))

    def reject_records(self, left_out: Iterable[tuple[str, str]]) -> None:
        """Count records that turned out to be of no use, as (id, reason)."""
        for id, reason in left_out:
            self.records -= 1
            self.reject(id, reason)

    def counts(self) -> dict[str, int]:
        """The counts as the manifest has them; all up to `rejected` add up to `rows`."""
        left_out = len(self.near_duplicates)
        return {
            "rows": self.rows,
            "records": self.records - left_out,
            "duplicates": len(self.duplicates),
            **({"near_duplicates": left_out} if left_out else {}),
            "rejected": self.num_rejected,
            "surrogates_replaced": self.surrogates,
        }


def usable_rows(
    source: Source,
    intake: Intake,
    read: Callable[[Mapping[str, Any]], Item],
    *,
    strict: bool = False,
) -> Iterator[tuple[str, Item]]:
    """What `read` makes of each row, with the row's place; what it finds unusable is counted.

    Raises CurateError for the first unusable row if strict.
    """
    for row in source.rows():
        intake.rows += 1
        intake.row += 1
        try:
            if not isinstance(row, Row):
                raise Unusable(row.reason)
            item = read(row.values)
        except Unusable as error:
            if strict:
                raise CurateError(f"{row.place}: {error} (--strict)") from None
            intake.reject(row.place, str(error))
        else:
            yield row.place, item


def require_records(source: Source, intake: Intake) -> None:
    """CurateError where no row was usable."""
    if intake.records:
        return
    if not intake.rows:
        raise CurateError(f"{source.name} is empty: it has no rows")
    first = intake.rejected[0]
    raise CurateError(
        f"none of the {intake.rows} rows of {source.name} is usable; "
        f"the first, {first.place}: {first.reason}"
    )
