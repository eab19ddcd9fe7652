"""Tokens a second of `curate finetune` beside plain TRL's SFTTrainer with the same settings.

    python benchmarks/training.py [--steps 12] [--repeats 5] [--device cpu|cuda] [--profile]

Both are given the same token rows and train the same steps; repeats are interleaved, and the order
within a repeat alternates. Wall time, and processor time, which busy neighbours disturb less, is from the first step's beginning to the last one's end, by one
callback in both; loading, tokenising and saving are outside of it.
"""

import argparse
import cProfile
import gc
import os
import platform
import pstats
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "data" / "demo"
SHAPES = {
    "demo": None,  # the demo student as it is
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
}  # fmt: skip


def student_of(shape, folder):
    """A student of this shape with random weights and the demo's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if SHAPES[shape] is None:
        return DEMO / "student"
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "student")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **SHAPES[shape])
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def clock():
    """A callback that notes when training began and ended."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds = processor = 0.0
        tokens = 0.0
        loss = 0.0

        def on_train_begin(self, args, state, control, **_):
            self.begun = time.perf_counter(), time.process_time()

        def on_log(self, args, state, control, logs, **_):
            if "loss" in logs:
                self.tokens, self.loss = logs["num_tokens"], logs["loss"]

        def on_train_end(self, args, state, control, **_):
            self.seconds = time.perf_counter() - self.begun[0]
            self.processor = time.process_time() - self.begun[1]

    return Clock()


def settings(args):
    return {
        "preset": "paper-7b", "max_steps": args.steps, "batch_size": args.batch, "per_device_batch_size": args.per_device,
        "max_length": args.max_length, "learning_rate": 1e-4, "gradient_checkpointing": False, "save_steps": 10**6,
        "device": "cpu" if args.device == "cpu" else "auto",
    }  # fmt: skip


def jobs(args, student):
    """A job of ours, without its folder, with the rows that both train on."""
    from accelerate import PartialState

    from curate.pipeline.config import InputConfig
    from curate.pipeline.config.shared.training import FinetuneConfig
    from curate.pipeline.models.loading import load_tokenizer
    from curate.pipeline.scoring.tokens import Tokenization
    from curate.pipeline.stages.finetuning import data_set
    from curate.pipeline.templates import Template
    from curate.pipeline.training.chat_template import serving
    from curate.pipeline.training.job import Job
    from curate.pipeline.training.rows import RowFormat, training_data

    template = Template("vicuna")
    tokens = Tokenization(load_tokenizer(str(student), None), template, name="exact", max_length=1)
    recipe = FinetuneConfig(model=str(student), out=Path("."), **settings(args)).recipe()
    records = [
        record
        for name in ("records.jsonl", "heldout.jsonl")
        for record in data_set(InputConfig(data=str(DEMO / name))).records
    ]
    served = serving(template, tokens)
    form = RowFormat(template=template, tokens=tokens, end=served.end, max_length=args.max_length)
    data = training_data(records, form)
    cpu = args.device == "cpu"

    def job(folder):
        return Job(
            model=str(student), revision=None, template=template.name, recipe=recipe, data=data, serving=served, out=folder,
            state=PartialState(cpu=cpu), bf16=not cpu, cpu=cpu,
        )  # fmt: skip

    return job


def ours(job, folder, watch):
    from curate.pipeline.training import trainer as training
    from curate.pipeline.training.job import Training
    from curate.pipeline.training.launch import without_library_output

    with without_library_output():
        trainer = training.prepared(
            job(folder), Training(report=lambda _: None), training.sft_trainer
        )
        trainer.add_callback(watch)
        trainer.train()


def plain(job, folder, watch):
    """What TRL's documentation shows, with the recipe's settings spelled out."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, ProgressCallback
    from trl import SFTConfig, SFTTrainer

    given = job(folder)
    recipe = given.recipe
    rows = Dataset.from_list(
        [{"input_ids": r.input_ids, "labels": r.labels} for r in given.data.rows]
    )
    args = SFTConfig(
        output_dir=str(folder), max_steps=recipe.max_steps, per_device_train_batch_size=recipe.per_device_batch_size,
        gradient_accumulation_steps=recipe.batch_size // recipe.per_device_batch_size, learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=recipe.warmup_ratio, weight_decay=0.0, bf16=given.bf16,
        use_cpu=given.cpu, gradient_checkpointing=False, max_length=None, logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, seed=recipe.seed, data_seed=recipe.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(given.model, dtype="float32"),
        args=args,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(given.model),
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(watch)
    trainer.train()


@contextmanager
def profiled(wanted):
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


def measure(args):
    import torch

    speeds = {"curate finetune": [], "plain TRL": []}
    losses = {name: [] for name in speeds}
    with tempfile.TemporaryDirectory() as place:
        student = student_of(args.shape, Path(place) / "student")
        job = jobs(args, student)
        ways = {"curate finetune": ours, "plain TRL": plain}
        for repeat in range(args.repeats + 1):  # the first warms up
            for name in sorted(ways, reverse=bool(repeat % 2)):
                watch = clock()
                with profiled(args.profile and repeat == 1 and name == "curate finetune"):
                    ways[name](job, Path(place) / f"{name}-{repeat}", watch)
                gc.collect()
                if args.device != "cpu":
                    torch.cuda.empty_cache()
                if repeat:
                    speeds[name].append(
                        (watch.tokens / watch.seconds, watch.tokens / watch.processor)
                    )
                    losses[name].append(watch.loss)
                print(
                    f"{repeat} {name}: {watch.tokens / watch.seconds:.0f} tokens/s, last loss {watch.loss:.5f}",
                    file=sys.stderr,
                )
        rows = job(Path(place)).data.rows
    assert len({round(loss, 4) for one in losses.values() for loss in one}) == 1, losses
    return speeds, sum(len(r.input_ids) for r in rows) / len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--per-device", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true", help="Where our time goes, on stderr.")
    args = parser.parse_args()
    import torch

    speeds, length = measure(args)
    hardware = (
        torch.cuda.get_device_name()
        if args.device == "cuda"
        else f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    )
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "accelerate")
    )
    print(
        f"# Training: {args.shape} student, {args.device}\n\n`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`\n"
    )
    print(
        f"{date.today()}; {hardware}; {libraries}; {args.steps} steps of {args.batch} rows, {args.per_device} at once, {length:.0f} tokens a row on average.\n"
    )
    print(
        "| system | tokens a second, median (min to max) | tokens a second of processor time |\n|---|---|---|"
    )
    for name, found in speeds.items():
        print(
            f"| {name} | "
            + " | ".join(
                f"{statistics.median(s):.0f} ({min(s):.0f} to {max(s):.0f})"
                for s in zip(*found, strict=True)
            )
            + " |"
        )
    for place, kind in enumerate(("wall", "processor")):
        pairs = zip(speeds["curate finetune"], speeds["plain TRL"], strict=True)
        ratios = [ours[place] / plain[place] for ours, plain in pairs]
        print(
            f"\nRatio by {kind} time, run beside run: median {statistics.median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)})."
        )
    print("\nAll runs ended with the same loss to four decimals.")


if __name__ == "__main__":
    main()
