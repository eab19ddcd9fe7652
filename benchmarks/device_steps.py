"""The nine steps of `device_check.py`."""

import argparse
import gc
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from device_check import ROOT, Notes
from scoring import SHAPES
from torch.nn import functional

from curate.pipeline.scoring.forward import attention
from curate.pipeline.scoring.forward.head import Head
from curate.pipeline.scoring.forward.hidden_states import filled
from curate.pipeline.scoring.forward.packing import Ids, Span, plan
from curate.pipeline.scoring.model import Student, student_of
from curate.pipeline.scoring.scorer import Scorer

TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": 515}  # fmt: skip
SEQUENCES = 14
"""What scoring everything of a record takes; the released way forwards 16."""
HEADS = ((896, 151936), (2048, 128256), (4096, 32000), (4096, 151936), (2304, 256000))


class Bench:
    """The device, its clock, and random models and records."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tiny, self.device = options.tiny, torch.device(options.device)
        self.cuda = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if self.cuda else torch.float32
        self.budget = 512 if self.tiny else 32768
        if not self.cuda:
            torch.set_num_threads(1)

    def left(self) -> float:
        """Seconds until this step should end."""
        return float(os.environ.get("DEVICE_CHECK_ENDS", "inf")) - time.time()

    def clock(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds until the device is done, and the result."""
        self.wait()
        begun = time.perf_counter()
        made = work()
        self.wait()
        return time.perf_counter() - begun, made

    def wait(self) -> None:
        """Return when the device is done."""
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back what nobody holds, and forget the peak."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def model(self, config: Any, dtype: torch.dtype | None = None) -> Any:
        """Random weights, so large that attention is sharp and logits are a few units wide."""
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        with self.device:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype or self.dtype).eval()
        head = model.get_output_embeddings().weight
        with torch.no_grad():
            head.mul_(3.0 / float(head[:1024].float().std() * head.shape[1] ** 0.5))
            for name, weight in model.named_parameters():
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    weight.mul_(3)
        return model

    def records(
        self, number: int, vocabulary: int, *, mean: int = 142, seed: int = 0
    ) -> tuple[list[Span], list[Ids]]:
        """The sequences that `curate score` takes of records with four candidates; the headers."""
        draw = np.random.default_rng(seed)
        mean = 40 if self.tiny else mean

        def tokens(length: int) -> Ids:
            return draw.integers(3, min(vocabulary, 32000), length, dtype=np.int32)

        def text(mean: int) -> Ids:
            length = draw.lognormal(np.log(mean) - 0.25, 0.7)
            return tokens(int(np.clip(length, 3, 90 if self.tiny else 1500)))

        bos = np.array([1], dtype=np.int32)
        headers = [np.concatenate((bos, tokens(n))) for n in ((8, 11) if self.tiny else (38, 54))]
        tails = tokens(5), tokens(5)
        spans = []

        def add(target: Ids, *prefix: Ids) -> None:
            start = sum(map(len, prefix))
            spans.append(Span(np.concatenate((*prefix, target)), start))

        for _ in range(number):
            questions, answers = [text(17), text(25)], [text(mean) for _ in range(4)]
            for place, y in enumerate(answers):
                x = questions[place % 2]
                add(y, headers[0], x, tails[0])
                add(y, bos)
                add(x, headers[1], y, tails[1])
            for x in questions:
                add(x, bos)
        return spans, headers


@contextmanager
def heard() -> Iterator[list[str]]:
    """What the package logs meanwhile."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("curate").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("curate").removeHandler(handler)


@contextmanager
def patched(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Other attributes for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, value in places:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextmanager
def without_split_k() -> Iterator[None]:
    """Matrix products that are not split along what they sum over."""
    flags: Any = torch.backends.cuda.matmul
    before = flags.allow_bf16_reduced_precision_reduction
    flags.allow_bf16_reduced_precision_reduction = (False, False)
    try:
        yield
    finally:
        flags.allow_bf16_reduced_precision_reduction = before


def different(a: Any, b: Any) -> str:
    """Empty where two arrays are bitwise equal (NaN equals NaN)."""
    a, b = np.asarray(a), np.asarray(b)
    differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not differ.any():
        return ""
    return f"{differ.sum()} of {differ.size} differ, by up to {np.nanmax(np.abs(a - b)):.1e}"


def in_two_threads(scorer: Scorer, spans: Sequence[Span]) -> Any:
    """As two shards are at work at once."""
    half = len(spans) // 2
    with ThreadPoolExecutor(2) as pool:
        return np.concatenate(list(pool.map(scorer.nll, (spans[:half], spans[half:]))))


# --- what must hold ------------------------------------------------------------------------------


def env(bench: Bench, note: Notes) -> None:
    """Versions, the card, and its own peaks."""
    found = []
    for name in ("torch", "transformers", "triton", "tokenizers", "numpy", "pyarrow", "datasets"):
        with note.part(name):
            found.append(f"{name} {metadata.version(name)}")
    note("versions", ", ".join(found))
    size = 8192 if bench.cuda else 512
    if bench.cuda:
        card = torch.cuda.get_device_properties(0)
        note("card", f"{card.name}, {card.total_memory >> 30} GiB, capability {card.major}.{card.minor}, "
             f"CUDA {torch.version.cuda}, driver memory free {torch.cuda.mem_get_info()[0] >> 30} GiB")  # fmt: skip
        note("varlen_attn knows", ", ".join(sorted(attention._varlen_arguments())))
    for dtype in dict.fromkeys((bench.dtype, torch.float32)):
        a, b = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
        times = [bench.clock(lambda a=a, b=b: a @ b)[0] for _ in range(12)][3:]
        flops = 2 * size**3 / statistics.median(times)
        note(f"peak in {dtype}", f"{flops / 1e9:.0f} GFLOP/s", flops=flops)


def tests(bench: Bench, note: Notes) -> None:
    """The tests that need a GPU, and those of the kernels."""
    groups = {
        "scoring": [
            f"tests/scoring/{n}.py"
            for n in ("test_gpu", "forward/test_attention", "forward/test_head")
        ]
    }
    if bench.cuda:
        groups["Triton head"] = ["benchmarks/test_head_triton.py"]
    for name, files in groups.items():
        command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider",
                   "-o", "addopts=", "-o", "filterwarnings=default", "--tb=line", *files]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        note(
            f"tests: {name}", " / ".join([*failed[:5], *lines[-1:]])[:600], ok=done.returncode == 0
        )


def kernels(bench: Bench, note: Notes) -> None:
    """Attention beside float32 arithmetic; do a matrix product's rows depend on their neighbours?"""
    spans, headers = bench.records(8 if bench.tiny else 20, 32000)
    pack = next(plan(spans, headers, bench.budget if bench.tiny else 4096))
    segments = filled(pack, -(-len(pack.ids) // 512) * 512)
    shapes = ((14, 2, 64, None), (32, 32, 128, None), (8, 4, 128, 48), (8, 8, 256, None))
    for heads, groups, width, window in shapes:
        name = f"attention, {heads}/{groups} heads of {width}, window {window}"
        with note.part(name, must=True):
            note(name, *attention_error(bench, segments, (heads, groups, width), window))
    if not bench.cuda:
        return
    with note.part("grouped keys as they are beside repeated ones"):
        note("grouped keys as they are beside repeated ones", grouped_bits(bench, segments))
    for rows, inner, columns, out in (
        (32768, 896, 4864, None), (32768, 4864, 896, None), (32768, 4096, 11008, None),
        (32768, 11008, 4096, None), (2048, 896, 151936, torch.float32),
    ):  # fmt: skip
        name = f"product of {rows} rows, {inner} x {columns}"
        with note.part(name, must=True):
            product(bench, note, name, (rows, inner, columns), out)


def attention_error(
    bench: Bench, segments: Any, shape: tuple[int, int, int], window: int | None
) -> tuple[str, bool]:
    """The worst error of a row's attention, and whether it is rounding."""
    torch.manual_seed(1)
    heads, groups, width = shape
    length = segments[-1].end
    q, k, v = (torch.randn(1, n, length, width, device=bench.device, dtype=bench.dtype)
               for n in (heads, groups, groups))  # fmt: skip
    layout = attention.make_layout(segments, bench.device, bench.dtype)

    def attend(layout: attention.Layout, *given: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), attention.layout_of(layout):
            return attention.packed_attention(
                torch.nn.Identity(), *given, scaling=width**-0.5, sliding_window=window
            )[0]

    found = attend(layout, q, k, v)
    exact = attend(attention.Layout(segments), *(t.double() for t in (q, k, v)))
    error = float((found.double() - exact).abs().max())
    fast = "the packed kernel" if layout.key_rows is not None else "a loop over segments"
    return f"{error:.1e}, by {fast}", error < (0.03 if bench.cuda else 1e-4)


def grouped_bits(bench: Bench, segments: Any) -> str:
    layout = attention.make_layout(segments, bench.device, bench.dtype)
    q, k, v = (torch.randn(1, n, segments[-1].end, 64, device=bench.device, dtype=bench.dtype)
               for n in (14, 2, 2))  # fmt: skip
    bare = attention._varlen(q, k, v, layout, 0.125, None)
    wide = (t.repeat_interleave(7, dim=1) for t in (k, v))
    same = torch.equal(bare, attention._varlen(q, *wide, layout, 0.125, None))
    return "the same bits" if same else "other bits"


def product(bench: Bench, note: Notes, name: str, shape: tuple[int, int, int], out: Any) -> None:
    """A row's bits wherever it lies, and by how many rows there are; with and without split-K."""
    rows, inner, columns = shape
    x, w = (torch.randn(n, inner, device=bench.device, dtype=bench.dtype) for n in (rows, columns))
    how = {} if out is None else {"out_dtype": out}
    order = torch.randperm(rows, device=bench.device)
    whole = torch.mm(x, w.T, **how)
    same = torch.equal(torch.mm(x[order], w.T, **how), whole[order])
    note(f"{name}: a row's bits, wherever it lies", "the same" if same else "others", ok=same)

    def other() -> tuple[list[int], float]:
        full = torch.mm(x, w.T, **how)
        numbers = [n for n in (64, 1024, 2048, 8192, 16384) if n < rows]
        found = [n for n in numbers if not torch.equal(torch.mm(x[:n], w.T, **how), full[:n])]
        times = [bench.clock(lambda: torch.mm(x, w.T, **how))[0] for _ in range(5)]
        return found, statistics.median(times) * 1e3

    with_it = other()
    with without_split_k():
        without = other()
    note(f"{name}: numbers of rows with other bits; ms",
         f"{with_it[0] or 'none'}, {with_it[1]:.2f}; without split-K {without[0] or 'none'}, {without[1]:.2f}")  # fmt: skip


def cli(bench: Bench, note: Notes) -> None:
    """`curate score`: beside the CPU in float32, in the card's own dtype, in two processes."""
    import pyarrow.parquet as parquet

    folder = Path(tempfile.mkdtemp())
    rows = [json.loads(line) for line in (ROOT / "data/demo/records.jsonl").open()]
    rows = [row for row in rows if row.get("instruction") and row.get("output")]
    laps = range(1 if bench.tiny else 8)
    data = folder / "records.jsonl"
    with data.open("w") as file:
        for lap in laps:
            for number, row in enumerate(rows[:24] if bench.tiny else rows):
                changed = {
                    **row,
                    "id": f"{lap}-{number}",
                    "instruction": f"{lap}: {row['instruction']}",
                }
                file.write(json.dumps(changed) + "\n")

    def scored(name: str, *options: str) -> Any:
        out = folder / f"{name}.parquet"
        command = [sys.executable, "-m", "curate.cli", "score", str(data), "--out", str(out),
                   "--student", str(ROOT / "data/demo/student"), *options]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-300:])
        table = parquet.read_table(out)
        columns = [c for c in table.column_names if c.startswith("nll_")]
        return np.array([table.column(c).to_pylist() for c in columns], dtype=float)

    device, several = ("cuda", "cuda:0,0") if bench.cuda else ("cpu", "cpu,cpu")
    with note.part("curate score", must=True):
        few = ("--dtype", "float32", "--limit", "150")
        exact = scored("cpu", "--device", "cpu", *few)
        full = scored("full", "--device", device, *few)
        worst = float(np.nanmax(np.abs(full - exact)))
        both = bool((np.isnan(full) == np.isnan(exact)).all())
        note("float32 beside the CPU", f"worst {worst:.1e} nats", ok=worst < 1e-3 and both)
        one = scored("one", "--device", device)
        error = np.abs(one[:, : exact.shape[1]] - exact)
        note("dtype auto beside float32", f"mean {np.nanmean(error):.1e}, worst {np.nanmax(error):.1e} nats",
             ok=bool(np.nanmax(error) < 0.3))  # fmt: skip
        two = different(one, scored("two", "--device", several))
        note("two processes beside one", two or "the same bits", ok=not two)


def oom(bench: Bench, note: Notes) -> None:
    """Memory that holds no row of the default budget: rows are halved, no score is lost."""
    if not bench.cuda:
        note("out of memory", "only on a GPU")
        return
    student = student_of(bench.model(config_of("0.5b", tiny=bench.tiny)), bench.dtype)
    spans, headers = bench.records(24, 32000)
    bench.free()
    held = torch.cuda.memory_allocated()
    with closing(Scorer(student, headers, batch_tokens=bench.budget)) as scorer:
        scorer.nll(spans)
    peak = torch.cuda.max_memory_allocated()
    bench.free()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 0.55 * (peak - held)) / total)
    with note.part("out of memory", must=True), closing(Scorer(student, headers)) as scorer:
        lost = int(np.isnan(scorer.nll(spans)).sum())
        note("scores lost", lost, ok=lost == 0)
        note("rows afterwards", f"{scorer.budget} tokens", ok=scorer.halved)
    with (
        note.part("out of memory, one sequence", must=True),
        closing(Scorer(student, headers)) as scorer,
    ):
        kept = bool(np.isfinite(scorer.nll(spans[:1])).all())
        note("one short sequence", "scored" if kept else "lost", ok=kept)


def families(bench: Bench, note: Notes) -> None:
    """Which models are packed here, and whether neighbours change a bit."""
    from families import FAMILIES

    chosen = ("SmolLM 135M", "GPT-2") if bench.tiny else tuple(FAMILIES)
    for name in chosen:
        for dtype in dict.fromkeys((bench.dtype, torch.float32)):
            label = f"{name}, {dtype}".replace("torch.", "")
            if bench.left() < 6:
                note(label, "no time is left")
                continue
            with note.part(label):
                note(label, *family(bench, FAMILIES[name](), dtype))
            bench.free()


def family(bench: Bench, config: Any, dtype: torch.dtype) -> tuple[str, bool | None]:
    """How a model is scored; False where a sequence's bits depend on its company."""
    with heard() as said:
        student = student_of(bench.model(config, dtype), dtype, max_length=2048)
    if not student.packed:
        return f"one at a time: {' '.join(said)[:200]}", None
    spans, headers = bench.records(2, config.vocab_size)
    spans = [span for span in spans if len(span.ids) < 300][:12]
    with closing(Scorer(student, headers, batch_tokens=1024)) as scorer:
        whole = scorer.nll(spans)
        other = different(whole, scorer.nll(spans[::-1])[::-1])
        alone = different(whole[:3], np.concatenate([scorer.nll([span]) for span in spans[:3]]))
    if student.noise:
        return f"packed; neighbours change {student.noise:.0e} nats", None
    return f"packed; {other or alone or 'the same bits in any company'}", not (other or alone)


# --- what it costs -------------------------------------------------------------------------------


def config_of(shape: str, *, tiny: bool) -> Any:
    from transformers import LlamaConfig

    sizes = TINY if tiny else SHAPES[shape]
    return LlamaConfig(**sizes, max_position_embeddings=4096, tie_word_embeddings=shape != "7b",
                       bos_token_id=1, eos_token_id=2)  # fmt: skip


def small(bench: Bench, note: Notes) -> None:
    """A model of 0.5 billion parameters."""
    shape(bench, note, "0.5b", 320)


def large(bench: Bench, note: Notes) -> None:
    """One of 7 billion."""
    shape(bench, note, "7b", 64)


def shape(bench: Bench, note: Notes, name: str, number: int) -> None:
    """Bits, rounding, speed beside the peers, and what single changes bring."""
    model = bench.model(config_of(name, tiny=bench.tiny))
    own = model.config._attn_implementation
    spans, headers = bench.records(3 if bench.tiny else number, model.config.vocab_size)
    with heard() as said:
        student = student_of(model, bench.dtype)
    packed = student.packed
    note("packed", "yes" if packed else " ".join(said)[:250], ok=packed)
    if not packed:
        return
    with closing(Scorer(student, headers, batch_tokens=bench.budget)) as scorer:
        some = spans[: SEQUENCES * (2 if bench.tiny else 16)]
        with note.part("bits", must=True):
            bits(bench, note, scorer, some)
        with note.part("rounding"):
            noise = scorer.rounding_noise(some[: SEQUENCES * 2])
            note("rounding of a mean NLL", f"{noise:.1e} nats (standard deviation)")
        with note.part("speed", must=True):
            speed(bench, note, scorer, spans, own)
        with note.part("profile"):
            profile(bench, note, lambda: scorer.nll(some))
        changes(bench, note, scorer, spans[: len(spans) // 3])


def bits(bench: Bench, note: Notes, scorer: Scorer, spans: list[Span]) -> None:
    """Is a score a function of its sequence alone?"""
    whole = scorer.nll(spans)
    few = list(range(0, len(spans), max(len(spans) // 8, 1)))
    ways: dict[str, Callable[[], str]] = {
        "a second time": lambda: different(whole, scorer.nll(spans)),
        "in reverse order": lambda: different(whole, scorer.nll(spans[::-1])[::-1]),
        "from two threads": lambda: different(whole, in_two_threads(scorer, spans)),
        "alone in a row": lambda: different(
            whole[few], np.concatenate([scorer.nll([spans[i]]) for i in few])
        ),
    }
    for name, way in ways.items():
        found = way()
        note(f"bits {name}", found or "the same", ok=not found)
    with closing(Scorer(scorer.student, scorer.headers, batch_tokens=bench.budget // 2)) as half:
        note("bits with half the budget", different(whole, half.nll(spans)) or "the same")
        if bench.cuda:
            rows = (
                Scorer,
                "_rows",
                lambda self, chosen, budget: plan(chosen, self.headers, budget),
            )
            with without_split_k():
                fixed = scorer.nll(spans)
                with patched(rows):
                    loose = different(fixed, scorer.nll(spans)) or different(fixed, half.nll(spans))
            note("bits without split-K, rows not filled, any budget", loose or "the same")


def speed(bench: Bench, note: Notes, scorer: Scorer, spans: list[Span], own: str) -> None:
    """Milliseconds a sequence, interleaved, medians; the peers get a part of the same work."""
    model = scorer.student.model
    ordered = sorted(spans, key=lambda span: -len(span.ids))
    fourth, few = ordered[:: 1 if bench.tiny else 4], spans[:: max(len(spans) // 40, 1)]
    ways: dict[str, tuple[list[Span], Callable[[], Any]]] = {
        "curate, one thread": (spans, lambda: scorer.nll(spans)),
        "curate, two threads": (spans, lambda: in_two_threads(scorer, spans)),
        "padded and sorted": (
            fourth,
            lambda: with_own(model, own, lambda: padded(bench, model, fourth)),
        ),
        "one at a time": (few, lambda: with_own(model, own, lambda: one_by_one(bench, model, few))),
    }
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    times: dict[str, list[float]] = {name: [] for name in ways}
    values, memory = {}, {}
    for lap in range(1 if bench.tiny else 4):  # the first one warms up
        for name, (work, way) in ways.items():
            if lap > 1 and bench.left() < 60:
                continue
            bench.free()
            seconds, values[name] = bench.clock(way)
            memory[name] = torch.cuda.max_memory_allocated() - weights if bench.cuda else 0
            if lap or bench.tiny:
                times[name].append(seconds / len(work) * 1e3)
    ms = {name: statistics.median(found) for name, found in times.items()}
    peak = next((row["flops"] for row in note.read() if str(bench.dtype) in row["what"]), None)
    best = min(ms["curate, one thread"], ms["curate, two threads"])
    for name in ways:
        text = f"{ms[name]:.2f} ms a sequence ({min(times[name]):.2f} to {max(times[name]):.2f}), {memory[name] >> 20} MiB above the weights"
        if name.startswith("curate") and peak:
            text += f", useful MFU {useful(model, scorer, spans) / (ms[name] / 1e3 * len(spans)) / peak:.2f}"
        note(name, text, ms=ms[name])
    note("curate beside padded and sorted, equal work", f"{ms['padded and sorted'] / best:.2f}x")
    note("curate beside one at a time, equal work", f"{ms['one at a time'] / best:.1f}x")
    note("curate score beside the released way's 16 forwards, same precision",
         f"{16 * ms['one at a time'] / (SEQUENCES * best):.1f}x")  # fmt: skip
    mine = dict(zip(map(id, spans), values["curate, one thread"], strict=True))
    off = np.abs(np.array([mine[id(span)] for span in few]) - values["one at a time"])
    note("curate beside one at a time", f"mean {off.mean():.1e}, worst {off.max():.1e} nats",
         ok=bool(off.max() < (0.3 if bench.cuda else 1e-4)))  # fmt: skip


def useful(model: Any, scorer: Scorer, spans: list[Span]) -> float:
    """FLOP that the work takes at least: each shared prefix once, the head for targets alone."""
    (row,) = plan(spans, scorer.headers, 1 << 60)
    head = model.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for p in model.base_model.layers.parameters() if p.ndim == 2)
    return 2.0 * (layers * len(row.ids) + head * len(row.targets))


def with_own(model: Any, own: str, work: Callable[[], Any]) -> Any:
    """With the model's own attention function."""
    model.set_attn_implementation(own)
    try:
        return work()
    finally:
        model.set_attn_implementation(attention.NAME)


@torch.inference_mode()
def padded(bench: Bench, model: Any, spans: list[Span], most: int = 16384) -> Any:
    """Batches of at most so many tokens, longest first, no waiting in between."""
    pad, found, begin = torch.nn.utils.rnn.pad_sequence, [], 0
    while begin < len(spans):
        batch = spans[begin : begin + max(1, most // len(spans[begin].ids))]
        begin += len(batch)
        ids = pad([torch.from_numpy(s.ids).long() for s in batch], batch_first=True)
        mask = pad([torch.ones(len(s.ids), dtype=torch.long) for s in batch], batch_first=True)
        scored = mask.bool()
        for place, span in enumerate(batch):
            scored[place, : span.start] = False
        ids, mask, scored = (t.to(bench.device) for t in (ids, mask, scored[:, 1:]))
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        chosen = logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double()
        found.append(-(chosen * scored).sum(1) / scored.sum(1))
    return torch.cat(found).cpu().numpy()


@torch.inference_mode()
def one_by_one(bench: Bench, model: Any, spans: list[Span]) -> Any:
    found = []
    for span in spans:
        ids = torch.from_numpy(span.ids).long().to(bench.device)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, span.start - 1 : -1]
        found.append(-float(functional.log_softmax(logits.float(), -1)
                            .gather(1, ids[span.start :, None]).mean()))  # fmt: skip
    return np.array(found)


KINDS = (("attention", "flash|fmha|attention"), ("products", "gemm|nvjet|cutlass|xmma|cublas|::(add)?mm"),
         ("reductions", "reduce|softmax|::(sum|mean|amax)"), ("copies", "copy|memcpy|memset|index|gather|cat|embedding"),
         ("elementwise", ""))  # fmt: skip


def profile(bench: Bench, note: Notes, work: Callable[[], Any]) -> None:
    """Where the device's time goes, and how much of the time it is busy."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    if not bench.cuda:
        note("profile", "only on a GPU")
        return
    with profiler(activities=[ProfilerActivity.CUDA]) as run:
        wall, _ = bench.clock(work)
    spent: dict[str, float] = {}
    for event in run.key_averages():
        name = next(name for name, words in KINDS if re.search(words, event.key, re.I))
        spent[name] = spent.get(name, 0.0) + event.self_device_time_total / 1e6
    total = sum(spent.values()) or 1e-9
    shares = ", ".join(
        f"{k} {v / total:.0%}" for k, v in sorted(spent.items(), key=lambda x: -x[1])
    )
    note("profile", f"{shares}; busy {total / wall:.0%} of the time")


def changes(bench: Bench, note: Notes, scorer: Scorer, spans: list[Span]) -> None:
    """Candidates, one at a time, beside nothing changed: speed, scores, bits in reverse order."""
    before = scorer.nll(spans)
    for name, change in candidates(scorer.student).items():
        if (not bench.cuda and name != "torch's rms_norm") or bench.left() < 10:
            note(f"change: {name}", "only on a GPU" if not bench.cuda else "no time is left")
            continue
        with note.part(f"change: {name}"):
            with change():  # warm, and the same bits in reverse?
                after = scorer.nll(spans)
                other = different(after, scorer.nll(spans[::-1])[::-1])
            ratios = []
            for _ in range(3):
                plain = bench.clock(lambda: scorer.nll(spans))[0]
                with change():
                    ratios.append(plain / bench.clock(lambda: scorer.nll(spans))[0])
            ratio, off = statistics.median(ratios), np.abs(after - before)
            note(f"change: {name}", f"{ratio:.3f}x as fast ({min(ratios):.3f} to {max(ratios):.3f}); scores move by "
                 f"{off.mean():.1e}, at most {off.max():.1e} nats; in reverse {other or 'the same bits'}", ratio=ratio)  # fmt: skip
    for budget in (8192, 16384, 65536) if bench.cuda else ():
        if bench.left() > 10:
            with note.part(f"rows of {budget}"), closing(Scorer(scorer.student, scorer.headers, batch_tokens=budget)) as rows:  # fmt: skip
                rows.nll(spans[:SEQUENCES])
                plain, taken = (bench.clock(lambda s=s: s.nll(spans))[0] for s in (scorer, rows))
                note(f"rows of {budget} tokens", f"{plain / taken:.3f}x as fast")


def candidates(student: Student) -> dict[str, Callable[[], Any]]:
    """What may join the package where it pays here."""
    import head_triton

    norms = {type(m) for m in student.model.modules() if type(m).__name__.endswith("RMSNorm")}

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.variance_epsilon)

    def fused(self: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return head_triton.log_probs(hidden, self.weight, targets, bias=self.bias, scale=self.scale,
                                     softcap=self.softcap)  # fmt: skip

    def one_pass(self: Head, hidden: torch.Tensor) -> torch.Tensor:
        return head_triton.log_sum_exp(self._logits(hidden, slice(None), hidden))

    return {
        "torch's rms_norm": lambda: patched(*((kind, "forward", norm) for kind in norms)),
        "no split-K": without_split_k,
        "head: logits read once": lambda: patched((Head, "_lse", one_pass)),
        "head: the Triton kernel": lambda: patched((Head, "log_probs", fused)),
    }


def head(bench: Bench, note: Notes) -> None:
    """The Triton head beside ours, by shape."""
    import head as heads
    import head_triton

    if not head_triton.available():
        note("Triton head", "triton does not run here")
        return
    if not bench.cuda:
        hidden, weight = torch.randn(64, 64), torch.randn(515, 64)
        targets = torch.arange(64)
        found = head_triton.log_probs(hidden, weight, targets)
        off = float((found - Head(weight).log_probs(hidden, targets)).abs().max())
        note("Triton head, interpreted, beside ours", f"worst {off:.1e} nats", ok=off < 1e-4)
        logits = torch.randn(3, 5000)
        off = float((head_triton.log_sum_exp(logits) - logits.logsumexp(dim=1)).abs().max())
        note("logits read once, interpreted, beside torch", f"worst {off:.1e} nats", ok=off < 1e-5)
        return
    note("columns", "H, V, rows, torch ms, Triton ms, Triton/torch (middle half), errors of both")
    for width, vocabulary in HEADS:
        for rows in (4096, 8192):
            with note.part(f"head {width} x {vocabulary}, {rows} rows", must=True):
                note(f"head {width} x {vocabulary}", heads.measured(width, vocabulary, rows, 10))


STEPS = {
    step.__name__: step for step in (env, tests, kernels, cli, oom, families, small, head, large)
}


def run(step: str, note: Notes, options: argparse.Namespace) -> None:
    """One step, in this process."""
    with note.part(step, must=True):
        STEPS[step](Bench(options), note)
