"""InProcessEngine: continuous batching in process, against generate() one prompt at a time."""

import asyncio
import ctypes
import gc
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.config import ModelConfig
from curate.pipeline.errors import CurateError, RequestFailed, UsageError
from curate.pipeline.inputs.model_files import folder_hash
from curate.pipeline.llm.engines.choose import choose_engine, make_engine
from curate.pipeline.llm.engines.local.in_process import InProcessEngine
from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine
from curate.pipeline.llm.protocol import Reply, Request, with_reasoning_apart

from ...tiny_model import save_tiny_chat_model

CONTEXT = 384
TEXTS = [f"{'Say it again. ' * (n % 5)}Number {n}?" for n in range(12)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny matrices are faster on one thread, the more so where others want the processor too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("models") / "tiny", context=CONTEXT)


def request(
    text: str, *, max_tokens: int = 24, temperature: float = 0.0, seed: int | None = None
) -> Request:
    return Request(
        id=text,
        slot="response",
        messages=({"role": "user", "content": text},),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        key=text,
    )


def ask(folder: Path | str, *requests: Request, **options: Any) -> list[Reply | BaseException]:
    """Ask all at once; what each returned or raised."""

    async def run() -> list[Reply | BaseException]:
        teacher = InProcessEngine(str(folder), **{"ceiling": 8, "device": "cpu", **options})
        try:
            asked = (teacher.ask(one) for one in requests)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await teacher.close()

    return asyncio.run(run())


def replies(outcomes: list[Reply | BaseException]) -> list[Reply]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Reply)]


def alone(folder: Path, requests: list[Request]) -> list[tuple[str, str, int, int]]:
    """Text, finish reason, prompt and completion tokens by greedy generate(), one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for one in requests:
        ids = tokenizer.apply_chat_template(
            list(one.messages), add_generation_prompt=True, return_dict=False, return_tensors="pt"
        )
        mask = torch.ones_like(ids)
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=one.max_tokens, do_sample=False, pad_token_id=1
        )
        new = out[0, ids.shape[1] :].tolist()
        finish = "stop" if new[-1] == 1 else "length"
        text = tokenizer.decode(new, skip_special_tokens=True)
        found.append((text, finish, ids.shape[1], len(new)))
    return found


def told(reply: Reply) -> tuple[str, str | None, int | None, int | None]:
    return (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens)


def living_models() -> set[int]:
    """Those of other tests in this process may be among them."""
    gc.collect()
    return {id(o) for o in gc.get_objects() if type(o).__name__ == "LlamaForCausalLM"}


def test_many_at_once_are_what_generate_gives_one_at_a_time(folder: Path) -> None:
    asked = [request(text, max_tokens=8 + 9 * n) for n, text in enumerate(TEXTS)]
    before, models = set(threading.enumerate()), living_models()
    got = [told(reply) for reply in replies(ask(folder, *asked))]
    assert got == alone(folder, asked)
    assert {finish for _, finish, _, _ in got} == {"stop", "length"}
    left = {thread for thread in threading.enumerate() if thread.name != "asyncio_0"} - before
    assert left == set()
    assert living_models() <= models


def test_a_prompt_that_opens_a_block_of_reasoning_makes_the_reply_one(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "thinker")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    tokenizer.save_pretrained(tmp_path / "thinker")
    (found,) = replies(ask(tmp_path / "thinker", request("Hi")))
    apart = with_reasoning_apart(found)
    assert found.text.startswith("<think>")
    assert apart.text == "" and apart.reasoning == found.text.removeprefix("<think>").strip()


def test_a_cache_too_small_for_all_at_once_changes_nothing(folder: Path) -> None:
    asked = [request(text, max_tokens=200) for text in TEXTS[:6]]
    cache = 4 * 256 * 512  # bytes: four pages of 256 tokens, 512 bytes each
    got = [told(reply) for reply in replies(ask(folder, *asked, memory=cache))]
    assert got == alone(folder, asked)


def test_a_prompt_needs_room_for_one_token(folder: Path) -> None:
    overhead = len("<user> \n<assistant>")
    fits = request("x" * (CONTEXT - overhead - 1), max_tokens=50)
    long = request("x" * (CONTEXT - overhead))
    good, bad = ask(folder, fits, long)
    assert isinstance(good, Reply)
    assert (good.prompt_tokens, good.completion_tokens) == (CONTEXT - 1, 1)
    assert good.max_tokens == 50
    assert isinstance(bad, RequestFailed)
    assert str(bad).startswith("longer than the teacher's context: the prompt has 384 tokens")


def sampled(number: int) -> Request:
    """One of many kinds of request, no two the same; each fourth greedily."""
    asked = request(TEXTS[number % 12], max_tokens=40, temperature=number % 4 / 2, seed=number % 3)
    return replace(asked, key=f"sample {number}", top_p=None if number % 2 else 0.8)


def test_a_sampled_reply_depends_on_its_request_alone(folder: Path) -> None:
    asked = [sampled(number) for number in range(24)]
    together = [told(reply) for reply in replies(ask(folder, *asked))]
    backwards = [told(reply) for reply in replies(ask(folder, *reversed(asked), ceiling=3))]
    assert together == backwards[::-1]
    assert [told(*replies(ask(folder, one))) for one in asked[5:8]] == together[5:8]
    greedy = [one for one in asked if not one.temperature]
    assert alone(folder, greedy) == [reply for reply in together[::4]]


@pytest.mark.parametrize("change", [{"seed": 2}, {"seed": None}, {"key": "sample 2"}])
def test_another_seed_or_key_is_another_reply(folder: Path, change: dict[str, Any]) -> None:
    one = request("Say it.", temperature=1.0, seed=1)
    first, other, again = replies(ask(folder, one, replace(one, **change), one))
    assert first.text == again.text != other.text


def test_the_smallest_nucleus_is_the_greedy_reply(folder: Path) -> None:
    one = request("Say it.", temperature=1.0)
    [reply] = replies(ask(folder, replace(one, top_p=1e-9)))
    assert [told(reply)] == alone(folder, [one])


def test_a_failure_in_the_thread_reaches_every_request(tmp_path: Path) -> None:
    """A special token without an embedding: an IndexError in the manager's thread."""
    save_tiny_chat_model(tmp_path / "odd")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "odd")
    tokenizer.add_tokens(["beyond"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "odd")
    outcomes = ask(tmp_path / "odd", *(request(f"{text} beyond") for text in TEXTS))
    said = [str(outcome) for outcome in outcomes if isinstance(outcome, CurateError)]
    assert len(said) == len(TEXTS)
    assert all(text.startswith("the teacher odd failed: ") for text in said)
    # Who asked before the thread ended is told why; who asks later, that it has ended.
    assert any("index out of range" in text for text in said)


def test_want_of_memory_is_one_sentence(tmp_path: Path) -> None:
    save_tiny_chat_model(tmp_path / "huge", context=1 << 40)
    [outcome] = ask(tmp_path / "huge", request("Hello?"), memory=1 << 50)
    assert isinstance(outcome, CurateError)
    assert "take a smaller --concurrency" in str(outcome)
    assert "\n" not in str(outcome)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_without_a_word_is_no_hang(folder: Path) -> None:
    async def run() -> None:
        before = set(threading.enumerate())
        teacher = InProcessEngine(str(folder), ceiling=8, device="cpu")
        await teacher.ask(request("Hello?", max_tokens=1))
        begun = set(threading.enumerate()) - before
        [thread] = [thread for thread in begun if "_run_generation_loop" in thread.name]
        asked = [asyncio.create_task(teacher.ask(request(text, max_tokens=300))) for text in TEXTS]
        await asyncio.sleep(0.1)
        ended = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        assert ended == 1
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert any(isinstance(outcome, CurateError) for outcome in outcomes)
        assert all(isinstance(outcome, Reply | CurateError) for outcome in outcomes)
        with pytest.raises(CurateError, match="its thread has ended"):
            await teacher.ask(request("Hello?"))
        await teacher.close()

    asyncio.run(run())


def test_closing_while_the_model_loads_lets_go_of_it(folder: Path) -> None:
    async def run() -> None:
        teacher = InProcessEngine(str(folder), ceiling=8, device="cpu")
        asking = asyncio.create_task(teacher.ask(request("Hello?")))
        await asyncio.sleep(0)
        asking.cancel()
        await teacher.close()

    asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == "teacher":
            thread.join(30)
            assert not thread.is_alive()


def test_a_model_without_a_chat_template_is_told_so(tmp_path: Path) -> None:
    save_tiny_chat_model(tmp_path / "plain", template=None)
    [outcome] = ask(tmp_path / "plain", request("Hello?"))
    assert isinstance(outcome, CurateError)
    assert "has no chat template: take a model tuned for instructions" in str(outcome)


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    first, second = ask(tmp_path, request("Hello?"), request("Hello again?"))
    assert isinstance(first, CurateError) and isinstance(second, CurateError)
    assert "no model folder" in str(first)
    assert "\n" not in str(first)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_here(folder: Path) -> None:
    [outcome] = ask(folder, request("Hello?"), device="cuda:0")
    assert isinstance(outcome, CurateError)
    assert "no CUDA device" in str(outcome)


def test_a_folder_is_known_by_its_name_and_its_files(folder: Path) -> None:
    teacher = InProcessEngine(f"{folder}/", ceiling=1, revision="ignored")
    assert (teacher.name, teacher.revision) == ("tiny", folder_hash(folder))
    hub = InProcessEngine("owner/name", ceiling=1, revision="abc")
    assert (hub.name, hub.revision) == ("owner/name", "abc")
    asyncio.run(teacher.close())


def test_auto_takes_what_is_given_or_here(folder: Path, tmp_path: Path) -> None:
    url = "http://localhost:1/v1"
    assert choose_engine(ModelConfig(model="m", base_url=url)) == "openai"
    assert choose_engine(ModelConfig(replies=tmp_path / "r.jsonl")) == "recorded"
    assert isinstance(make_engine(ModelConfig(model="m", base_url=url)), OpenAIEngine)
    if not torch.cuda.is_available():
        assert choose_engine(ModelConfig(model="m")) == "transformers"
        assert isinstance(make_engine(ModelConfig(model=str(folder))), InProcessEngine)
    with pytest.raises(UsageError, match="--engine vllm"):
        make_engine(ModelConfig(model="m", engine_args=("--x",), engine="transformers"))
