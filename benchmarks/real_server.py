"""`reflect` beside a bare load generator at a real inference server: `python benchmarks/real_server.py`.

vLLM serves a student-sized model of random weights on this machine; the same requests go to it from
`reflect` and from workers that do nothing but post and read, as many at once. Each measurement is a
process of its own with records of its own, so that no reply comes out of the server's prefix cache;
the two take turns. Random weights reflect nothing: every reply is as long as allowed and is counted
as truncated or unparsed, which asks two requests a record. `--python` is an interpreter that has vLLM.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from teacher import WORDS, hardware

ROOT = Path(__file__).parents[1]
MODEL, LENGTH = "teacher", 2048
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
SERVER = ["--dtype", "float32", "--max-model-len", str(LENGTH), "--max-num-seqs", "64",
          "--enforce-eager", "--gpu-memory-utilization", "0.2", "--disable-uvicorn-access-log"]  # fmt: skip
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
         "VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}  # fmt: skip


@contextmanager
def served(python: Path, folder: Path) -> Iterator[str]:
    """The URL of a vLLM server that is ready."""
    from curate.pipeline.llm.engines.local.child_process import Server

    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    os.environ.update(QUIET)

    async def started() -> Server:
        server = Server([*command, "--served-model-name", MODEL, *SERVER], name="vLLM")
        await server.ready(600)
        return server

    server = asyncio.run(started())
    try:
        yield server.url
    finally:
        asyncio.run(server.stop())


def make_model(folder: Path) -> Path:
    """The 15M model of `scoring.py`, with a chat template."""
    import scoring
    from transformers import AutoTokenizer

    path = scoring.make_student(folder, "15m", "float32")
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return path


def rows(number: int, seed: int) -> list[dict[str, str]]:
    """Short records that no other seed has."""
    draw = random.Random(seed)

    def words(k: int) -> str:
        return " ".join(draw.choices(WORDS, k=k))

    return [
        {"id": f"{seed}-{n}", "instruction": f"{words(8)} {seed}-{n}?", "output": words(30)}
        for n in range(number)
    ]


def bare(job: dict[str, Any]) -> dict[str, float]:
    """As many workers as connections, which post the bodies that reflect would and read answers."""
    import httpx2

    from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine
    from curate.pipeline.llm.protocol import Request
    from curate.pipeline.records import Candidate
    from curate.pipeline.stages.reflection.reflector import messages_for
    from curate.pipeline.templates import teacher_prompts

    prompts, url, concurrency = teacher_prompts(), job["url"], job["concurrency"]
    teacher = OpenAIEngine(MODEL, url, ceiling=concurrency)
    bodies: list[Any] = []
    for row in rows(job["records"], job["seed"]):
        pair = Candidate(candidate="original", input="", **row)
        for kind in ("instruction", "response"):
            messages = messages_for(kind, pair, prompts)
            bodies.append(teacher.body(Request(
                id=pair.id, slot="response", messages=messages, max_tokens=job["max_tokens"],
                temperature=0.0, seed=None, key="")))  # fmt: skip
    waiting, received = iter(bodies), [0]

    async def run() -> float:
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        headers = {"content-type": "application/json"}
        async with httpx2.AsyncClient(
            limits=limits, headers=headers, timeout=600, trust_env=False
        ) as http:

            async def worker() -> None:
                for body in waiting:
                    answer = await http.post(f"{url}/chat/completions", content=body)
                    received[0] += answer.raise_for_status().json()["usage"]["completion_tokens"]

            begun = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(concurrency)))
            return time.perf_counter() - begun

    return {"seconds": asyncio.run(run()), "requests": len(bodies), "tokens": received[0]}


def reflect(job: dict[str, Any]) -> dict[str, float]:
    """The whole stage: read, ask, journal, parse, write shards."""
    from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
    from curate.pipeline.stages.reflection.stage import reflect as stage

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.jsonl"
        data.write_text("".join(json.dumps(r) + "\n" for r in rows(job["records"], job["seed"])))
        config = ReflectConfig(
            input=InputConfig(data=str(data)),
            teacher=ModelConfig(model=MODEL, base_url=job["url"], concurrency=job["concurrency"],
                                  max_tokens=job["max_tokens"]),
            out=Path(folder) / "run",
        )  # fmt: skip
        begun = time.perf_counter()
        result = stage(config)
        seconds = time.perf_counter() - begun
        replies = [json.loads(line) for path in (Path(folder) / "run" / "journal").glob("*.jsonl")
                   for line in path.open()]  # fmt: skip
    tokens = sum(reply["completion_tokens"] for reply in replies)
    return {"seconds": seconds, "requests": result.asked, "tokens": tokens}


WORK = {"bare": bare, "reflect": reflect}


def measure(name: str, **job: Any) -> dict[str, float]:
    """One kind of work in a fresh process."""
    command = [sys.executable, __file__, "--work", name, "--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert result["requests"] == 2 * job["records"], result
    shown = ", ".join(f"{value:.1f} {key}" for key, value in result.items())
    print(f"{name}: {shown}", file=sys.stderr, flush=True)
    return result


def spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-vllm" / "bin" / "python")
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--work", choices=WORK)
    parser.add_argument("--job", type=json.loads)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(WORK[options.work](options.job)))
        return
    ask = {"concurrency": options.concurrency, "max_tokens": options.max_tokens}
    rates: dict[str, list[float]] = {name: [] for name in WORK}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        with served(options.python, model) as url:
            measure("bare", url=url, records=options.concurrency, seed=0, **ask)  # warm-up
            for turn in range(options.repeats):
                order = list(WORK) if turn % 2 == 0 else list(WORK)[::-1]
                for place, name in enumerate(order):
                    done = measure(
                        name, url=url, records=options.records, seed=1 + 2 * turn + place, **ask
                    )
                    rates[name].append(done["tokens"] / done["seconds"])
    ratios = [100 * a / b for a, b in zip(rates["reflect"], rates["bare"], strict=True)]
    version = subprocess.run([str(options.python), "-c", "import vllm; print(vllm.__version__)"],
                             capture_output=True, text=True, check=True).stdout.split()[-1]  # fmt: skip
    lines = [
        "# `reflect` beside a bare load generator, at a real server",
        "",
        f"`python benchmarks/real_server.py {' '.join(sys.argv[1:])}".rstrip() + "`",
        "",
        f"{date.today()}; {hardware()}, server and client on the same machine; vLLM {version} for CPUs "
        f"(15M parameters, random weights, float32); Python {platform.python_version()}, "
        f"httpx2 {metadata.version('httpx2')}; load average {os.getloadavg()[2]:.1f} over the last 15 minutes.",
        "",
        f"{2 * options.records} requests a run, {options.concurrency} at once, up to {options.max_tokens} tokens "
        f"a reply; {options.repeats} runs each, taking turns; median (min to max). Target: at least 95 %.",
        "",
        "| client | tokens a second |",
        "|---|---|",
        f"| bare load generator, same HTTP client | {spread(rates['bare'], 0)} |",
        f"| `reflect`, from its first line to its last | {spread(rates['reflect'], 0)} |",
        "",
        f"Ratio, run beside run: {spread(ratios, 1)} %.",
    ]  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "real-server-cpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
