"""What a model's tokens cost: as the user says, else by a table of published prices."""

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..base.foreign_json import parse_json
from ..base.foreign_text import regular
from ..errors import CurateError

PUBLISHED = Path(__file__).with_name("prices.json")
_DATED = re.compile(r"(.+)-\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens; None where a price is not known."""

    prompt: float | None
    completion: float | None

    @property
    def complete(self) -> bool:
        """Whether both are known."""
        return self.prompt is not None and self.completion is not None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """USD for so many tokens; None where a price is not known."""
        if self.prompt is None or self.completion is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


UNKNOWN = Prices(None, None)


def prices_of(
    model: str,
    *,
    table: Path | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
) -> Prices:
    """The prices given, completed by the user's `table`, then by the published one.

    A dated variant that no table names costs what its model does. Raises CurateError for a table
    that cannot be read.
    """
    known = _read(PUBLISHED) | (_read(table) if table else {})
    dated = _DATED.fullmatch(model)
    found = known.get(model) or (known.get(dated[1]) if dated else None) or UNKNOWN
    return Prices(
        found.prompt if price_in is None else price_in,
        found.completion if price_out is None else price_out,
    )


def _read(path: Path) -> dict[str, Prices]:
    try:
        table = parse_json(regular(path).read_bytes())
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CurateError(f"cannot read the prices {path}: {why}") from error
    except ValueError as error:
        raise CurateError(f"{path} is not JSON: {error}") from error
    prices = table.get("prices") if isinstance(table, dict) else None
    if not isinstance(prices, dict):
        raise CurateError(f'{path} is no table of prices: wanted {{"prices": {{MODEL: …}}}}')
    return {model: _prices(entry, f"{path}, {model!r}") for model, entry in prices.items()}


def _prices(entry: Any, place: str) -> Prices:
    values = [entry.get(n) for n in ("prompt", "completion")] if isinstance(entry, dict) else []
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != 2 or not all(isfinite(v) and v >= 0 for v in numbers):
        raise CurateError(
            f'{place}: wanted {{"prompt": …, "completion": …}} in USD per million tokens'
        )
    return Prices(*map(float, numbers))
