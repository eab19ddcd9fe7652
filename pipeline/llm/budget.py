"""The budget: a request is sent only if its worst case fits, so no limit is ever exceeded."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BudgetReached, CurateError
from ..records import Message
from .prices import Prices
from .protocol import Reply

TEMPLATE_TOKENS = 128  # what a chat template may add: a default system turn, the generation prompt
TOKENS_PER_TURN = 16  # role names and separators


def prompt_ceiling(messages: Iterable[Message]) -> int:
    """The most tokens that these messages can be: no byte-level tokenizer makes more than bytes.

    >>> prompt_ceiling([{"role": "user", "content": "abc"}])
    147
    """
    turns = [len(message["content"].encode("utf-8", "replace")) for message in messages]
    return TEMPLATE_TOKENS + sum(turns) + TOKENS_PER_TURN * len(turns)


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """The worst case of one request in flight, in tokens."""

    prompt_tokens: int
    completion_tokens: int


def charge(reply: Reply, worst: Reservation) -> tuple[int, int]:
    """What a reply cost in (prompt, completion) tokens; the worst where the server is silent."""
    prompt = worst.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
    silent = reply.completion_tokens is None
    return prompt, worst.completion_tokens if silent else reply.completion_tokens or 0


class Budget:
    """Counts what is spent and in flight; `spent` is from before, `spent_at_half` a part of it.

    `half`: what will be asked is paid at half price, as batch jobs are.
    """

    def __init__(
        self,
        *,
        max_total_tokens: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
        spent: tuple[int, int] = (0, 0),
        spent_at_half: tuple[int, int] = (0, 0),
        half: bool = False,
    ) -> None:
        if max_cost is not None and not (prices and (prices.prompt or prices.completion)):
            raise CurateError(
                f"--max-cost {max_cost:g} needs the teacher's prices, which are not known: give "
                "--price-in and --price-out in USD per million tokens, or --prices FILE"
            )
        self._max_tokens = max_total_tokens
        self._max_cost = max_cost
        self._prices = prices or Prices(0.0, 0.0)
        self._share = 0.5 if half else 1.0
        self._spent = list(spent)
        self._spent_at_half = list(spent_at_half)
        self._held = [0, 0]
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def spent(self) -> tuple[int, int]:
        """Prompt and completion tokens paid for so far, those of earlier runs included."""
        return self._spent[0], self._spent[1]

    @property
    def cost(self) -> float:
        """USD spent so far; 0 without prices."""
        prompt, completion = self._spent_at_half
        return self._full(*self.spent) - self._full(prompt, completion) / 2

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens will cost, in USD."""
        return self._share * self._full(prompt_tokens, completion_tokens)

    def _full(self, prompt_tokens: int, completion_tokens: int) -> float:
        prices = self._prices
        return (prompt_tokens * prices.prompt + completion_tokens * prices.completion) / 1e6

    async def reserve(self, prompt_estimate: int, max_tokens: int) -> Reservation:
        """Set aside one request's worst case, waiting while only requests in flight are in its way.

        `prompt_estimate` should be an upper bound (`prompt_ceiling`). Every reservation must be
        settled. Raises `BudgetReached` when it would not fit even with nothing in flight.
        """
        need = Reservation(prompt_estimate, max_tokens)
        while not self._fits(need, in_flight=True):
            if not self._fits(need, in_flight=False):
                raise BudgetReached(self._message())
            await self._next_settlement()
        self._held[0] += prompt_estimate
        self._held[1] += max_tokens
        return need

    def settle(self, reservation: Reservation, reply: Reply | None) -> None:
        """Replace the reservation by what the reply really used; None when there was no reply."""
        self._held[0] -= reservation.prompt_tokens
        self._held[1] -= reservation.completion_tokens
        if reply is not None:
            prompt, completion = charge(reply, reservation)
            self._spent[0] += prompt
            self._spent[1] += completion
            if reply.batch is not None:
                self._spent_at_half[0] += prompt
                self._spent_at_half[1] += completion
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _fits(self, need: Reservation, *, in_flight: bool) -> bool:
        held = self._held if in_flight else (0, 0)
        prompt, completion = held[0] + need.prompt_tokens, held[1] + need.completion_tokens
        total = sum(self._spent) + prompt + completion
        if self._max_tokens is not None and total > self._max_tokens:
            return False
        return (
            self._max_cost is None or self.cost + self.price(prompt, completion) <= self._max_cost
        )

    async def _next_settlement(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _message(self) -> str:
        spent, limit = [], []
        if self._max_tokens is not None:
            spent.append(f"{sum(self._spent):,} tokens")
            limit.append(f"--max-total-tokens {self._max_tokens}")
        if self._max_cost is not None:
            spent.append(f"{self.cost:.4f} USD")
            limit.append(f"--max-cost {self._max_cost:g}")
        return (
            f"the budget is reached: {' and '.join(spent)} spent of {' and '.join(limit)}, and the "
            "next request may not fit; run the same command with a larger budget to go on"
        )
