"""VLLMEngine: the server's life, with a real process that stands in for vLLM, and with vLLM."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from curate.pipeline.config import ModelConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.llm.engines.choose import make_engine
from curate.pipeline.llm.engines.local.vllm_server import VLLMEngine
from curate.pipeline.llm.protocol import Reply, Request

from ...tiny_model import save_tiny_chat_model

T = TypeVar("T")
STAND_IN = Path(__file__).with_name("stand_in.py")


def request(number: int = 0, *, max_tokens: int = 16) -> Request:
    return Request(
        id=str(number),
        slot="instruction",
        messages=({"role": "user", "content": f"Number {number}."},),
        max_tokens=max_tokens,
        temperature=0.0,
        seed=None,
        key=str(number),
    )


def stand_in(pids: Path, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-S", str(STAND_IN), "--pids", str(pids), *options)


def with_teacher(
    command: tuple[str, ...], work: Callable[[VLLMEngine], Awaitable[T]], **options: Any
) -> T:
    async def run() -> T:
        teacher = VLLMEngine("owner/model", ceiling=16, command=command, **options)
        try:
            return await work(teacher)
        finally:
            await teacher.close()

    return asyncio.run(run())


async def ask_many(teacher: VLLMEngine, number: int) -> list[dict[str, Any]]:
    replies = await asyncio.gather(*(teacher.ask(request(n)) for n in range(number)))
    return [json.loads(reply.text) for reply in replies]


def starts(pids: Path) -> list[list[int]]:
    """The ids of server and child, of each start."""
    return [[int(pid) for pid in line.split()] for line in pids.read_text().splitlines()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not waited for does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


def all_gone(pids: Path, within: float = 5.0) -> bool:
    until = time.monotonic() + within
    while any(alive(pid) for start in starts(pids) for pid in start):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_it_waits_until_the_server_is_ready_and_ends_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    args = ("--tensor-parallel-size", "2")
    found = with_teacher(
        stand_in(pids, "--loading", "1"), lambda it: ask_many(it, 20), engine_args=args
    )
    assert [one["said"] for one in found] == [f"Number {n}." for n in range(20)]
    assert found[0]["model"] == "owner/model"
    assert found[0]["further"] == [*args]
    assert len(starts(pids)) == 1
    assert all_gone(pids)


def test_nothing_is_started_when_nothing_is_asked(tmp_path: Path) -> None:
    async def nothing(teacher: VLLMEngine) -> str | None:
        return teacher.revision

    command = stand_in(tmp_path / "pids")
    assert with_teacher(command, nothing, revision="abc") == "abc"
    assert not (tmp_path / "pids").exists()


def test_a_server_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    async def ask_twice(teacher: VLLMEngine) -> list[BaseException | Reply]:
        asked = (teacher.ask(request(n)) for n in range(2))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second = with_teacher(stand_in(tmp_path / "pids", "--fail"), ask_twice)
    assert isinstance(first, CurateError) and isinstance(second, CurateError)
    said = str(first)
    assert said.startswith("vLLM ended before it was ready")
    assert "loading weights\n  ValueError: the model is too large for this GPU" in said
    assert "[the server has ended: exit code 1]" in said
    log = Path(said.split("its log, ")[1].split(":\n")[0])
    assert "too large" in log.read_text()


def test_a_server_that_is_never_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.llm.engines.local.vllm_server.STARTING", 1.0)
    pids = tmp_path / "pids"
    command = stand_in(pids, "--loading", "600")
    with pytest.raises(CurateError, match="was not ready after 1 s"):
        with_teacher(command, lambda it: it.ask(request()))
    assert all_gone(pids)


def test_a_server_that_dies_is_restarted_and_asked_again(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = stand_in(pids, "--crash-at", "10", "--crashes", "2")
    found = with_teacher(command, lambda it: ask_many(it, 40))
    assert [one["said"] for one in found] == [f"Number {n}." for n in range(40)]
    assert len(starts(pids)) == 3
    assert {one["start"] for one in found} <= {1, 2, 3}
    assert all_gone(pids)


def test_a_server_that_always_dies_is_given_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = stand_in(pids, "--crash-at", "1", "--crashes", "99")
    with pytest.raises(CurateError, match=r"vLLM died 4 times.*\n(.*\n)+run the same command"):
        with_teacher(command, lambda it: it.ask(request()))
    assert len(starts(pids)) == 4
    assert all_gone(pids)


def test_a_server_that_ignores_a_polite_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.llm.engines.local.child_process.GRACE", 0.3)
    pids = tmp_path / "pids"
    with_teacher(stand_in(pids, "--stubborn"), lambda it: ask_many(it, 1))
    assert all_gone(pids)


def test_an_interrupt_while_it_loads_ends_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    async def give_up(teacher: VLLMEngine) -> None:
        asking = asyncio.create_task(teacher.ask(request()))
        while not (pids.exists() and starts(pids)):
            await asyncio.sleep(0.02)
        asking.cancel()

    with_teacher(stand_in(pids, "--loading", "600"), give_up)
    assert all_gone(pids)


PARENT = """
import asyncio, json, sys
from tests.llm.engines.local.test_vllm_server import VLLMEngine, request
async def run():
    teacher = VLLMEngine("m", ceiling=2, command=json.loads(sys.argv[1]))
    await teacher.ask(request())
    print("answered", flush=True)
    await asyncio.sleep(600)
asyncio.run(run())
"""


def test_our_own_death_ends_the_server_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    us = subprocess.Popen(
        [sys.executable, "-c", PARENT, json.dumps(stand_in(pids))],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[4],
    )
    assert us.stdout is not None
    assert us.stdout.readline() == b"answered\n"
    assert not all_gone(pids, within=0.2)
    us.send_signal(signal.SIGKILL)
    us.communicate()
    assert all_gone(pids)


def test_the_death_of_the_guard_leaves_nothing_behind(tmp_path: Path) -> None:
    """The guard is the leader of the server's process group."""
    pids = tmp_path / "pids"

    async def kill_guard(teacher: VLLMEngine) -> None:
        await teacher.ask(request())
        os.kill(os.getpgid(starts(pids)[0][0]), signal.SIGKILL)
        await asyncio.sleep(0.2)
        reply = await teacher.ask(request(1))
        assert json.loads(reply.text)["start"] == 2

    with_teacher(stand_in(pids), kill_guard)
    assert all_gone(pids)


def test_no_key_of_ours_reaches_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_API_KEY", "sk-secret")
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    pids = tmp_path / "pids"

    async def environment(teacher: VLLMEngine) -> bytes:
        await teacher.ask(request())
        return Path(f"/proc/{starts(pids)[0][0]}/environ").read_bytes()

    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here")
    assert b"sk-secret" not in with_teacher(stand_in(pids), environment)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_one_sentence() -> None:
    with pytest.raises(CurateError) as caught:
        make_engine(ModelConfig(model="m", engine="vllm"))
    assert str(caught.value) == (
        'vLLM is not installed here: pip install "curate-reflection[vllm]"'
    )


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_real_vllm_answers_restarts_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    folder = save_tiny_chat_model(tmp_path / "tiny")
    args = "--dtype float32 --enforce-eager --max-model-len 512 --max-num-seqs 16"
    args += " --gpu-memory-utilization 0.15"
    config = ModelConfig(model=str(folder), engine="vllm", engine_args=tuple(args.split()))
    chats = [request(n, max_tokens=4 + 2 * n) for n in range(24)]
    long = Request(**{**_fields(request()), "messages": _turn("x" * 600)})

    async def run() -> tuple[list[Reply], list[Reply], int]:
        teacher = make_engine(config)
        assert isinstance(teacher, VLLMEngine)
        try:
            before = await asyncio.gather(*(teacher.ask(chat) for chat in chats))
            with pytest.raises(Exception, match="longer than the model's context"):
                await teacher.ask(long)
            assert teacher._server is not None
            group = teacher._server._process.pid
            [leader] = _children(group)
            asked = [asyncio.create_task(teacher.ask(chat)) for chat in chats]
            await asyncio.sleep(0.05)  # they are on their way
            os.kill(leader, signal.SIGKILL)
            return list(before), list(await asyncio.gather(*asked)), group
        finally:
            await teacher.close()

    before, after, group = asyncio.run(run())
    assert [reply.text for reply in after] == [reply.text for reply in before]
    assert {reply.finish_reason for reply in before} <= {"stop", "length"}
    assert all((reply.completion_tokens or 0) <= reply.max_tokens for reply in before)
    assert before[0].prompt_tokens == len("<user> Number 0.\n<assistant>")
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def _fields(one: Request) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


def _turn(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(one) for one in found.stdout.split()]
