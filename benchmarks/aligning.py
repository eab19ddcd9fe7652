"""Tokens a second of `curate align --loss dpo` beside plain TRL's DPOTrainer on the same rows.

    python benchmarks/aligning.py [--steps 4] [--repeats 3] [--shape 15m]
    python benchmarks/aligning.py --memory

Both take the reference's log-probabilities before they train, and time begins after that, with the first
step; repeats are interleaved. Plain TRL is given the prompt's text and tokenises it itself, so that its
tokens may differ by a few. `--memory`: the peak of a process's memory while it trains, each in one of its
own: `curate finetune` with as many rows at once and with twice as many, and `curate align`.
"""

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from training import DEMO, SHAPES, clock, student_of

MODES = ("sft", "sft-twice", "align")


def pairs(number):
    """The demo's own answers over those of the next record."""
    import json

    lines = (DEMO / "records.jsonl").read_text("utf-8").splitlines()[: number + 1]
    found = [json.loads(line) for line in lines]
    return [
        {"prompt": one["instruction"], "chosen": one["output"], "rejected": other["output"]}
        for one, other in itertools.pairwise(found)
    ]


def prepared(args, student, folder, rows):
    """The job and the alignment of `curate align`."""
    import json

    from curate.pipeline.config.alignment import AlignConfig, PreferenceRecipe
    from curate.pipeline.inputs.ingest import Intake
    from curate.pipeline.inputs.pairs import read_pairs
    from curate.pipeline.inputs.readers import open_source
    from curate.pipeline.stages import aligning
    from curate.pipeline.training.preparation import RecordSource

    folder.mkdir(parents=True)
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    recipe = PreferenceRecipe(
        max_steps=args.steps, batch_size=args.batch, per_device_batch_size=args.batch, max_length=args.max_length,
        learning_rate=1e-5, gradient_checkpointing=False, save_steps=10**6, device="cpu",
    )  # fmt: skip
    config = AlignConfig(
        pairs=str(data), model=str(student), out=folder / "out", template="vicuna", training=recipe
    )
    given = RecordSource(records=read_pairs(open_source(str(data)), Intake()))
    job = aligning.pair_job(config, given)
    return job, aligning._alignment(config)


def ours(args, student, folder, rows, watch):
    from curate.pipeline.training import trainer as training
    from curate.pipeline.training.job import Training
    from curate.pipeline.training.launch import without_library_output
    from curate.pipeline.training.preference.trainer import preference_trainer

    job, alignment = prepared(args, student, folder, rows)
    with without_library_output():
        trainer = training.prepared(
            job, Training(report=lambda _: None), lambda job: preference_trainer(job, alignment)
        )
        trainer.add_callback(watch)
        trainer.train()


def plain(args, student, folder, rows, watch):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, ProgressCallback
    from trl import DPOConfig, DPOTrainer

    from curate.pipeline.templates import Template

    template = Template("vicuna")
    texts = [
        {"prompt": template.prompt(row["prompt"]), **{side: " " + row[side] for side in ("chosen", "rejected")}}
        for row in rows
    ]  # fmt: skip
    config = DPOConfig(
        output_dir=str(folder), max_steps=args.steps, per_device_train_batch_size=args.batch, learning_rate=1e-5,
        lr_scheduler_type="cosine", warmup_steps=0.1, bf16=False, use_cpu=True, gradient_checkpointing=False,
        max_length=args.max_length, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype="float32"),
        args=config,
        train_dataset=Dataset.from_list(texts),
        processing_class=AutoTokenizer.from_pretrained(student),
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(watch)
    trainer.train()


def speeds(args, place):
    student = student_of(args.shape, place / "student")
    rows = pairs(args.batch * args.steps)
    found = {"curate align": [], "plain TRL": []}
    ways = {"curate align": ours, "plain TRL": plain}
    for repeat in range(args.repeats + 1):  # the first warms up
        for name in sorted(ways, reverse=bool(repeat % 2)):
            watch = clock()
            ways[name](args, student, place / f"{name}-{repeat}", rows, watch)
            if repeat:
                found[name].append(watch.tokens / watch.processor)
            print(f"{repeat} {name}: {watch.tokens / watch.processor:.0f} tokens a processor second, "
                  f"last loss {watch.loss:.5f}", file=sys.stderr)  # fmt: skip
    return found


def train_for_memory(args, place):
    """One training, in this process; its peak of memory in MiB."""
    student = student_of(args.shape, place / "student")
    rows = pairs(args.batch * args.steps)
    if args.mode == "align":
        ours(args, student, place / "align", rows, clock())
    else:
        from curate.pipeline.config import InputConfig
        from curate.pipeline.config.shared.training import FinetuneConfig
        from curate.pipeline.stages.finetuning import finetune_run

        at_once = args.batch * (2 if args.mode == "sft-twice" else 1)
        finetune_run(
            FinetuneConfig(
                model=str(student), out=place / "sft", input=InputConfig(data=str(DEMO / "records.jsonl")), template="vicuna",
                max_steps=args.steps, batch_size=at_once, per_device_batch_size=at_once, max_length=args.max_length,
                learning_rate=1e-5, gradient_checkpointing=False, save_steps=10**6, device="cpu",
            )
        )  # fmt: skip
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument(
        "--mode", choices=MODES, help="Train this alone and print its peak of memory."
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if args.mode:
            print(f"{train_for_memory(args, Path(place)):.0f}")
            return
        if args.memory:
            words = [word for word in sys.argv if word != "--memory"]
            for mode in MODES:
                done = subprocess.run(
                    [sys.executable, *words, "--mode", mode],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                print(f"| {mode} | {done.stdout.split()[-1]} MiB |")
            return
        found = speeds(args, Path(place))
    for name, values in found.items():
        print(
            f"| {name} | {statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f}) |"
        )
    ratios = [a / b for a, b in zip(*found.values(), strict=True)]
    print(
        f"\nRatio by processor time, run beside run: median {statistics.median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)})."
    )


if __name__ == "__main__":
    main()
