"""OpenAIEngine against a real HTTP server with faults."""

import asyncio
import gzip
import logging
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from curate.pipeline.errors import CurateError, RequestFailed
from curate.pipeline.llm.engines.servers.connections import checked_url, request_headers
from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine
from curate.pipeline.llm.protocol import Reply, Request

from ...faulty_server import (
    Answer,
    Behaviour,
    FaultyServer,
    Received,
    always,
    busy,
    completion,
    cut,
    drop,
    error,
    garbage,
    html,
    script,
    slow,
)

PARTS = b'{"choices":[{"message":{"content":[{"text":"a"},{"text":"b"},"c"]}}]}'
KEY = "sk-very-secret-0123456789"


def request(
    number: int = 0, *, text: str = "Say [New Instruction].", seed: int | None = None
) -> Request:
    return Request(
        id=str(number),
        slot="instruction",
        messages=({"role": "user", "content": f"{text} {number}"},),
        max_tokens=64,
        temperature=0.0,
        seed=seed,
        key=f"{number:032x}",
    )


def ask(
    url: str,
    *requests: Request,
    ceiling: int = 8,
    timeout: float = 10.0,
    api_key: str | None = None,
    patience: float = 120.0,
) -> list[Reply | BaseException]:
    """Ask all at once; what each returned or raised."""

    async def run() -> list[Reply | BaseException]:
        teacher = OpenAIEngine(
            "m", url, api_key=api_key, ceiling=ceiling, timeout=timeout, patience=patience
        )
        try:
            asked = (teacher.ask(one) for one in requests or (request(),))
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await teacher.close()

    return asyncio.run(run())


def reply(outcome: Reply | BaseException) -> Reply:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def text_after(behaviour: Behaviour, **options: float) -> str:
    with FaultyServer(behaviour, reply=lambda received: "fine") as server:
        [outcome] = ask(server.url, timeout=options.get("timeout", 10.0))
    return reply(outcome).text


def test_a_reply_that_holds_the_key_loses_it() -> None:
    with FaultyServer(reply=lambda received: f"You sent {KEY}; EMPTY is no secret") as server:
        [outcome] = ask(server.url, api_key=KEY)
        [other] = ask(server.url, api_key="EMPTY")
    assert isinstance(outcome, Reply) and isinstance(other, Reply)
    assert outcome.text == "You sent ***; EMPTY is no secret"
    assert other.text.endswith("EMPTY is no secret")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that wait for a blink only."""
    monkeypatch.setattr("curate.pipeline.llm.flow_control.FIRST_DELAY", 0.01)


def test_a_reply_carries_text_usage_and_endpoint() -> None:
    with FaultyServer(reply=lambda received: "two words") as server:
        [outcome] = ask(server.url, request(seed=7), api_key=KEY)
    assert outcome == Reply(
        text="two words",
        finish_reason="stop",
        max_tokens=64,
        prompt_tokens=11,
        completion_tokens=2,
        endpoint=server.url,
    )
    [received] = server.requests
    assert received.path == "/v1/chat/completions"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Say [New Instruction]. 0"}],
        "max_tokens": 64,
        "temperature": 0.0,
        "seed": 7,
    }


@pytest.mark.parametrize("ending", ["", "/", "/v1/", "/v1/chat/completions"])
def test_the_address_may_be_given_in_several_ways(ending: str) -> None:
    def only_v1(received: Received) -> Answer | None:
        found = received.path == "/v1/chat/completions"
        return None if found else Answer(404, b'{"detail":"Not Found"}')

    with FaultyServer(only_v1) as server:
        outcomes = ask(server.url.removesuffix("/v1") + ending, *map(request, range(20)))
    assert all(reply(outcome).endpoint == server.url for outcome in outcomes)


def test_an_address_without_a_server_below_it() -> None:
    with FaultyServer(always(Answer(404, b'{"detail":"Not Found"}'))) as server:
        [outcome] = ask(server.url.removesuffix("/v1"))
    assert isinstance(outcome, CurateError)
    assert "/v1 answers HTTP 404: Not Found (without /v1 it answers HTTP 404)" in str(outcome)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/y", "", "http://", "http://x:port",
                                 "http://x:99999/v1", "http://x/v1%0d", "http://[::1"])  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(CurateError, match="--base-url"):
        OpenAIEngine("m", url, ceiling=1)


def test_refusal_parts_and_nothing_are_texts() -> None:
    answers = (
        completion(None, refusal="I can't."),
        completion(None),
        completion(""),
        Answer(body=PARTS),
    )
    with FaultyServer(script(*answers)) as server:
        outcomes = ask(server.url, *map(request, range(4)), ceiling=1)
    assert [reply(outcome).text for outcome in outcomes] == ["I can't.", "", "", "ab"]


def test_a_cut_reply_says_so_and_missing_fields_are_none() -> None:
    with FaultyServer(script(cut(), completion("x", finish_reason=None, usage=False))) as server:
        first, second = ask(server.url, request(0), request(1), ceiling=1)
    assert reply(first).finish_reason == "length"
    assert reply(second).finish_reason is None
    assert reply(second).completion_tokens is None


def test_wrong_encodings_are_replaced() -> None:
    latin = b'{"choices":[{"message":{"content":"caf\xe9 \\ud800\\u0000"}}]}'
    assert text_after(script(Answer(body=latin))) == "caf\ufffd \ufffd\ufffd"
    assert text_after(script(Answer(body=b"\xef\xbb\xbf" + completion("ok").body))) == "ok"


@pytest.mark.parametrize(
    "fault",
    [
        error(500),
        error(502),
        error(408),
        error(409),
        html(502),
        drop(),
        drop(0),
        garbage(),
        garbage(b""),
        garbage(b"[]"),
        garbage(b'{"choices": []}'),
        garbage(b'{"choices": [{}]}'),
        garbage(b'{"error": {"message": "upstream", "code": 502}}'),
        busy(),
        busy(status=503),
        busy(retry_after=0.1),
        busy(retry_after=format_datetime(datetime(2026, 1, 1, tzinfo=UTC), usegmt=True)),
    ],
    ids=repr,
)
def test_passing_faults_are_retried(fault: Answer, quick: None) -> None:
    assert text_after(script(fault)) == "fine"


def test_a_timeout_is_retried() -> None:
    assert text_after(script(slow(5)), timeout=0.3) == "fine"


def test_retry_after_is_a_date_of_the_servers_own_clock() -> None:
    """Three hours ahead of ours, it would otherwise be given up as one that asks for too much."""
    sent = datetime.now(UTC) + timedelta(hours=3)
    date, until = (format_datetime(t, usegmt=True) for t in (sent, sent + timedelta(seconds=1)))
    refusal = busy(retry_after=until)
    ahead = replace(refusal, headers=(*refusal.headers, ("date", date)))
    began = time.monotonic()
    assert text_after(script(ahead)) == "fine"
    assert time.monotonic() - began > 0.9


def test_retry_after_holds_everybody_back() -> None:
    with FaultyServer(script(busy(retry_after=1), slow(0.5))) as server:
        outcomes = ask(server.url, *map(request, range(6)), ceiling=2)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    refused = server.requests[0].at
    after = [received.at - refused for received in server.requests[2:]]
    assert min(after) > 0.95


def test_a_server_that_is_not_there_is_not_waited_for() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    outcomes = ask(f"http://127.0.0.1:{port}/v1", *map(request, range(4)))
    assert time.monotonic() - began < 90  # its patience is two minutes
    message = f"cannot reach http://127.0.0.1:{port}/v1: connection refused; is the server running?"
    assert {str(outcome) for outcome in outcomes} == {message}
    assert all(isinstance(outcome, CurateError) for outcome in outcomes)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (error(401, f"bad key {KEY}"), r"wrong or missing API key .*: bad key \*\*\*$"),
        (error(403, "not yours"), "this API key may not use the model: .*: not yours"),
        (error(404, "The model `m` does not exist."), "no such model .* `m` does not exist"),
        (error(402, "no credit"), "paid first: no credit"),
        (error(429, "no", code="insufficient_quota"), r"paid first: no \(insufficient_quota\)"),
        (error(400, "temperature must be 1"), "HTTP 400: temperature must be 1"),
        (Answer(301, b"moved"), "the server has moved: .* HTTP 301: moved"),
        (html(), "answers with a web page: it is not an OpenAI-compatible server"),
        (error(401, "x" * 9999), "x{200}$"),
    ],
)
def test_what_fails_every_record_stops_at_the_first(answer: Answer, message: str) -> None:
    with FaultyServer(always(answer)) as server:
        outcomes = ask(server.url, *map(request, range(50)), ceiling=4, api_key=KEY)
    assert all(isinstance(outcome, CurateError) for outcome in outcomes)
    with pytest.raises(CurateError, match=message) as caught:
        reply(outcomes[0])
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) <= 4


TOO_LONG = [
    error(400, "This model's maximum context length is 4096 tokens. However, you requested 5000"),
    error(400, "no", code="context_length_exceeded"),
    error(400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    error(400, "the request exceeds the available context size. try increasing the context size"),
    error(400, "no", type="exceed_context_size_error", code="exceed_context_size_error"),
    error(400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    Answer(
        422, b'{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <="}'
    ),
    Answer(422, b'{"error":"`inputs` must have less than 1024 tokens. Given: 2000"}'),
    error(400, "prompt is too long: 200000 tokens > 199999 maximum"),
    error(413, "Payload Too Large"),
    error(500, "context length exceeded"),
]


@pytest.mark.parametrize("answer", TOO_LONG, ids=lambda answer: answer.body.decode()[:60])
def test_a_record_longer_than_the_context_fails_alone(answer: Answer) -> None:
    with FaultyServer(script(answer)) as server:
        first, second = ask(server.url, request(0), request(1), ceiling=1)
    assert isinstance(first, RequestFailed)
    assert str(first).startswith("longer than the model's context: ")
    assert isinstance(second, Reply)
    assert len(server.requests) == 2


def test_a_bad_request_after_a_success_fails_alone() -> None:
    with FaultyServer(script(None, error(400, "odd text"))) as server:
        outcomes = ask(server.url, *map(request, range(3)), ceiling=1)
    assert isinstance(outcomes[1], RequestFailed)
    assert isinstance(outcomes[2], Reply)


def test_a_bad_request_that_overtakes_the_first_answer_fails_alone() -> None:
    def behaviour(received: Received) -> Answer:
        return error(400, "odd text") if received.prompt.endswith(" 0") else slow(0.3)

    with FaultyServer(behaviour) as server:
        outcomes = ask(server.url, *map(request, range(3)), ceiling=3)
    assert isinstance(outcomes[0], RequestFailed)
    assert [type(one) for one in outcomes[1:]] == [Reply, Reply]


def test_a_web_page_that_overtakes_the_first_answer_is_asked_again(quick: None) -> None:
    pages = [html()]

    def behaviour(received: Received) -> Answer:
        return pages.pop() if received.prompt.endswith(" 0") and pages else slow(0.3)

    with FaultyServer(behaviour) as server:
        outcomes = ask(server.url, *map(request, range(3)), ceiling=3)
    assert [type(one) for one in outcomes] == [Reply] * 3
    assert len(server.requests) == 4


def test_a_filtered_request_fails_alone_even_at_first() -> None:
    with FaultyServer(script(error(400, "filtered", code="content_filter"))) as server:
        first, second = ask(server.url, request(0), request(1), ceiling=1)
    assert isinstance(first, RequestFailed)
    assert isinstance(second, Reply)


def test_the_other_name_of_max_tokens_is_found_out() -> None:
    def modern(received: Received) -> Answer | None:
        if "max_tokens" in received.body:
            return error(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
            )
        return None

    with FaultyServer(modern) as server:
        outcomes = ask(server.url, *map(request, range(6)), ceiling=2)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert server.requests[-1].body["max_completion_tokens"] == 64
    assert len(server.requests) <= 8


def test_one_record_that_always_breaks_the_server_fails_alone(quick: None) -> None:
    def poisoned(received: Received) -> Answer | None:
        return error(500, "boom") if received.prompt.endswith(" 3") else None

    with FaultyServer(poisoned) as server:
        outcomes = ask(server.url, *map(request, range(30)), ceiling=4)
    [failure] = [outcome for outcome in outcomes if not isinstance(outcome, Reply)]
    assert isinstance(failure, RequestFailed)
    assert str(failure).startswith("no answer in 6 attempts")
    assert str(failure).endswith("HTTP 500: boom")


def test_a_server_killed_and_restarted_loses_nothing() -> None:
    with FaultyServer(lambda received: slow(0.05)) as server:

        async def run() -> list[Reply]:
            teacher = OpenAIEngine("m", server.url, ceiling=16, timeout=10)
            asked = asyncio.gather(*(teacher.ask(request(n)) for n in range(400)))
            for _ in range(2):
                await asyncio.sleep(0.3)
                server.kill()
                await asyncio.sleep(0.5)
                server.start()
            try:
                return await asked
            finally:
                await teacher.close()

        assert len(asyncio.run(run())) == 400


def test_a_server_that_vanishes_for_good_stops_the_run_resumably() -> None:
    with FaultyServer() as server:

        async def run() -> None:
            teacher = OpenAIEngine("m", server.url, ceiling=4, timeout=10, patience=1.5)
            try:
                await teacher.ask(request())
                server.kill()
                await asyncio.gather(*(teacher.ask(request(n)) for n in range(4)))
            finally:
                await teacher.close()

        with pytest.raises(CurateError, match=r"connection refused; .*run the same command again"):
            asyncio.run(run())


def test_concurrency_reaches_the_ceiling_at_once_and_no_more() -> None:
    with FaultyServer(lambda received: slow(0.1)) as server:
        ask(server.url, *map(request, range(120)), ceiling=40)
    assert server.most_at_once == 40


def test_the_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultyServer(script(error(500, KEY), garbage(KEY.encode()))) as server:
        outcomes = ask(server.url, api_key=KEY)
        assert KEY not in repr(OpenAIEngine("m", server.url, api_key=KEY, ceiling=1))
    assert isinstance(outcomes[0], Reply)
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["sk-\u00e9", "sk-a\nb"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(CurateError, match="API key") as caught:
        OpenAIEngine("m", "http://localhost/v1", api_key=key, ceiling=1)
    assert key not in str(caught.value)


def test_azure_gets_the_key_in_its_own_header_and_nobody_else() -> None:
    azure = checked_url("https://mine.openai.azure.com/openai/deployments/d?api-version=2024-10-21")
    assert azure.path.endswith("/d/chat/completions") and azure.query == b"api-version=2024-10-21"
    assert request_headers(azure, "k")["api-key"] == "k"
    assert "api-key" not in request_headers(azure, None)
    assert "api-key" not in request_headers(checked_url("https://api.openai.com/v1"), "k")


def test_loopback_passes_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert text_after(script()) == "fine"


def test_a_client_costs_at_most_a_millisecond_and_a_half_of_cpu_a_request() -> None:
    """The real measure is benchmarks'; this only catches a step backwards (sixfold margin)."""
    with FaultyServer() as server:
        requests = [request(n) for n in range(400)]
        began = time.thread_time()
        ask(server.url, *requests, ceiling=64)
        cost = (time.thread_time() - began) / len(requests)
    assert cost < 0.01


def test_what_broke_off_is_asked_for_again_and_names_no_key(quick: None) -> None:
    broken = [
        completion("half of", finish_reason="error"),
        garbage(b'{"choices": [{"message": {"content": "a"}}], "error": {"code": 502}}'),
        garbage(b'{"choices": [{"message": {"content": "a"}, "error": {"message": "lost"}}]}'),
    ]
    assert text_after(script(*broken)) == "fine"
    with FaultyServer(always(completion("Yes.", finish_reason=KEY, reasoning=KEY))) as server:
        (outcome,) = ask(server.url, api_key=KEY)
    assert isinstance(outcome, Reply)
    assert KEY not in repr(outcome) and outcome.reasoning == "***"


@pytest.mark.parametrize("name", ["date", "retry-after"])
def test_a_date_beyond_all_calendars_loses_no_reply(name: str) -> None:
    date = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    answer = completion("Yes.")
    with FaultyServer(always(replace(answer, headers=(*answer.headers, (name, date))))) as server:
        (outcome,) = ask(server.url)
    assert reply(outcome).text == "Yes."


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HTTP_PROXY", "http://u:S3cret@127.0.0.1:999999", "is no address"),
        ("HTTP_PROXY", "ht!tp://u:S3cret@x:1", "is no address"),
        ("ALL_PROXY", "socks5://u:S3cret@127.0.0.1:9", "SOCKS"),
        ("SSL_CERT_FILE", "/S3cret/nothing", "SSL_CERT_FILE"),
    ],
)
def test_what_the_environment_has_wrong_is_said_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CurateError, match=says) as problem:
        reply(ask("http://192.0.2.1:9/v1")[0])
    assert "S3cret" not in str(problem.value)


def test_a_certificate_that_is_no_certificate_of_the_server_is_said() -> None:
    with FaultyServer() as server:
        [outcome] = ask(server.url.replace("http:", "https:"))
    assert isinstance(outcome, CurateError)
    assert "file or directory" not in str(outcome) and "tls failed: " in str(outcome)


def test_a_small_answer_that_unpacks_to_a_large_one_fails_alone() -> None:
    """A thousandfold: only what a reply may have is ever unpacked."""
    body = gzip.compress(b'{"choices": [{"message": {"content": "' + b"a" * (33 << 20))
    answer = Answer(body=body, headers=(("content-encoding", "gzip"),))
    with FaultyServer(always(answer)) as server:
        [outcome] = ask(server.url)
        assert len(server.requests) == 1
    assert isinstance(outcome, RequestFailed) and "larger than 32 MiB" in str(outcome)


def test_an_address_that_is_none_shows_no_password() -> None:
    with pytest.raises(CurateError) as problem:
        OpenAIEngine("m", "ftp://user:S3cret@host/v1?key=S3cret", ceiling=1)
    assert "S3cret" not in str(problem.value) and "host/v1" in str(problem.value)
