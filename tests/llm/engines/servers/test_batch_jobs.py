"""Reflection by batch jobs, at a server that speaks the protocol: nothing twice, nothing lost."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import ReflectConfig
from curate.pipeline.errors import BudgetReached, CurateError, UsageError
from curate.pipeline.llm.budget import prompt_ceiling
from curate.pipeline.llm.engines.choose import make_engine
from curate.pipeline.llm.engines.servers import batch_jobs
from curate.pipeline.stages.reflection.estimate import estimate
from curate.pipeline.stages.reflection.stage import reflect

from ....disks import small_disk
from ....stages.reflection.test_stage import (
    KEY,
    by_place,
    config,
    no_thread_left,
    reflect_command,
    shards,
)
from ...batch_server import BatchServer, Row, answered, expired, fine, refused
from ...records_asked import journal_lines, records, written

__all__ = ["no_thread_left"]
QUICK = "import curate.pipeline.llm.engines.servers.batch_jobs as b; b.QUIET = 0.05"
BATCH = ("--batch-api", "--batch-poll", "0.05")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_jobs, "QUIET", 0.03)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "data.jsonl", records(5))


def batched(data: Path, run: Path, server: BatchServer, **teacher: Any) -> ReflectConfig:
    return config(data, run, server.url, **{"batch_api": True, "batch_poll": 0.05} | teacher)


def live(setup: ReflectConfig) -> ReflectConfig:
    return replace(setup, teacher=replace(setup.teacher, batch_api=False))


def notes(run: Path) -> list[Path]:
    return sorted((run / "journal" / "batches").iterdir())


def prompt(line: Row) -> str:
    text: str = line["body"]["messages"][0]["content"]
    return text


def test_two_waves_give_what_a_live_run_gives_at_half_the_price(tmp_path: Path, data: Path) -> None:
    prices = {"price_in": 1.0, "price_out": 2.0}
    with BatchServer() as server:
        setup = batched(data, tmp_path / "run", server, seed=3, **prices)
        result = reflect(setup)
        assert [len(server.lines(batch)) for batch in server.batches.values()] == [10, 5]
        assert (server.live, notes(tmp_path / "run")) == (0, [])
        body = server.lines(server.batches["batch-0"])[0]["body"]
        assert body["max_tokens"] == 256 and body["seed"] == 3 and body["temperature"] == 0.0
        direct = reflect(live(replace(setup, out=tmp_path / "live")))
        assert server.live == 15
        again = reflect(live(setup))  # the same keys: a live run has nothing left to ask
        assert server.live == 15 and again.asked == 0
    assert shards(tmp_path / "run") == shards(tmp_path / "live")
    assert result.tokens == direct.tokens == (15 * 11, 15 * 7)
    assert direct.cost is not None
    assert direct.cost == pytest.approx(15 * (11 + 14) / 1e6)
    assert result.cost == again.cost == pytest.approx(direct.cost / 2)


def test_what_a_full_queue_refuses_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_jobs, "MOST_REQUESTS", 8)
    monkeypatch.setattr(batch_jobs, "LEAST", 1)
    data = written(tmp_path / "data.jsonl", records(15))
    with BatchServer() as server:
        server.room = 5
        result = reflect(batched(data, tmp_path / "run", server))
        assert result.statuses == {"ok": 45} and set(server.asked.values()) == {1}
        assert server.live == 0 and notes(tmp_path / "run") == []
        server.room = 1000
        direct = reflect(live(batched(data, tmp_path / "live", server)))
    assert shards(tmp_path / "run") == shards(tmp_path / "live")
    assert direct.statuses == result.statuses
    said = capfd.readouterr().err
    assert "too long for the server's queue" in said and "when another one has ended" in said


def test_a_request_that_no_queue_takes_fails_with_the_servers_words(
    tmp_path: Path, data: Path
) -> None:
    with BatchServer() as server:
        server.room = 0
        result = reflect(batched(data, tmp_path / "run", server))
    assert result.statuses == {"failed": 15}
    reasons = [one.reason or "" for one in by_place(tmp_path / "run").values()]
    assert any("Enqueued token limit reached" in reason for reason in reasons)


def test_a_run_that_was_partly_live_adds_both_prices(tmp_path: Path, data: Path) -> None:
    prices = {"price_in": 1.0, "price_out": 2.0}
    with BatchServer() as server:
        setup = batched(data, tmp_path / "run", server, **prices)
        reflect(live(replace(setup, input=replace(setup.input, limit=2))))
        result = reflect(setup)
        assert (server.live, sum(server.asked.values())) == (6, 9)
    assert result.cost == pytest.approx((6 + 9 / 2) * (11 + 14) / 1e6)


def test_requests_that_fail_are_named_and_taken_up_by_retry(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(6))
    bad: dict[str, Callable[[Row], Row | None]] = {
        "rec-000": lambda line: refused(line, 400, "maximum context length is 4096 tokens"),
        "rec-001": lambda line: refused(line, 500, "the server had an error"),
        "rec-002": lambda line: None,
        "rec-003": expired,
        "rec-004": lambda line: answered(line, 200, {"choices": [{}]}),
    }

    def answer(line: Row) -> Row | None:
        return next((then for name, then in bad.items() if name in prompt(line)), fine)(line)

    run = tmp_path / "run"
    with BatchServer(answer) as server:
        result = reflect(batched(data, run, server))
        assert result.statuses == {"ok": 3, "failed": 15}
        rows = by_place(run)
        reasons = [rows[f"r{n}", "response"].reason or "" for n in range(5)]
        assert "longer than the model's context" in reasons[0]
        assert "HTTP 500: the server had an error" in reasons[1]
        assert reasons[2] == "no answer in batch batch-0, which is completed"
        assert "before the completion window expired" in reasons[3]
        assert "a choice without a message" in reasons[4]
        server.answer, made = fine, len(server.batches)
        reflect(batched(data, run, server))
        assert len(server.batches) == made  # only --retry asks again
        result = reflect(batched(data, run, server, retry=("failed",)))
        assert result.statuses == {"ok": 18}
        assert [len(server.lines(b)) for b in server.batches.values()] == [12, 1, 10, 5]


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_a_batch_that_ends_badly_keeps_what_it_has(tmp_path: Path, data: Path, status: str) -> None:
    with BatchServer(lambda line: (fine if "rec-001" in prompt(line) else expired)(line)) as server:
        server.status = status
        setup = batched(data, tmp_path / "run", server)
        result = reflect(setup)
        assert result.statuses.get("ok", 0) == (0 if status == "failed" else 2)
        if status == "failed":
            reason = by_place(tmp_path / "run")["r1", "response"].reason
            assert reason == (
                "no answer in batch batch-0, which is failed: the file is not to our taste"
            )
        result = reflect(live(replace(setup, teacher=replace(setup.teacher, retry=("failed",)))))
        assert result.statuses == {"ok": 15}
        assert server.live == (15 if status == "failed" else 13)


def start(command: list[str], server: BatchServer, batches: int) -> None:
    """Run until the server has made so many batches, then kill -9."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 60
        while len(server.batches) < batches:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.3)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL


def test_killed_while_a_batch_is_at_work_it_is_found_and_waited_for(
    tmp_path: Path, data: Path
) -> None:
    run = tmp_path / "run"
    with BatchServer() as server:
        command = reflect_command(data, run, server.url, *BATCH, first=QUICK)
        server.hold = True
        start(command, server, 1)
        assert len(notes(run)) == 1
        said = estimate(batched(data, run, server))
        assert said.endswith("10 of the calls are submitted as batch jobs already")
        with pytest.raises(CurateError, match=r"10 requests .* submitted .* --batch-api"):
            reflect(config(data, run, server.url))  # live, it would pay twice
        assert server.live == 0
        start(command, server, 1)
        server.hold = False
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "taking up: 10 requests submitted as a batch job" in done.stderr
        assert "candidates: 15 ok" in done.stdout
        assert len(server.batches) == 2 and set(server.asked.values()) == {1}
    assert notes(run) == []


def test_killed_before_the_batch_was_noted_it_is_found_in_the_list(
    tmp_path: Path, data: Path
) -> None:
    run = tmp_path / "run"
    with BatchServer() as server:
        command = reflect_command(data, run, server.url, *BATCH, first=QUICK)
        server.silent = True
        start(command, server, 1)
        assert json.loads(notes(run)[0].read_text("utf-8"))["batch"] is None
        server.silent = False
        upload = next(iter(server.uploads))
        server.uploads["other"] = b""
        for _ in range(4):  # of other people, on the first pages
            server.create({**server.batches["batch-0"], "input_file_id": "other", "metadata": None})
        assert server.batches["batch-0"]["input_file_id"] == upload
        subprocess.run(command, capture_output=True, check=True)
        assert len(server.batches) == 1 + 4 + 1 and set(server.asked.values()) == {1}


def test_a_batch_that_was_noted_and_never_made_is_submitted(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with BatchServer() as server:
        command = reflect_command(data, run, server.url, *BATCH, first=QUICK)
        server.silent = True
        start(command, server, 1)
        server.silent = False
        server.batches.clear()
        server.asked.clear()
        result = reflect(batched(data, run, server))
        assert result.statuses == {"ok": 15} and set(server.asked.values()) == {1}


def test_an_error_after_the_batch_was_made_makes_no_second(tmp_path: Path, data: Path) -> None:
    with BatchServer() as server:
        server.failing = 1
        reflect(batched(data, tmp_path / "run", server))
        assert len(server.batches) == 2 and set(server.asked.values()) == {1}


def test_a_crash_between_journal_and_note_pays_and_keeps_nothing_twice(
    tmp_path: Path, data: Path
) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    with BatchServer() as server:
        command = reflect_command(data, run, server.url, *BATCH, first=QUICK)
        server.hold = True
        start(command, server, 1)
        shutil.copytree(run / "journal" / "batches", kept)
        server.hold = False
        tokens = reflect(batched(data, run, server)).tokens
        shutil.copytree(kept, run / "journal" / "batches", dirs_exist_ok=True)
        result = reflect(batched(data, run, server))
        assert result.tokens == tokens and result.statuses == {"ok": 15}
        assert len(server.batches) == 2 and notes(run) == []
        # Of a lower limit: what is not asked for any more is collected and kept all the same.
        (run / "manifest.json").unlink()
        shutil.rmtree(run / "candidates")
        shutil.rmtree(run / "journal")
        shutil.copytree(kept, run / "journal" / "batches")
        setup = batched(data, run, server)
        reflect(replace(setup, input=replace(setup.input, limit=1)))
        assert [len(server.lines(b)) for b in server.batches.values()] == [10, 5, 1]
        reflect(live(setup))
        assert server.live == 4  # `both` of the other four


def test_a_batch_that_the_server_forgot_fails_its_requests(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.llm.flow_control.FIRST_DELAY", 0.001)
    run = tmp_path / "run"
    with BatchServer() as server:
        server.hold = True
        start(reflect_command(data, run, server.url, *BATCH, first=QUICK), server, 1)
        server.batches.clear()
        result = reflect(batched(data, run, server))
        assert result.statuses == {"failed": 15} and notes(run) == []
        reason = by_place(run)["r0", "response"].reason
        assert reason == "no answer in batch batch-0, which is lost by the server"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_waiting_is_130(tmp_path: Path, data: Path, sent: signal.Signals) -> None:
    with BatchServer() as server:
        server.hold = True
        command = reflect_command(data, tmp_path / "run", server.url, *BATCH, first=QUICK)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not server.batches:
                time.sleep(0.01)
            time.sleep(0.3)
            process.send_signal(sent)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert said.endswith("interrupted: the same command goes on from here\n")
        assert "Traceback" not in said and "never retrieved" not in said
        server.hold = False
        reflect(batched(data, tmp_path / "run", server))
        assert set(server.asked.values()) == {1}


def test_budgets_hold_and_a_larger_one_goes_on(tmp_path: Path, data: Path) -> None:
    def dear(line: Row) -> Row:
        used = {"prompt_tokens": prompt_ceiling(line["body"]["messages"]), "completion_tokens": 250}
        answer = fine(line)
        answer["response"]["body"]["usage"] = used
        return answer

    run = tmp_path / "run"
    with BatchServer(dear) as server:
        setup = batched(data, run, server)
        with pytest.raises(BudgetReached):
            reflect(replace(setup, teacher=replace(setup.teacher, max_total_tokens=12_000)))
        used = [
            prompt_ceiling(line["body"]["messages"]) + 250
            for batch in server.batches.values()
            for line in server.lines(batch)
        ]
        assert 12_000 - 3000 < sum(used) <= 12_000
        assert reflect(setup).statuses == {"ok": 15}
        assert set(server.asked.values()) == {1} and notes(run) == []


def test_a_full_disk_pays_nothing_twice(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(60))
    with BatchServer() as server, small_disk(tmp_path / "disk", "40k") as enlarge:
        setup = batched(data, tmp_path / "disk" / "run", server)
        with pytest.raises(CurateError, match="no space left on device"):
            reflect(setup)
        assert len(server.batches) == 1 and len(notes(tmp_path / "disk" / "run")) == 1
        enlarge()
        assert reflect(setup).statuses == {"ok": 180}
        assert len(server.batches) == 2 and set(server.asked.values()) == {1}


def test_files_are_no_larger_than_allowed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_jobs, "MOST_REQUESTS", 4)
    with BatchServer() as server:
        reflect(batched(data, tmp_path / "a", server))
        sizes = [len(server.lines(batch)) for batch in server.batches.values()]
        assert sum(sizes) == 15 and max(sizes) == 4 and len(sizes) <= 7
        server.batches.clear()
        monkeypatch.setattr(batch_jobs, "MOST_BYTES", 5000)
        reflect(batched(data, tmp_path / "b", server))
        assert max(len(content) for content in list(server.uploads.values())[7:]) <= 5000


def test_the_other_name_of_max_tokens_is_found_out(tmp_path: Path, data: Path) -> None:
    why = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."

    def modern(line: Row) -> Row:
        return refused(line, 400, why) if "max_tokens" in line["body"] else fine(line)

    with BatchServer(modern) as server:
        assert reflect(batched(data, tmp_path / "run", server)).statuses == {"ok": 15}
        assert len(server.batches) == 3
    with BatchServer(lambda line: refused(line, 400, why)) as server:
        assert reflect(batched(data, tmp_path / "no", server)).statuses == {"failed": 15}


def test_the_key_is_sent_and_written_nowhere(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with BatchServer() as server:
        server.key = KEY
        with pytest.raises(CurateError, match="wrong or missing API key") as caught:
            reflect(batched(data, run, server, api_key="sk-wrong"))
        assert "sk-wrong" not in str(caught.value) and not run.exists()
        command = reflect_command(data, run, server.url, *BATCH, first=QUICK)
        server.hold = True
        server.key = None
        start(command, server, 1)
        server.hold, server.key = False, KEY
        reflect(batched(data, run, server, api_key=KEY))
    assert not any(KEY.encode() in p.read_bytes() for p in run.rglob("*") if p.is_file())
    assert KEY not in "".join(capfd.readouterr())


def test_a_server_without_a_batch_api_says_so(tmp_path: Path, data: Path) -> None:
    with BatchServer() as server:
        server.known = False
        with pytest.raises(CurateError, match="has no batch API"):
            reflect(batched(data, tmp_path / "run", server))
        server.known = True
        setup = batched(data, tmp_path / "run", server)
        short = replace(setup.teacher, base_url=server.url.removesuffix("/v1"))
        assert reflect(replace(setup, teacher=short)).statuses == {"ok": 15}


def test_what_does_not_go_together(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="--batch-api is for one server"):
        urls = ("http://a/v1", "http://b/v1")
        make_engine(config(data, tmp_path, "", base_url=urls, batch_api=True).teacher)
    with pytest.raises(UsageError, match="--batch-api is for one server"):
        make_engine(config(data, tmp_path, "", base_url=None, batch_api=True).teacher)


def test_a_dry_run_says_half_the_price_and_a_day(tmp_path: Path, data: Path) -> None:
    with BatchServer() as server:
        prices = {"price_in": 1000.0, "price_out": 0.0}
        setup = batched(data, tmp_path / "run", server, **prices)
        said, full = estimate(setup), estimate(live(setup))
        assert not server.uploads
    half, whole = (float(text.split(", about ")[-1].split(" USD")[0]) for text in (said, full))
    assert half == pytest.approx(whole / 2, abs=0.01)
    assert said.endswith("batch jobs, the second of what the first gives")


def test_reasoning_in_a_batch_is_kept_apart(tmp_path: Path, data: Path) -> None:
    def thinking(line: Row) -> Row:
        answer = fine(line)
        message = answer["response"]["body"]["choices"][0]["message"]
        message["content"] = f"<think>[Better Answer] Draft.</think>{message['content']}"
        return answer

    with BatchServer(thinking) as server:
        assert reflect(batched(data, tmp_path / "run", server)).statuses == {"ok": 15}
    lines = journal_lines(tmp_path / "run" / "journal")
    assert {line["reasoning"] for line in lines} == {"[Better Answer] Draft."}


def test_a_batch_or_an_output_that_is_not_there_yet_loses_no_reply(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.llm.flow_control.FIRST_DELAY", 0.01)
    with BatchServer() as server:
        server.late = server.absent = 1
        server.name = "a?b/{}#"
        result = reflect(batched(data, tmp_path / "run", server))
        assert set(server.asked.values()) == {1}
    assert result.statuses == {"ok": 15} and notes(tmp_path / "run") == []


def test_counts_of_another_type_and_deep_lines_lose_no_reply(tmp_path: Path, data: Path) -> None:
    with BatchServer() as server:
        server.counts = {"completed": "many", "total": None}
        server.tail = b"[" * 100_000 + b"\n"
        assert reflect(batched(data, tmp_path / "run", server)).statuses == {"ok": 15}
