"""The teacher's client: CPU a request, throughput beside a bare load generator, memory of a long run.

The server is a process of its own that answers at once, or after a latency drawn from a log-normal
distribution (median 0.9 s, mean 1 s). Each measurement is a process of its own, with a fresh server.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

PARTS = ("cpu", "throughput", "memory")
CONCURRENCY = 64
MEAN, SPREAD = 1.0, 0.45  # of the latency: seconds, and the standard deviation of its logarithm
WORDS = (
    "count",
    "list",
    "name",
    "explain",
    "compare",
    "describe",
    "small",
    "large",
    "river",
    "city",
    "metal",
)
REPLY = (
    "The instruction is plain and could ask for more. "
    "[New Instruction] Compare three of them and say which is larger than 0000000000. [End]\n"
    "[New Answer] Of the three the second is the largest, by far. [End]\n"
    "[Better Answer] They are, in order of size: the second, the first and the third. [End]"
)

# --- the server ------------------------------------------------------------------------------------


async def serve(latency: bool) -> None:
    """Answer chat completions until killed; prints the port."""
    draw, numbers = random.Random(0), itertools.count()
    message = {"role": "assistant", "content": REPLY}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 300, "completion_tokens": 60}}).encode()  # fmt: skip
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    answer = head.encode() + body

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = request.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                if latency:
                    await asyncio.sleep(MEAN * math.exp(draw.gauss(-(SPREAD**2) / 2, SPREAD)))
                writer.write(answer.replace(b"0" * 10, b"%010d" % next(numbers)))  # no two alike
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server(latency: bool) -> Iterator[str]:
    """The server's URL."""
    command = [sys.executable, __file__, "--work", "serve", "--job", json.dumps(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.kill()


# --- the work, each in a process of its own ----------------------------------------------------------


def write_records(path: Path, number: int) -> Path:
    """Short records, all different."""
    draw = random.Random(1)
    with path.open("w") as file:
        for n in range(number):
            instruction = f"{' '.join(draw.choices(WORDS, k=8))} number {n}?"
            row = {
                "id": f"r{n}",
                "instruction": instruction,
                "output": " ".join(draw.choices(WORDS, k=15)),
            }
            file.write(json.dumps(row) + "\n")
    return path


def made_requests(number: int) -> list[Any]:
    """Requests as reflect makes them."""
    from curate.pipeline.llm.protocol import Request
    from curate.pipeline.records import Candidate
    from curate.pipeline.stages.reflection.reflector import messages_for
    from curate.pipeline.templates import teacher_prompts

    prompts, draw = teacher_prompts(), random.Random(1)
    found = []
    for n in range(number):
        pair = Candidate(id=str(n), candidate="original", instruction=" ".join(draw.choices(WORDS, k=10)),
                         input="", output=" ".join(draw.choices(WORDS, k=15)))  # fmt: skip
        messages = messages_for("response", pair, prompts)
        found.append(Request(id=str(n), slot="response", messages=messages, max_tokens=2048,
                             temperature=0.0, seed=None, key=f"{n:032x}"))  # fmt: skip
    return found


def client(url: str, number: int) -> dict[str, float]:
    """Our client alone: nothing is read, parsed or journaled."""
    from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine

    requests = iter(made_requests(number))

    async def run() -> float:
        teacher = OpenAIEngine("m", url, ceiling=CONCURRENCY)

        async def worker() -> None:
            for request in requests:
                await teacher.ask(request)

        begun = time.process_time()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        taken = time.process_time() - begun
        await teacher.close()
        return taken

    return {"cpu": asyncio.run(run())}


def bare(url: str, number: int) -> dict[str, float]:
    """The same HTTP client, one pool, as many workers as connections; answers are not looked at."""
    import httpx2

    from curate.pipeline.llm.engines.servers.openai_server import OpenAIEngine

    teacher = OpenAIEngine("m", url, ceiling=CONCURRENCY)
    bodies = iter([teacher.body(request) for request in made_requests(number)])

    async def run() -> tuple[float, float]:
        limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        headers = {"content-type": "application/json"}
        async with httpx2.AsyncClient(
            limits=limits, headers=headers, timeout=600, trust_env=False
        ) as http:

            async def worker() -> None:
                for body in bodies:
                    response = await http.post(f"{url}/chat/completions", content=body)
                    assert response.status_code == 200

            begun, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
            return time.perf_counter() - begun, time.process_time() - cpu

    seconds, cpu = asyncio.run(run())
    return {"seconds": seconds, "cpu": cpu}


def reflect(url: str, records: int) -> dict[str, float]:
    """The whole stage: read, ask, journal, parse, write shards; three requests a record."""
    from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
    from curate.pipeline.stages.reflection.stage import reflect as stage

    with tempfile.TemporaryDirectory() as folder:
        data = write_records(Path(folder) / "data.jsonl", records)
        config = ReflectConfig(
            input=InputConfig(data=str(data)),
            teacher=ModelConfig(model="m", base_url=url, concurrency=CONCURRENCY),
            out=Path(folder) / "run",
        )
        begun, cpu = time.perf_counter(), time.process_time()
        result = stage(config)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert result.asked == 3 * records and result.statuses == {"ok": 3 * records}, result
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu": cpu, "peak": peak / 1024}


WORK: dict[str, Callable[[str, int], dict[str, float]]] = {
    "client": client, "bare": bare, "reflect": reflect,
}  # fmt: skip


def measure(name: str, number: int, *, latency: bool) -> dict[str, float]:
    """One kind of work in a fresh process, at a fresh server."""
    with server(latency) as url:
        job = json.dumps({"url": url, "number": number})
        command = [sys.executable, __file__, "--work", name, "--job", job]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    shown = ", ".join(f"{key} {value:.2f}" for key, value in result.items())
    print(f"{name} {number}: {shown}", file=sys.stderr, flush=True)
    return result


# --- the report --------------------------------------------------------------------------------------


def spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def cpu_lines(requests: int, repeats: int) -> list[str]:
    alone = [
        1000 * measure("client", requests, latency=False)["cpu"] / requests for _ in range(repeats)
    ]
    whole = [1000 * measure("reflect", requests // 3, latency=False)["cpu"] / (requests // 3 * 3)
             for _ in range(repeats)]  # fmt: skip
    return [
        "## CPU a request",
        "",
        f"{requests} requests, {CONCURRENCY} at once, at a server that answers at once; processor time of the "
        f"client's process, median of {repeats} (min to max). Target: at most 1.5 ms for the client.",
        "",
        f"- client (`OpenAIEngine.ask`): {spread(alone, 'ms')}",
        f"- all of `reflect` (reading, client, journal, parsing, shards): {spread(whole, 'ms')}",
    ]


def throughput_lines(requests: int, repeats: int) -> list[str]:
    rates: dict[str, list[float]] = {"bare": [], "reflect": []}
    for _ in range(repeats):
        rates["bare"].append(requests / measure("bare", requests, latency=True)["seconds"])
        rates["reflect"].append(
            requests / measure("reflect", requests // 3, latency=True)["seconds"]
        )
    ratios = [ours / base for ours, base in zip(rates["reflect"], rates["bare"], strict=True)]
    return [
        "## Throughput",
        "",
        f"{requests} requests, {CONCURRENCY} at once, latency {MEAN:g} s in the mean (log-normal, sigma {SPREAD}); "
        f"median of {repeats} (min to max). Target: at least 95 %.",
        "",
        f"- bare load generator, same HTTP client: {spread(rates['bare'], 'requests/s')}",
        f"- `reflect`, from its first line to its last: {spread(rates['reflect'], 'requests/s')}",
        f"- ratio: {100 * statistics.median(ratios):.1f} % "
        f"({100 * min(ratios):.1f} to {100 * max(ratios):.1f})",
    ]


def memory_lines(small: int, large: int) -> list[str]:
    peaks = [measure("reflect", number, latency=False)["peak"] for number in (small, large)]
    return [
        "## Memory",
        "",
        "Peak resident memory of `reflect`, short records. Target: at most 50 MiB more for ten times the records.",
        "",
        f"- {small} records: {peaks[0]:.0f} MiB",
        f"- {large} records: {peaks[1]:.0f} MiB, {peaks[1] - peaks[0]:.0f} MiB more",
    ]


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--records", type=int, nargs=2, default=(10_000, 100_000))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--work")
    parser.add_argument("--job", type=json.loads)
    options = parser.parse_args()
    if options.work == "serve":
        asyncio.run(serve(options.job))
        return
    if options.work:
        print(json.dumps(WORK[options.work](options.job["url"], options.job["number"])))
        return
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("httpx2", "pyarrow"))
    lines = [
        "# The teacher's client, CPU",
        "",
        f"`python benchmarks/teacher.py {' '.join(sys.argv[1:])}".rstrip() + "`",
        "",
        f"{date.today()}; {hardware()}, server and client on the same machine; "
        f"Python {platform.python_version()}, {versions}.",
    ]
    if "cpu" in options.parts:
        lines += ["", *cpu_lines(options.requests, options.repeats)]
    if "throughput" in options.parts:
        lines += ["", *throughput_lines(options.requests, options.repeats)]
    if "memory" in options.parts:
        lines += ["", *memory_lines(*options.records)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "teacher-cpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
