"""`curate reflect` against a real model server: `transformers serve` with a tiny random Llama."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .scoring.tiny import byte_level, llama

pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")),
        reason="no model server: pip install 'transformers[serving]'",
    ),
    pytest.mark.timeout(240),
]
# The script `transformers` imports its chat client too, and that libraries that are not installed.
SERVE = "import typer; from transformers.cli.serve import Serve; typer.run(Serve)"
RECORDS = 6
STARTS_WITHIN = 120.0


class Served(NamedTuple):
    url: str
    model: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    model, cache, log = home / "tiny", home / "cache", home / "log.txt"
    cache.mkdir()  # /v1/models answers 500 where it is absent
    llama(max_position_embeddings=8192).save_pretrained(model)
    byte_level().save_pretrained(model)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-c", SERVE, str(model),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32",
        "--continuous-batching", "--cb-block-size", "32", "--cb-num-blocks", "2048",
        "--cb-max-batch-tokens", "512",
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/v1/models", server, log)
        yield Served(f"http://127.0.0.1:{port}/v1", str(model))
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"transformers serve did not start:\n{log.read_text('utf-8')[-3000:]}")


def reflect(data: Path, out: Path, served: Served, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-c", "from curate.cli import main; main()",
            "reflect", str(data), "--out", str(out), "--teacher", served.model,
            "--base-url", served.url, "--max-tokens", "24", *more,
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip


def entries(run: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((run / "journal").glob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def test_reflect_with_a_real_server(tmp_path: Path, served: Served) -> None:
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    rows = [{"instruction": f"Say {n}.", "output": f"{n}, and {n * n}."} for n in range(RECORDS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = reflect(data, run, served)
    # A model of random weights writes no reply that can be parsed.
    assert done.returncode == 3, done.stderr
    assert f"reflected {RECORDS} records" in done.stdout
    journal = entries(run)
    assert len(journal) == 2 * RECORDS  # and `both` has no pair to be made from
    for entry in journal:
        assert entry["text"] and entry["finish_reason"] in ("stop", "length")
        assert entry["prompt_tokens"] > 300 and 0 < entry["completion_tokens"] <= 24
        assert entry["endpoint"] == served.url
    stage = json.loads((run / "manifest.json").read_text("utf-8"))["stages"]["reflect"]
    assert stage["tokens"] == {
        "prompt": sum(entry["prompt_tokens"] for entry in journal),
        "completion": sum(entry["completion_tokens"] for entry in journal),
    }
    assert stage["records"] == RECORDS
    before = [path.read_bytes() for path in (run / "candidates").iterdir()]
    again = reflect(data, run, served, "--concurrency", "2")
    assert again.returncode == 3 and ": 0 replies asked for" in again.stdout
    assert entries(run) == journal
    assert [path.read_bytes() for path in (run / "candidates").iterdir()] == before
