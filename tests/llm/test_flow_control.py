"""Flow: limits, pauses, retries and giving up, on a clock of the test's own."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.pipeline.errors import CurateError, RequestFailed
from curate.pipeline.llm.flow_control import (
    ATTEMPTS,
    START,
    Flow,
    Kind,
    Limit,
    Trouble,
    backoff,
)
from curate.pipeline.llm.rates import Rates
from curate.pipeline.llm.retry_after import parse_date, parse_retry_after


class Time:
    """A clock that jumps to the next sleeper when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
        await future

    async def run(self, *work: Awaitable[object]) -> list[object]:
        """The outcomes of the work, returned or raised."""
        gathered = asyncio.gather(*work, return_exceptions=True)
        while not gathered.done():
            for _ in range(10):
                await asyncio.sleep(0)
            if self._sleepers and not gathered.done():
                self.now, _, future = heapq.heappop(self._sleepers)
                if not future.done():
                    future.set_result(None)
        return gathered.result()


class Server:
    """Takes `seconds` for an answer, after what the script says goes wrong."""

    def __init__(self, time: Time, seconds: float = 1.0) -> None:
        self.time = time
        self.seconds = seconds
        self.at_once = self.most_at_once = 0
        self.starts: list[float] = []
        self.fault: Callable[[int], Trouble | Exception | None] = lambda number: None

    async def answer(self) -> str:
        fault = self.fault(len(self.starts))
        self.starts.append(self.time.now)
        if fault is not None:
            raise fault
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.time.sleep(self.seconds)
        self.at_once -= 1
        return "fine"


def run(flow: Flow, server: Server, calls: int) -> list[object]:
    async def work() -> list[object]:
        return await server.time.run(*(flow.call(server.answer) for _ in range(calls)))

    return asyncio.run(work())


def set_up(
    ceiling: int = 8, *, rpm: float | None = None, tpm: float | None = None, **options: float
) -> tuple[Flow, Server]:
    time = Time()
    rates = Rates(rpm=rpm, tpm=tpm, clock=time.clock)
    return Flow(ceiling, rates=rates, clock=time.clock, sleep=time.sleep, **options), Server(time)


def troubled(kind: Kind, retry_after: float | None = None) -> Trouble:
    return Trouble("it broke", kind, retry_after)


def test_a_server_that_cannot_be_reached_is_named_at_once_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flow, server = set_up()
    server.fault = lambda number: troubled("unreachable") if number < 3 else None
    assert run(flow, server, 2) == ["fine"] * 2
    assert capsys.readouterr().err.count("it broke") == 1


def test_a_small_ceiling_is_full_at_once_and_a_large_one_soon() -> None:
    flow, server = set_up(ceiling=START)
    assert run(flow, server, 3 * START) == ["fine"] * 3 * START
    assert server.most_at_once == START
    assert server.time.now == 3
    flow, server = set_up(ceiling=4 * START)
    run(flow, server, 20 * START)
    assert server.most_at_once == 4 * START
    assert server.time.now <= 8


def test_the_limit_halves_once_a_round_and_grows_again() -> None:
    limit = Limit(100, slow=10)
    assert limit.trouble(began=0, now=1)
    assert not limit.trouble(began=0.5, now=1.1)  # sent before the halving
    assert limit.value == START // 2
    for _ in range(6):
        limit.trouble(began=5, now=5)
    assert limit.value == 1
    for _ in range(3000):
        limit.success(1, full=True)
    assert limit.value == 100


def test_the_limit_stays_where_it_is_not_used_or_answers_are_slow() -> None:
    limit = Limit(1000, slow=10)
    limit.success(1, full=False)
    assert limit.value == START
    for _ in range(50):
        limit.success(60, full=True)
    assert limit.value < START + 10


def test_a_server_that_takes_only_a_few_at_once_gets_them_all_done() -> None:
    flow, server = set_up(ceiling=64)
    server.fault = lambda number: troubled("limited") if server.at_once >= 4 else None
    assert run(flow, server, 200) == ["fine"] * 200
    assert server.time.now < 3 * 200 / 4
    assert len(server.starts) < 500  # of them refused: not a storm


def test_retry_after_is_for_everybody() -> None:
    flow, server = set_up(ceiling=2)
    server.fault = lambda number: troubled("limited", 30) if number == 0 else None
    run(flow, server, 6)
    assert all(start >= 30 for start in server.starts[2:])


def test_a_wait_beyond_patience_stops_the_run() -> None:
    flow, server = set_up(patience=120)
    server.fault = lambda number: troubled("limited", 3600)
    [outcome] = run(flow, server, 1)
    assert isinstance(outcome, CurateError)
    assert "asks to wait 3600 s; run the same command again" in str(outcome)


@pytest.mark.parametrize("kind", ["fault", "slow"])
def test_attempts_are_bounded_and_jittered(kind: Kind) -> None:
    flow, server = set_up()
    server.fault = lambda number: troubled(kind)
    [outcome] = run(flow, server, 1)
    assert isinstance(outcome, RequestFailed)
    assert str(outcome) == "no answer in 6 attempts: it broke"
    assert len(server.starts) == ATTEMPTS
    gaps = [later - sooner for sooner, later in zip(server.starts, server.starts[1:], strict=False)]
    for tries, gap in enumerate(gaps):
        assert 0.25 * 2**tries <= gap <= 0.5 * 2**tries
    assert len({backoff(3) for _ in range(5)}) == 5


def test_refusals_do_not_use_up_a_record_while_others_succeed() -> None:
    flow, server = set_up(ceiling=2)
    server.fault = lambda number: troubled("limited") if number % 2 else None
    assert run(flow, server, 40) == ["fine"] * 40


def test_a_record_that_overloads_its_server_each_time_ends() -> None:
    flow, server = set_up(ceiling=2)

    async def crash() -> str:
        raise troubled("overloaded")

    async def work() -> list[object]:
        good = [flow.call(server.answer) for _ in range(2000)]
        return await server.time.run(flow.call(crash), *good)

    first, *others = asyncio.run(work())
    assert isinstance(first, RequestFailed)
    assert others == ["fine"] * 2000


def test_unreachable_at_the_start_is_said_soon() -> None:
    flow, server = set_up()
    server.fault = lambda number: troubled("unreachable")
    outcomes = run(flow, server, 30)
    assert {str(outcome) for outcome in outcomes} == {"it broke; is the server running?"}
    assert server.time.now < 5


@pytest.mark.parametrize("kind", ["unreachable", "fault", "limited", "overloaded"])
def test_an_outage_is_waited_for_and_nobody_pays(kind: Kind) -> None:
    flow, server = set_up(ceiling=16, patience=120)
    server.fault = lambda number: troubled(kind) if 3 < server.time.now < 50 else None
    assert run(flow, server, 300) == ["fine"] * 300
    assert 50 < server.time.now < 160


def test_a_known_server_may_begin_with_records_that_always_fail() -> None:
    flow, server = set_up(ceiling=16, patience=120)
    flow.proven = True
    server.fault = lambda number: troubled("fault")
    assert all(isinstance(outcome, RequestFailed) for outcome in run(flow, server, 30))


def test_errors_for_good_stop_the_run_in_the_end() -> None:
    flow, server = set_up(ceiling=16, patience=120)
    server.fault = lambda number: troubled("fault") if server.time.now > 3 else None
    outcomes = run(flow, server, 1000)
    assert sum(isinstance(outcome, CurateError) for outcome in outcomes) > 500
    assert sum(isinstance(outcome, RequestFailed) for outcome in outcomes) < 6 * 16


@pytest.mark.parametrize("kind", ["unreachable", "limited", "overloaded"])
def test_a_loss_for_good_stops_the_run(kind: Kind) -> None:
    flow, server = set_up(ceiling=16, patience=120)
    server.fault = lambda number: troubled(kind) if server.time.now > 3 else None
    outcomes = run(flow, server, 300)
    stopped = [outcome for outcome in outcomes if isinstance(outcome, CurateError)]
    assert len(stopped) > 200
    assert str(stopped[0]).endswith("run the same command again to go on")
    assert 120 < server.time.now < 160
    assert sum(isinstance(outcome, RequestFailed) for outcome in outcomes) == 0


def test_a_long_answer_in_flight_keeps_hope() -> None:
    flow, server = set_up(ceiling=4, patience=120)
    server.seconds = 400
    server.fault = lambda number: troubled("limited") if server.at_once else None
    assert run(flow, server, 3) == ["fine"] * 3


def test_everything_failing_from_the_start_stops_early() -> None:
    flow, server = set_up(ceiling=40)
    server.fault = lambda number: troubled("fault")
    outcomes = run(flow, server, 1000)
    assert all(isinstance(outcome, CurateError) for outcome in outcomes)
    assert str(outcomes[0]).startswith("every request fails: it broke; ")
    assert len(server.starts) <= 80


def test_what_fails_everybody_is_sent_no_more() -> None:
    flow, server = set_up(ceiling=4)
    server.fault = lambda number: CurateError("wrong key")
    outcomes = run(flow, server, 1000)
    assert {str(outcome) for outcome in outcomes} == {"wrong key"}
    assert len(server.starts) <= 4


def test_rates_a_minute_are_kept() -> None:
    flow, server = set_up(ceiling=50, rpm=60)
    run(flow, server, 100)
    assert 98 <= server.time.now <= 101
    for start in server.starts:
        assert sum(start <= other < start + 60 for other in server.starts) <= 61


def test_tokens_a_minute_are_kept_and_given_back() -> None:
    flow, server = set_up(ceiling=10, tpm=6000)

    async def call() -> None:
        await flow.call(server.answer, tokens=300)
        flow.give_back(200)

    async def work() -> None:
        await server.time.run(*(call() for _ in range(200)))

    asyncio.run(work())
    assert 195 <= server.time.now <= 240  # 200 * 100 tokens at 100 a second


def test_an_error_is_told_at_once_though_others_wait_for_their_turn() -> None:
    flow, server = set_up(ceiling=50, rpm=1)
    server.fault = lambda number: CurateError("wrong key")
    outcomes = run(flow, server, 50)
    assert {str(outcome) for outcome in outcomes} == {"wrong key"}
    assert len(server.starts) == 1 and server.time.now <= 61


def test_cancelled_calls_leave_their_place_to_others() -> None:
    flow, server = set_up(ceiling=2)

    async def work() -> list[object]:
        tasks = [asyncio.create_task(flow.call(server.answer)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[:6]:
            task.cancel()
        return await server.time.run(*tasks)

    outcomes = asyncio.run(work())
    assert outcomes[6:] == ["fine"] * 4
    assert flow._active == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2.5", 2.5),
        ("-3", 0.0),
        ("Fri, 13 Nov 2026 10:00:30 GMT", 30.0),
        ("Fri, 13 Nov 2026 09:00:00 GMT", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    now = datetime(2026, 11, 13, 10, 0, 0, tzinfo=UTC)
    assert parse_retry_after(value, now=now) == seconds


@given(st.text() | st.from_regex(r"-?[0-9]{1,400}(e[0-9]{1,4})?"), st.text(), st.integers(0))
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "", 0)
def test_any_header_is_a_wait_or_none(value: str, date: str, year: int) -> None:
    for header in (value, f"Mon, 01 Jan {year} 00:00:00 GMT", f"Mon, 01 Jan 2024 00:00:00 {value}"):
        seconds = parse_retry_after(header, now=parse_date(date))
        assert seconds is None or 0 <= seconds < float("inf")
