"""Our scorer beside its peers, in one run: `python benchmarks/scoring.py`.

Two tracks. *As shipped*: all four numbers of all four candidates of each record (`curate score`),
and what a decision needs (`curate select`), against the released way's 16 forwards a record. *Equal
work*: every system gets the same token sequences and target spans. Each system runs in a process of
its own, repeats are interleaved; time is processor time on a CPU and wall time on a GPU, imports
and the model's loading left out. The student's weights are random: speed does not depend on them.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1] / "data" / "demo"
SHAPES: dict[str, dict[str, int]] = {
    "15m": {"hidden_size": 256, "num_hidden_layers": 9, "num_attention_heads": 8,
            "num_key_value_heads": 8, "intermediate_size": 688, "vocab_size": 32000},
    "0.5b": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 32000},
}  # fmt: skip
LENGTH = 2048
BATCH = 16
REFERENCE = {False: "float64", True: "float32"}
"""The numbers that errors are taken against, on a CPU and on a GPU."""


def candidates(folder: Path, records: int) -> Path:
    """The demo's candidates, made from its recorded replies; repeated when more are wanted."""
    from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
    from curate.pipeline.records import Candidate
    from curate.pipeline.runs.directory import RunDir
    from curate.pipeline.stages.reflection.stage import reflect

    run = folder / "run"
    teacher = ModelConfig(engine="recorded", replies=DEMO / "replies.jsonl")
    reflect(ReflectConfig(input=InputConfig(data=str(DEMO / "records.jsonl")), teacher=teacher,
                          out=run))  # fmt: skip
    whole = [g for g in RunDir.open(run).records() if len([c for c in g if c.valid]) == 4]
    path = folder / "candidates.jsonl"
    names = ("id", "candidate", "instruction", "input", "output")

    def row(candidate: Candidate, lap: int) -> str:
        values = {name: getattr(candidate, name) for name in names}
        return json.dumps({**values, "id": f"{lap}-{candidate.id}"}) + "\n"

    with path.open("w") as file:
        for number in range(records):
            group = whole[number % len(whole)]
            file.writelines(row(c, number // len(whole)) for c in group)
    return path


def make_student(folder: Path, shape: str, dtype: str, device: str = "cpu") -> Path:
    """A Llama of random weights, made on the device, with the demo's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "student")
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=LENGTH, tie_word_embeddings=True,
                         bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    path = folder / "student"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


class Clock:
    """Processor time on a CPU, wall time on a GPU; what `loading` does is taken out of it."""

    def __init__(self, device: str) -> None:
        self.gpu = device != "cpu"
        self.loaded = 0.0
        self.begun = self._now()

    def _now(self) -> float:
        import torch

        if not self.gpu:
            return time.process_time()
        torch.cuda.synchronize()  # the first time, it makes CUDA ready
        return time.perf_counter()

    def seconds(self) -> float:
        """Since the clock was made."""
        return self._now() - self.begun - self.loaded

    @contextmanager
    def loading(self) -> Iterator[None]:
        """What happens meanwhile is not measured."""
        begun = self._now()
        yield
        self.loaded += self._now() - begun

    def outside(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls are not measured."""

        def call(*given: Any, **options: Any) -> Any:
            with self.loading():
                return load(*given, **options)

        return call


# --- the systems: each returns mean NLLs of what it scored -----------------------------------------


def ours_score(job: dict[str, Any]) -> list[float]:
    from curate.pipeline.config import InputConfig, ScoreConfig, ScoringConfig
    from curate.pipeline.stages.scoring import score

    out = Path(tempfile.mkdtemp()) / "scores.parquet"
    scoring = ScoringConfig(student=job["student"], tokenization="reference", device=job["device"],
                            dtype=job["dtype"])  # fmt: skip
    score(ScoreConfig(input=InputConfig(data=job["candidates"]), scoring=scoring, out=out))
    return []


def ours_select(job: dict[str, Any]) -> list[float]:
    from curate.pipeline.config import InputConfig, ScoringConfig, SelectConfig
    from curate.pipeline.stages.selection.stage import select

    scoring = ScoringConfig(student=job["student"], tokenization="reference", device=job["device"],
                            dtype=job["dtype"])  # fmt: skip
    out = Path(tempfile.mkdtemp()) / "run"
    select(SelectConfig(input=InputConfig(data=job["candidates"]), scoring=scoring, out=out))
    return []


def released_way(job: dict[str, Any]) -> list[float]:
    import released
    from transformers import AutoTokenizer

    from curate.pipeline.records import Candidate
    from curate.pipeline.templates import Template

    rows = [json.loads(line) for line in Path(job["candidates"]).open()]
    tokenizer = AutoTokenizer.from_pretrained(job["student"])
    released.score(
        _model(job), tokenizer, Template("vicuna"), [Candidate(**r) for r in rows], LENGTH
    )
    return []


def ours_equal(job: dict[str, Any]) -> list[float]:
    import numpy as np
    import torch

    from curate.pipeline.scoring import engine
    from curate.pipeline.scoring.forward.packing import Span
    from curate.pipeline.scoring.scorer import Scorer

    student = engine.load_student(job["student"], revision=None, device=torch.device(job["device"]),
                           dtype=job["dtype"])  # fmt: skip
    headers = [np.array(h, dtype=np.int32) for h in job["headers"]]
    scorer = Scorer(student, headers)
    spans = [Span(np.array(ids, dtype=np.int32), start) for ids, start in job["spans"]]
    values = scorer.nll(spans)
    job["reversed"] = lambda: scorer.nll(spans[::-1])[::-1].tolist()
    return [float(value) for value in values]


def alone(job: dict[str, Any]) -> list[float]:
    import torch

    model = _model(job)
    return [_full(model, torch.tensor([ids]), start)[0] for ids, start in job["spans"]]


def padded(job: dict[str, Any]) -> list[float]:
    """Hugging Face, length-sorted batches of 16, padded on the right, log_softmax over all."""
    import torch

    model = _model(job)
    order = sorted(range(len(job["spans"])), key=lambda i: -len(job["spans"][i][0]))
    values = [0.0] * len(order)
    for begin in range(0, len(order), BATCH):
        batch = order[begin : begin + BATCH]
        rows = [torch.tensor(job["spans"][i][0]) for i in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
        with torch.inference_mode():
            logits = model(ids.to(model.device), attention_mask=mask.to(model.device)).logits
            log_probs = logits.float().log_softmax(-1)
        for place, i in enumerate(batch):
            ids_i, start = job["spans"][i]
            targets = torch.tensor(ids_i[start:], device=model.device)
            rows_i = log_probs[place, start - 1 : len(ids_i) - 1]
            values[i] = -float(rows_i.gather(1, targets[:, None]).mean())
    return values


def lm_eval(job: dict[str, Any]) -> list[float]:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["student"])
    harness = HFLM(pretrained=_model(job), tokenizer=tokenizer, batch_size=BATCH,
                   softmax_dtype="float32", device=job["device"])  # fmt: skip
    requests = [
        (("", str(n)), ids[:start], ids[start:]) for n, (ids, start) in enumerate(job["spans"])
    ]
    results = harness._loglikelihood_tokens(requests, disable_tqdm=True)
    return [-float(total) / len(ids[start:])
            for (total, _), (ids, start) in zip(results, job["spans"], strict=True)]  # fmt: skip


def vllm(job: dict[str, Any]) -> list[float]:
    from vllm import LLM, SamplingParams

    with job["clock"].loading():
        engine = LLM(model=job["student"], dtype=job["dtype"], max_model_len=LENGTH)
    wanted = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, flat_logprobs=True)
    prompts = [{"prompt_token_ids": ids} for ids, _ in job["spans"]]
    return [
        -statistics.fmean(next(iter(at.values())).logprob for at in out.prompt_logprobs[start:])
        for out, (_, start) in zip(engine.generate(prompts, wanted), job["spans"], strict=True)
    ]


def sglang(job: dict[str, Any]) -> list[float]:
    from sglang import Engine

    with job["clock"].loading():
        engine = Engine(model_path=job["student"], dtype=job["dtype"], context_length=LENGTH)
    done = engine.generate(
        input_ids=[ids for ids, _ in job["spans"]],
        sampling_params={"max_new_tokens": 1, "temperature": 0},
        return_logprob=True,
        logprob_start_len=[start - 1 for _, start in job["spans"]],
    )
    return [
        -statistics.fmean(at[0] for at in out["meta_info"]["input_token_logprobs"][start - len(ids):])
        for out, (ids, start) in zip(done, job["spans"], strict=True)
    ]  # fmt: skip


def _model(job: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, job["dtype"])
    with job["clock"].loading():
        model = AutoModelForCausalLM.from_pretrained(job["student"], dtype=dtype)
        return model.to(job["device"]).eval()


def _full(model: Any, ids: Any, start: int) -> tuple[float]:
    import torch

    with torch.inference_mode():
        logits = model(ids.to(model.device)).logits[0, start - 1 : -1]
        targets = ids[0, start:].to(model.device)
        return (-float(logits.float().log_softmax(-1).gather(1, targets[:, None]).mean()),)


System = Callable[[dict[str, Any]], list[float]]
SHIPPED: dict[str, System] = {
    "released way, 16 forwards a record": released_way,
    "curate score": ours_score,
    "curate select": ours_select,
}
EQUAL: dict[str, System] = {
    "one at a time, all logits": alone,
    "Hugging Face, padded and sorted": padded,
    "lm-evaluation-harness": lm_eval,
    "vLLM prompt_logprobs": vllm,
    "SGLang logprob_start_len": sglang,
    "curate": ours_equal,
}
NEEDS = {lm_eval: "lm_eval", vllm: "vllm", sglang: "sglang"}


# --- measuring -------------------------------------------------------------------------------------


def work(name: str, job: dict[str, Any]) -> None:
    """In a process of its own: run one system, print what it took."""
    import pyarrow.parquet  # noqa: F401 - imports are not measured
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from curate.pipeline.scoring import engine
    from curate.pipeline.stages import scoring, selection  # noqa: F401

    with suppress(ImportError):
        import datasets  # noqa: F401
    torch.manual_seed(0)
    system = {**SHIPPED, **EQUAL}[name]
    clock = job["clock"] = Clock(job["device"])
    given: Any = engine
    given.load_student = clock.outside(engine.load_student)
    values = system(job)
    taken = clock.seconds()
    memory = (
        torch.cuda.max_memory_allocated()
        if clock.gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    if "reversed" in job:
        assert job["reversed"]() == values, "scores changed under another order"
    print(json.dumps({"seconds": taken, "memory": memory, "values": values}))


def peak_of(job: Path, threads: int) -> float:
    """`peak_flop` in a process of its own, with as many threads as the systems have."""
    code = f"import json, scoring; print(scoring.peak_flop(json.load(open({str(job)!r}))))"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    return float(done.stdout)


def measure(name: str, job: Path, threads: int) -> dict[str, Any] | str:
    """One system once; in words why it did not run."""
    needed = NEEDS.get({**SHIPPED, **EQUAL}[name])
    if (
        needed
        and subprocess.run(
            [sys.executable, "-c", f"import {needed}"], capture_output=True
        ).returncode
    ):
        return "not run: not installed"
    command = [sys.executable, __file__, "--worker", name, "--job", str(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return f"not run: {done.stderr.strip().splitlines()[-1][:120]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def track(systems: dict[str, System], job: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Each system `repeats` times, interleaved."""
    runs: dict[str, list[Any]] = {name: [] for name in systems}
    for _ in range(repeats):
        for name in systems:
            if not runs[name] or not isinstance(runs[name][0], str):
                runs[name].append(measure(name, job, threads))
                print(f"{name}: {_short(runs[name][-1])}", file=sys.stderr, flush=True)
    return runs


def _short(run: dict[str, Any] | str) -> str:
    return run if isinstance(run, str) else f"{run['seconds']:.1f} s"


def useful_flop(job: dict[str, Any]) -> float:
    """What equal work takes at least: 2 (body x tokens + head x targets), one header for all."""
    import numpy as np
    from transformers import AutoConfig

    from curate.pipeline.scoring.forward.packing import Span, plan

    spans = [Span(np.array(ids, dtype=np.int32), start) for ids, start in job["spans"]]
    (row,) = plan(spans, [np.array(h, dtype=np.int32) for h in job["headers"]], 1 << 60)
    c = AutoConfig.from_pretrained(job["student"])
    attention = 2 * c.hidden_size * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim
    body = c.num_hidden_layers * (attention + 3 * c.hidden_size * c.intermediate_size)
    return 2.0 * (body * len(row.ids) + c.vocab_size * c.hidden_size * len(row.targets))


def peak_flop(job: dict[str, Any]) -> float:
    """The device's own best rate in FLOP/s, by large matrix products of the same precision."""
    import torch

    from curate.pipeline.scoring.forward.products import linear

    n = 1024 if job["device"] == "cpu" else 8192
    a = torch.randn(n, n, device=job["device"], dtype=getattr(torch, job["dtype"]))
    best = float("inf")
    for _ in range(10):
        begun = time.process_time() if job["device"] == "cpu" else time.perf_counter()
        linear(a, a)[0, 0].item()
        now = time.process_time() if job["device"] == "cpu" else time.perf_counter()
        best = min(best, now - begun)
    return 2.0 * n**3 / best


def table(
    runs: dict[str, Any], base: str, exact: list[float] | None, ideal: float = 0.0
) -> list[str]:
    """A Markdown table: median and spread, ratio to the base, memory, error against float64.

    `ideal` is the seconds that the useful work takes at the device's peak; its ratio to a system's
    time is the useful MFU.
    """
    error = exact is not None
    lines = ["| system | median s (min to max) | speed-up | peak memory |" + (" useful MFU | worst error | mean error |" if error else ""),
             "|---|---|---|---|" + ("---|---|---|" if error else "")]  # fmt: skip
    base_s = statistics.median(_seconds(runs[base]) or [float("nan")])  # it may not have run
    for name, done in runs.items():
        seconds = _seconds(done)
        if not seconds:
            lines.append(f"| {name} | {done[0]} | | |" + (" | | |" if error else ""))
            continue
        ratio = base_s / statistics.median(seconds)
        line = (f"| {name} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) "
                f"| {'' if math.isnan(ratio) else f'{ratio:.2f}x'} | {done[0]['memory'] / 2**20:.0f} MiB |")  # fmt: skip
        if exact is not None:
            errors = [abs(a - b) for a, b in zip(done[0]["values"], exact, strict=False)]
            line += (f" {ideal / statistics.median(seconds):.2f} | {max(errors):.1e} "
                     f"| {statistics.fmean(errors):.1e} |")  # fmt: skip
        lines.append(line)
    return lines


def _seconds(done: list[Any]) -> list[float]:
    """Of the runs that ended."""
    return [run["seconds"] for run in done if not isinstance(run, str)]


def equal_spans(job: dict[str, Any], records: int) -> dict[str, Any]:
    """The token sequences that deciding takes: two IFDs and the r-IFDs of a branch, each once."""
    from transformers import AutoTokenizer

    from curate.pipeline.method.spans import pair
    from curate.pipeline.records import Candidate
    from curate.pipeline.scoring.forward.packing import Span, distinct
    from curate.pipeline.scoring.tokens import Tokenization
    from curate.pipeline.templates import Template

    template = Template("vicuna")
    tokens = Tokenization(
        AutoTokenizer.from_pretrained(job["student"]), template, name="exact", max_length=LENGTH
    )
    rows = [Candidate(**json.loads(line)) for line in Path(job["candidates"]).open()][: 4 * records]
    sides: dict[str, Any] = {
        "original": ("ifd", "rifd"),
        "instruction": ("ifd",),
        "response": ("rifd",),
    }
    pairs = [pair(c, side, template) for c in rows for side in sides.get(c.candidate, ())]
    spans: list[Span] = [
        s for p in tokens.span_pairs(pairs) for s in (p.conditional, p.unconditional) if s
    ]
    return {
        **job,
        "spans": [(s.ids.tolist(), s.start) for s in distinct(spans)[0]],
        "headers": [h.tolist() for h in tokens.header_ids(template.headers())],
    }


def exact_values(job: dict[str, Any], number: int) -> list[float]:
    """One at a time, all logits: what the errors are taken against; float64, on a GPU float32."""
    import torch

    clock = Clock(job["device"])
    model = _model({**job, "dtype": REFERENCE[job["device"] != "cpu"], "clock": clock})
    return [_full(model, torch.tensor([ids]), start)[0] for ids, start in job["spans"][:number]]


def hardware(device: str) -> str:
    """The processor or the GPU."""
    if device != "cpu":
        import torch

        return str(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores"


def as_shipped(path: Path, options: argparse.Namespace) -> list[str]:
    """The first track's part of the page."""
    runs = track(SHIPPED, path, options.repeats, options.threads)
    return ["## As shipped", "", *table(runs, "released way, 16 forwards a record", None)]


def equal_work(path: Path, options: argparse.Namespace) -> list[str]:
    """The second track's."""
    runs, job = track(EQUAL, path, options.repeats, options.threads), json.loads(path.read_text())
    exact, peak = exact_values(job, 100), peak_of(path, options.threads)
    rows = table(runs, "one at a time, all logits", exact, useful_flop(job) / peak)
    return [
        "", "## Equal work", "", *rows, "",
        f"Useful MFU: the FLOP that the work takes at least, over time and the peak measured in this run ({peak / 1e9:.0f} "
        f"GFLOP/s). Error: |difference| of a mean NLL (nats a token) from {REFERENCE[options.device != 'cpu']}, one at a time, over 100 sequences. Ours ran its work twice, the second time in reverse order: all scores were bitwise equal.",
    ]  # fmt: skip


def main() -> None:
    """Parse options, measure, write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--candidates", type=Path, help="in place of the demo's: JSONL, four versions a record"
    )
    parser.add_argument("--shipped", action="store_true", help="the first track alone")
    parser.add_argument("--name", default="", help="of the results file, behind the shape")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker")
    parser.add_argument("--job", type=Path)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, json.loads(options.job.read_text()))
        return
    dtype = "float32" if options.device == "cpu" else "bfloat16"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = {"student": str(make_student(folder, options.shape, dtype, options.device)), "dtype": dtype,
               "candidates": str(options.candidates or candidates(folder, options.records)), "device": options.device}  # fmt: skip
        job = equal_spans(job, options.records)
        path = folder / "job.json"
        path.write_text(json.dumps(job))
        pages = [
            as_shipped(path, options),
            *([] if options.shipped else [equal_work(path, options)]),
        ]
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("torch", "transformers", "numpy"))
    lines = [
        f"# Scoring: {options.shape} student, {options.device}",
        "",
        f"`python benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}`".rstrip(),
        "",
        f"{date.today()}; {hardware(options.device)}; {options.threads} thread(s); {dtype}; {versions}; "
        f"{options.records} records of four candidates; {len(job['spans'])} sequences of equal work.",
        "",
        *(line for page in pages for line in page),
    ]  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    kind = "cpu" if options.device == "cpu" else "gpu"
    (options.out / f"scoring-{options.shape}{options.name}-{kind}.md").write_text(
        "\n".join(lines) + "\n"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
