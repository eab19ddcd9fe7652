"""The budget is never exceeded, and stops only when it must."""

import asyncio
import random

import pytest

from curate.pipeline.errors import BudgetReached, CurateError
from curate.pipeline.llm.budget import (
    Budget,
    Reservation,
    charge,
    prompt_ceiling,
    prompt_floor,
)
from curate.pipeline.llm.prices import UNKNOWN, Prices
from curate.pipeline.llm.protocol import Reply


def reply(prompt: int | None, completion: int | None) -> Reply:
    return Reply(
        text="",
        finish_reason="stop",
        max_tokens=50,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def test_without_limits_it_only_counts() -> None:
    budget = Budget(spent=(1, 2), prices=Prices(1.0, 2.0))

    async def run() -> None:
        for _ in range(3):
            budget.settle(await budget.reserve(10**9, 10**9), reply(10, 20))
        budget.settle(await budget.reserve(5, 5), None)

    asyncio.run(run())
    assert budget.spent == (31, 62)
    assert budget.cost == pytest.approx((31 + 124) / 1e6)


@pytest.mark.parametrize("limits", ["tokens", "cost"])
def test_many_at_once_never_exceed_it_and_use_it_up(limits: str) -> None:
    if limits == "tokens":
        budget = Budget(max_total_tokens=10_000)
    else:
        budget = Budget(max_cost=0.02, prices=Prices(1.0, 3.0))
    draw = random.Random(3)

    async def one() -> None:
        held = await budget.reserve(60, 50)
        await asyncio.sleep(draw.uniform(0, 0.002))
        budget.settle(held, reply(draw.randint(1, 60), draw.randint(0, 50)))

    async def run() -> list[BaseException | None]:
        return await asyncio.gather(*(one() for _ in range(1000)), return_exceptions=True)

    outcomes = asyncio.run(run())
    stopped = [outcome for outcome in outcomes if outcome is not None]
    assert stopped
    assert all(isinstance(outcome, BudgetReached) for outcome in stopped)
    used, limit = (sum(budget.spent), 10_000) if limits == "tokens" else (budget.cost, 0.02)
    worst = 110 if limits == "tokens" else budget.price(60, 50)
    assert used is not None and worst is not None
    assert limit - worst < used <= limit


def test_it_waits_while_only_requests_in_flight_are_in_the_way() -> None:
    budget = Budget(max_total_tokens=100)

    async def run() -> None:
        first = await budget.reserve(50, 40)
        second = asyncio.create_task(budget.reserve(30, 30))
        await asyncio.sleep(0.01)
        assert not second.done()
        budget.settle(first, None)  # it failed: nothing was spent
        budget.settle(await second, reply(30, 10))
        with pytest.raises(BudgetReached):
            await budget.reserve(30, 31)
        await budget.reserve(30, 30)

    asyncio.run(run())


def test_a_waiter_may_be_cancelled() -> None:
    budget = Budget(max_total_tokens=100)

    async def run() -> None:
        first = await budget.reserve(50, 40)
        second = asyncio.create_task(budget.reserve(30, 30))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        budget.settle(first, None)
        await budget.reserve(50, 50)

    asyncio.run(run())


def test_the_message_says_spent_and_limit_and_how_to_go_on() -> None:
    budget = Budget(
        max_total_tokens=2000, max_cost=0.5, prices=Prices(1.0, 10.0), spent=(1000, 990)
    )
    with pytest.raises(BudgetReached) as caught:
        asyncio.run(budget.reserve(10, 10))
    assert str(caught.value) == (
        "the budget is reached: 1,990 tokens and 0.0109 USD spent of --max-total-tokens 2000 and "
        "--max-cost 0.5, and the next request may not fit; run the same command with a larger "
        "budget to go on"
    )


@pytest.mark.parametrize(
    ("prices", "lacking"),
    [
        (UNKNOWN, "give --price-in and --price-out"),
        (Prices(0.0, 0.0), "give --price-in and --price-out"),
        (Prices(1.0, None), "give --price-out"),
        (Prices(None, 1.0), "give --price-in"),
    ],
)
def test_a_cost_needs_both_prices(prices: Prices, lacking: str) -> None:
    with pytest.raises(CurateError, match=lacking):
        Budget(max_cost=1.0, prices=prices)


def test_a_cost_that_is_not_known_is_never_zero() -> None:
    for prices in (UNKNOWN, Prices(1.0, None), Prices(None, 1.0)):
        budget = Budget(prices=prices, spent=(10, 10))
        assert budget.cost is None and budget.price(1, 1) is None
        assert budget.cost_text(budget.cost) == "unknown"
    local = Budget(sold=False)
    assert local.cost is None and local.cost_text(local.cost) == "not sold by the token"
    assert Budget(sold=False, prices=Prices(1.0, 1.0), spent=(10**6, 0)).cost == 1.0


def test_a_silent_server_is_charged_the_worst_case() -> None:
    worst = Reservation(60, 50)
    assert charge(reply(None, None), worst) == (60, 50)
    assert charge(reply(0, 0), worst) == (0, 0)


def test_the_prompt_ceiling_counts_bytes() -> None:
    short = prompt_ceiling([{"role": "user", "content": "aa"}])
    assert prompt_ceiling([{"role": "user", "content": "漢"}]) == short + 1


@pytest.mark.parametrize(
    ("text", "floor"),
    [("one two three four", 3), ("| - | 1 2 3 |", 0), ("去年今日此门中人面桃花相映红", 3)],
)
def test_the_prompt_floor_counts_words(text: str, floor: int) -> None:
    assert prompt_floor([{"role": "user", "content": text}]) == floor
