"""Which price counts: the options', the user's table's, the published one's."""

import json
from datetime import date
from pathlib import Path

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.llm.prices import PUBLISHED, UNKNOWN, Prices, prices_of


def test_a_model_is_found_by_its_name_and_its_dated_variants() -> None:
    assert prices_of("gpt-4o") == prices_of("gpt-4o-2024-08-06") == Prices(2.5, 10.0)
    assert prices_of("gpt-4o-mini-2024-07-18") == Prices(0.15, 0.6)
    assert prices_of("gpt-4o-2024-05-13") == Prices(5.0, 15.0)  # dearer: it has a line of its own
    for unknown in ("gpt-4o-2024", "gpt-4o-audio-preview", "org/gpt-4o", "2024-08-06", ""):
        assert prices_of(unknown) == UNKNOWN


def test_the_table_says_when_it_was_noted_and_holds_positive_prices() -> None:
    table = json.loads(PUBLISHED.read_text("utf-8"))
    assert date.fromisoformat(table["noted"]) and "change" in table["note"]
    for model in table["prices"]:
        prices = prices_of(model)
        assert prices.prompt and prices.completion
        assert 0 < prices.prompt < prices.completion


def test_a_users_table_extends_and_overrides_and_the_options_win(tmp_path: Path) -> None:
    own = tmp_path / "prices.json"
    own.write_text('{"prices": {"gpt-4o": {"prompt": 1, "completion": 2}, '
                   '"llama": {"prompt": 0.5, "completion": 0}}}')  # fmt: skip
    assert prices_of("gpt-4o-2024-08-06", table=own) == Prices(1.0, 2.0)
    assert prices_of("llama", table=own) == Prices(0.5, 0.0)
    assert prices_of("gpt-4.1", table=own) == Prices(2.0, 8.0)
    assert prices_of("gpt-4o", table=own, price_out=7.0) == Prices(1.0, 7.0)
    assert prices_of("unknown", price_in=3.0) == Prices(3.0, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read the prices .*no such file"),
        ("{", "is not JSON"),
        ("[]", "no table of prices"),
        ('{"gpt-4o": [1, 2]}', "no table of prices"),
        ('{"prices": {"m": {"prompt": 1}}}', "'m': wanted .* in USD per million tokens"),
        ('{"prices": {"m": {"prompt": 1, "completion": -1}}}', "'m': wanted"),
        ('{"prices": {"m": {"prompt": 1, "completion": NaN}}}', "'m': wanted"),
        ('{"prices": {"m": {"prompt": true, "completion": 1}}}', "'m': wanted"),
        ('{"prices": {"m": 3}}', "'m': wanted"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "prices.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CurateError, match=says) as caught:
        prices_of("gpt-4o", table=path)
    assert str(path) in str(caught.value)
