"""An iteration's steps: prompts, samples, ratings, pairs, what is trained on, the training."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...base.files import writable
from ...base.progress import say
from ...config import ImproveConfig, ModelConfig
from ...config.alignment import REFERENCE_FREE
from ...config.improvement import LIMITS
from ...errors import CurateError
from ...inputs.model_files import folder_hash
from ...inputs.samples import write_samples
from ...method.loops.recipes import LoopRecipe
from ...runs.directory import RunDir
from ...runs.loop import ANSWERS, MODEL, PAIRS, RATINGS, TRAINING, iteration_of
from ...runs.published.pair_set import PairSet
from .calling import Calls
from .material import Material, samples_of, write_prompts
from .mixing import write_training
from .rewards import Program, rate_by_program, rate_by_scores, write_for_scoring

_SHARED = ("preset", "weight_decay", "max_grad_norm", "per_device_batch_size", "max_length",
           "overlong", "seed", "gradient_checkpointing", "precision", "device", "lora_r",
           "lora_alpha", "save_steps")  # fmt: skip
"""The settings that both trainings have."""
_SEEDS = 1000
"""Between the seeds of two iterations: a server gets a seed plus the sample's number."""
_MOST_COMPARISONS, _PER_DEMONSTRATION = 24, 3
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What all iterations of a run share."""

    run: RunDir
    config: ImproveConfig
    recipe: LoopRecipe
    policy: Path
    template: str
    calls: Calls
    material: Material

    def model(self, number: int) -> Path:
        """The folder of an iteration's model."""
        return iteration_of(self.run, number).path / MODEL

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.config.training.seed

    @property
    def engine_device(self) -> str | None:
        """Where models that answer compute."""
        return "cpu" if self.config.training.device == "cpu" else None


def step(run: RunDir, name: str, work: Callable[[], Entry]) -> Entry:
    """The step's entry in the manifest, after its work where it is not there yet."""
    entry = run.stage(name)
    if entry is None:
        say(f"improve {run.path.name}: {name}")
        entry = work()
        run.finish_stage(name, entry)
    return entry


# --- iteration 0 ----------------------------------------------------------------------------------


def first_model(loop: Loop) -> Entry:
    """Fine-tune on the demonstrations, or link the model as it is; the weights' hash."""
    recipe, model = loop.recipe, loop.model(0)
    if recipe.sft:
        loop.calls(
            "finetune",
            data=loop.material.tuning,
            model=loop.policy,
            out=model,
            template=loop.template,
            batch_size=recipe.sft_batch_size,
            learning_rate=recipe.sft_learning_rate,
            epochs=recipe.sft_epochs,
            stop_loss=recipe.sft_loss,
            held_out=0.0,
            **_shared(loop),
        )
    elif not model.is_symlink():
        with writable(model):
            model.symlink_to(loop.policy)
    return {"weights": folder_hash(model), "fine_tuned": recipe.sft}


def _shared(loop: Loop) -> Entry:
    return {name: getattr(loop.config.training, name) for name in _SHARED}


# --- the others -----------------------------------------------------------------------------------


def prompts(loop: Loop, number: int) -> Entry:
    """Write the iteration's prompts."""
    rows = loop.material.of_iteration(number, take=loop.config.num_prompts, seed=loop.seed)
    write_prompts(iteration_of(loop.run, number).path / "prompts.parquet", rows)
    return {"prompts": len(rows)}


def sample(loop: Loop, number: int) -> Entry:
    """Let the model before answer each prompt several times."""
    run, recipe = iteration_of(loop.run, number), loop.recipe
    answer(
        loop,
        loop.model(number - 1),
        run.path / "prompts.parquet",
        run.path / ANSWERS,
        samples=recipe.samples,
        temperature=recipe.temperature,
        top_p=recipe.top_p if recipe.temperature else None,
        seed=loop.seed + _SEEDS * number,  # else a model that has hardly changed says the same
    )
    answers, asked = len(samples_of(run.path / ANSWERS)), (run.stage("prompts") or {})["prompts"]
    return {"answers": answers, "failed": asked * recipe.samples - answers}


def answer(loop: Loop, model: Path, asked: Path, out: Path, **sampling: Any) -> None:
    """Let a model answer what a file asks."""
    out.parent.mkdir(parents=True, exist_ok=True)
    loop.calls(
        "generate",
        data=asked,
        model=model,
        out=out,
        template=loop.template,
        engine=loop.config.engine,
        engine_device=loop.engine_device,
        max_tokens=loop.config.max_tokens,
        concurrency=loop.config.concurrency,
        journal=loop.run.path / "journal",
        **sampling,
    )


def rate(loop: Loop, number: int) -> Entry:
    """Rate each sample by the reward that was chosen."""
    config, folder = loop.config, iteration_of(loop.run, number).path
    samples, out = folder / ANSWERS, folder / RATINGS
    out.parent.mkdir(exist_ok=True)
    if config.reward == "command":
        program = Program(words=config.command, timeout=config.reward_timeout)
        rated = rate_by_program(program, samples_of(samples), folder / "ratings" / "program.jsonl")
        write_samples(out, rated)
    elif config.reward == "rifd":
        _rate_by_rifd(loop, number, out)
    else:
        judge = own_judge(loop, number - 1) if config.rates_itself else config.judge
        rate_by_rubric(loop, judge, samples, out)
    found = samples_of(out)
    return {"rated": sum(one.rating is not None for one in found), "answers": len(found)}


def own_judge(loop: Loop, number: int) -> ModelConfig:
    """An iteration's model as a judge."""
    device, engine = loop.engine_device or "auto", loop.config.engine
    return replace(loop.config.judge, model=str(loop.model(number)), engine=engine, device=device)


def rate_by_rubric(loop: Loop, judge: ModelConfig, samples: str | Path, out: Path) -> None:
    """Let a judge rate answers from 0 to 5."""
    journal = None if judge.replies else loop.run.path / "journal"
    loop.calls("judge", a=samples, rate=True, times=loop.recipe.times, out=out, journal=journal,
               **judge_options(judge))  # fmt: skip


def judge_options(judge: ModelConfig) -> Entry:
    """A judge's options as `curate judge` has them."""
    names = ("engine", "base_url", "replies", "concurrency", "max_tokens", "temperature", "top_p",
             "seed", "engine_args", *LIMITS)  # fmt: skip
    found = {name: getattr(judge, name) for name in names}
    named = {"judge": judge.model, "judge_revision": judge.revision, "engine_device": judge.device}
    return found | named


def _rate_by_rifd(loop: Loop, number: int, out: Path) -> None:
    """Minus log r-IFD under the model that answered, or under the folder that --judge names."""
    samples = samples_of(iteration_of(loop.run, number).path / ANSWERS)
    asked, scores = out.with_name("answers.jsonl"), out.with_name("scores.parquet")
    write_for_scoring(asked, samples)
    loop.calls(
        "score",
        data=asked,
        student=loop.config.judge.model or loop.model(number - 1),
        template=loop.template,
        device=loop.config.training.device,
        out=scores,
    )
    write_samples(out, rate_by_scores(scores, samples))


def pair(loop: Loop, number: int) -> Entry:
    """Pair the samples, or the demonstrations with them; each prompt is a pair or a reason."""
    folder = iteration_of(loop.run, number).path
    if loop.recipe.pairs == "ratings":
        loop.calls("pairs", data=folder / RATINGS, out=folder / PAIRS, tier=loop.recipe.tier)
    else:
        data, against = loop.material.demonstrations, folder / ANSWERS
        loop.calls("pairs", data=data, against=against, out=folder / PAIRS)
    counts = PairSet(folder / PAIRS).manifest["counts"]
    left_out: dict[str, int] = dict(counts["left_out"])
    if loop.recipe.pairs == "ratings":
        answered = {one.id for one in samples_of(folder / RATINGS)}
        prompts = (iteration_of(loop.run, number).stage("prompts") or {})["prompts"]
        if prompts > len(answered):
            left_out["unanswered"] = prompts - len(answered)
    return {"pairs": counts["pairs"], "left_out": left_out}


def mix(loop: Loop, number: int) -> Entry:
    """Write what is trained on."""
    batch = loop.recipe.batch_size
    if loop.recipe.trains_on == "comparisons" and loop.config.batch_size is None:
        demonstrations = (loop.run.stage("data") or {})["demonstrations"]
        batch = min(_PER_DEMONSTRATION * demonstrations, _MOST_COMPARISONS)
    return write_training(loop.run, loop.recipe, number, batch=batch, seed=loop.seed)


def train(loop: Loop, number: int) -> Entry:
    """Train the model before on the pairs, with an optimiser that begins anew."""
    run, recipe, config = iteration_of(loop.run, number), loop.recipe, loop.config
    mixed, parent, model = run.stage("mix") or {}, loop.model(number - 1), loop.model(number)
    if not any(parent.glob("*.safetensors")):
        raise CurateError(
            f"the weights of iteration {number - 1} were removed (--keep-models): the loop cannot "
            "go on from there"
        )
    referred = recipe.reference == "first" and config.loss not in REFERENCE_FREE
    loop.calls(
        "align",
        pairs=run.path / TRAINING,
        model=parent,
        out=model,
        template=loop.template,
        loss=config.loss,
        beta=recipe.beta if config.loss == "dpo" else config.beta,
        nll_weight=config.nll_weight,
        reference=loop.model(0) if referred else None,
        learning_rate=recipe.rate(number),
        epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        batch_size=mixed["batch"],
        scheduler=recipe.scheduler,
        warmup_ratio=_warmup(recipe, number, mixed),
        shuffle=False if recipe.trains_on == "comparisons" else None,
        **_shared(loop),
    )
    return {"weights": folder_hash(model), "parent": os.path.relpath(parent, loop.run.path)}


def _warmup(recipe: LoopRecipe, number: int, mixed: Entry) -> float:
    """The part of the steps that warm up; none where that is less than one step.

    The trainer would make it a whole one, at a learning rate of 0.
    """
    steps = recipe.max_steps or math.ceil(recipe.epochs * mixed["rows"] / mixed["batch"])
    once = recipe.warm_once and number > 1
    return 0.0 if once or recipe.warmup_ratio * steps < 1 else recipe.warmup_ratio
