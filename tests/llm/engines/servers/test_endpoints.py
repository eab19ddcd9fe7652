"""Several real servers behind one teacher: shared load, one killed, all dead, one that refuses."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from curate.pipeline.config import ModelConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.llm.engines.choose import make_engine
from curate.pipeline.llm.engines.servers import endpoints
from curate.pipeline.llm.engines.servers.endpoints import EndpointsEngine
from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine
from curate.pipeline.llm.protocol import Reply

from ...faulty_server import FaultyServer, Received, always, completion, error, slow
from .test_openai_server import request

Work = Callable[[EndpointsEngine], Awaitable[list[Reply]]]


def run(urls: list[str], work: Work, *, ceiling: int = 16, patience: float = 120) -> list[Reply]:
    def make(url: str, patience: float) -> OpenAIEngine:
        return OpenAIEngine("m", url, ceiling=ceiling, timeout=10, patience=patience)

    async def whole() -> list[Reply]:
        teacher = EndpointsEngine(make, urls, ceiling=ceiling, patience=patience)
        try:
            return await work(teacher)
        finally:
            await teacher.close()

    return asyncio.run(whole())


def asked(number: int) -> Work:
    async def work(teacher: EndpointsEngine) -> list[Reply]:
        return await asyncio.gather(*(teacher.ask(request(n)) for n in range(number)))

    return work


def no_server() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_the_load_goes_where_least_is_in_flight() -> None:
    with (
        FaultyServer(lambda r: slow(0.02)) as quick,
        FaultyServer(lambda r: slow(0.2)) as sluggish,
    ):
        replies = run([quick.url, sluggish.url], asked(400))
        shares = Counter(reply.endpoint for reply in replies)
        assert shares == {quick.url: len(quick.requests), sluggish.url: len(sluggish.requests)}
    assert sum(shares.values()) == 400
    assert shares[quick.url] > 2 * shares[sluggish.url] > 20
    assert quick.most_at_once + sluggish.most_at_once <= 16 + 1
    assert quick.most_at_once <= 12  # so the ceiling holds over both


def test_a_server_killed_for_good_loses_nothing_and_nothing_is_paid_twice(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with FaultyServer() as first, FaultyServer() as second:
        answered: Counter[str] = Counter()

        def counting(received: Received) -> None:
            answered[received.prompt] += 1  # answered at once, or not at all

        first.behaviour = second.behaviour = counting

        async def work(teacher: EndpointsEngine) -> list[Reply]:
            tasks = [asyncio.create_task(teacher.ask(request(n))) for n in range(600)]
            while len(first.requests) < 50:
                await asyncio.sleep(0.005)
            first.kill()
            return await asyncio.gather(*tasks)

        replies = run([first.url, second.url], work)
        assert len(replies) == 600
        assert len(answered) == 600
        again = sum(answered.values()) - 600
        assert again <= 16  # those whose answer was on its way when the server was killed
        assert len(second.requests) > 400
    assert capfd.readouterr().err.count("is left out for now") == 1


def test_a_server_that_comes_back_is_used_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endpoints, "AWAY", 0.3)
    monkeypatch.setattr(endpoints, "SHORT", 0.5)
    with FaultyServer(lambda r: slow(0.05)) as first, FaultyServer(lambda r: slow(0.05)) as second:

        async def work(teacher: EndpointsEngine) -> list[Reply]:
            tasks = [asyncio.create_task(teacher.ask(request(n))) for n in range(600)]
            await asyncio.sleep(0.4)
            first.kill()
            await asyncio.sleep(1.2)
            before = len(first.requests)
            first.start()
            replies = await asyncio.gather(*tasks)
            assert len(first.requests) > before + 50
            return replies

        assert len(run([first.url, second.url], work)) == 600
    assert "is back" in capfd.readouterr().err


def test_one_that_was_never_there_is_left_out() -> None:
    with FaultyServer() as server:
        began = time.monotonic()
        replies = run([no_server(), server.url], asked(50))
    assert {reply.endpoint for reply in replies} == {server.url}
    assert time.monotonic() - began < 90  # its patience is two minutes


def test_no_server_at_all_is_said_within_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(CurateError, match="connection refused; is the server running"):
        run([no_server(), no_server()], asked(20))
    assert time.monotonic() - began < 90  # its patience is two minutes


def test_all_servers_lost_for_good_stop_the_run_resumably(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "SHORT", 0.3)
    with FaultyServer() as first, FaultyServer() as second:

        async def work(teacher: EndpointsEngine) -> list[Reply]:
            await asked(20)(teacher)
            first.kill()
            second.kill()
            return await asked(20)(teacher)

        with pytest.raises(CurateError, match="connection refused"):
            run([first.url, second.url], work, patience=1.0)


def test_both_down_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "SHORT", 0.3)
    with FaultyServer() as first, FaultyServer() as second:

        async def work(teacher: EndpointsEngine) -> list[Reply]:
            await asked(20)(teacher)
            first.kill()
            second.kill()
            tasks = [asyncio.create_task(teacher.ask(request(n))) for n in range(20)]
            await asyncio.sleep(1)
            second.start()
            return await asyncio.gather(*tasks)

        assert {reply.endpoint for reply in run([first.url, second.url], work)} == {second.url}


def test_a_wrong_key_at_one_stops_the_run() -> None:
    with (
        FaultyServer(lambda r: replace(completion("x"), delay=0.05)) as server,
        FaultyServer(always(error(401))) as closed,
        pytest.raises(CurateError, match="wrong or missing API key"),
    ):
        run([server.url, closed.url], asked(50))


def test_the_engine_of_several_addresses() -> None:
    urls = ("http://localhost:1/v1", "http://localhost:2/v1")
    assert isinstance(make_engine(ModelConfig(model="m", base_url=urls)), EndpointsEngine)
    with pytest.raises(UsageError, match="twice"):
        ModelConfig(model="m", base_url=(urls[0], urls[0]))
