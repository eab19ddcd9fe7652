"""The budget: a request is sent only if its worst case fits, so no limit is ever exceeded."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BudgetReached, CurateError
from ..records import Message
from .prices import UNKNOWN, Prices
from .protocol import Reply

TEMPLATE_TOKENS = 128  # what a chat template may add: a default system turn, the generation prompt
TOKENS_PER_TURN = 16  # role names and separators
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# Few tokens hold more than a word between spaces, or four characters of Chinese.
_WORD = re.compile(rf"[{_CJK}]{{1,4}}|[^\W\d_{_CJK}][^\s{_CJK}]*")


def prompt_ceiling(messages: Iterable[Message]) -> int:
    """The most tokens that these messages can be: no byte-level tokenizer makes more than bytes.

    >>> prompt_ceiling([{"role": "user", "content": "abc"}])
    147
    """
    turns = [len(message["content"].encode("utf-8", "replace")) for message in messages]
    return TEMPLATE_TOKENS + sum(turns) + TOKENS_PER_TURN * len(turns)


def prompt_floor(messages: Iterable[Message]) -> int:
    """Fewer tokens than these messages can be: three to four words.

    >>> prompt_floor([{"role": "user", "content": "The robin is small. " * 2}])
    6
    """
    words = sum(len(_WORD.findall(message["content"])) for message in messages)
    return 3 * words // 4


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

    `half`: what will be asked is paid at half price, as batch jobs are. A model that is not `sold`
    by the token runs here, and has no cost unless prices are given.
    """

    def __init__(
        self,
        *,
        max_total_tokens: int | None = None,
        max_cost: float | None = None,
        prices: Prices = UNKNOWN,
        sold: bool = True,
        spent: tuple[int, int] = (0, 0),
        spent_at_half: tuple[int, int] = (0, 0),
        half: bool = False,
    ) -> None:
        if max_cost is not None:
            _check_priced(max_cost, prices)
        self._max_tokens = max_total_tokens
        self._max_cost = max_cost
        self._prices = prices
        self.sold = sold or prices.complete
        self._share = 0.5 if half else 1.0
        self._spent = list(spent)
        self._spent_at_half = list(spent_at_half)
        self._reserved = [0, 0]
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def spent(self) -> tuple[int, int]:
        """Prompt and completion tokens paid for so far, those of earlier runs included."""
        return self._spent[0], self._spent[1]

    @property
    def cost(self) -> float | None:
        """USD spent so far; None without prices."""
        full = self._prices.cost(*self.spent)
        at_half = self._prices.cost(self._spent_at_half[0], self._spent_at_half[1])
        return None if full is None or at_half is None else full - at_half / 2

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens will cost, in USD; None without prices."""
        full = self._prices.cost(prompt_tokens, completion_tokens)
        return None if full is None else self._share * full

    def cost_text(self, cost: float | None, *, digits: int = 4) -> str:
        """A cost for people, or why there is none."""
        if cost is not None:
            return f"{cost:.{digits}f} USD"
        return "unknown" if self.sold else "not sold by the token"

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
        self._reserved[0] += prompt_estimate
        self._reserved[1] += max_tokens
        return need

    def settle(self, reservation: Reservation, reply: Reply | None) -> None:
        """Replace the reservation by what the reply really used; None when there was no reply."""
        self._reserved[0] -= reservation.prompt_tokens
        self._reserved[1] -= reservation.completion_tokens
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
        reserved = self._reserved if in_flight else (0, 0)
        prompt = reserved[0] + need.prompt_tokens
        completion = reserved[1] + need.completion_tokens
        total, cost = sum(self._spent) + prompt + completion, 0.0
        if self._max_cost is not None:
            cost = (self.cost or 0.0) + (self.price(prompt, completion) or 0.0)
        enough_tokens = self._max_tokens is None or total <= self._max_tokens
        return enough_tokens and (self._max_cost is None or cost <= self._max_cost)

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
            spent.append(self.cost_text(self.cost))
            limit.append(f"--max-cost {self._max_cost:g}")
        return (
            f"the budget is reached: {' and '.join(spent)} spent of {' and '.join(limit)}, and the "
            "next request may not fit; run the same command with a larger budget to go on"
        )


def _check_priced(max_cost: float, prices: Prices) -> None:
    lacking = {"--price-in": prices.prompt, "--price-out": prices.completion}
    unknown = [option for option, price in lacking.items() if price is None]
    if unknown or not (prices.prompt or prices.completion):
        raise CurateError(
            f"--max-cost {max_cost:g} needs the model's prices, which are not known: give "
            f"{' and '.join(unknown or lacking)} in USD per million tokens, or --prices FILE"
        )
