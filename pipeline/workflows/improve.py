"""`curate improve`: sample, rate, pair, train, measure, again and again; stages meet through files.

An iteration is a run directory, whose identity names the weights that it begins with.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..base.progress import say
from ..base.tables import aligned, shown
from ..config import ImproveConfig, recorded_options
from ..errors import CurateError
from ..inputs.examples import input_identity
from ..inputs.model_files import folder_hash
from ..inputs.readers import Source, open_source
from ..llm.job import check_model
from ..method.loops.measures import Measures
from ..method.loops.recipes import LoopRecipe, recipe_of
from ..method.loops.stopping import best_of, stop_after, stop_before_training
from ..models.loading import check_folder, load_tokenizer
from ..reporting.loop import write_curves
from ..runs.directory import RunDir, is_run
from ..runs.lock import run_lock
from ..runs.loop import STAGE, history, iteration_of
from ..templates import student_template
from ..training.chat_template import trained_with
from .improving import iteration as steps
from .improving.calling import Calls
from .improving.iteration import Loop, step
from .improving.material import Material, samples_of
from .improving.measuring import before_training, measure

_FREE = ("iterations", "min_pairs")
"""What of a recipe may change when a loop is taken up again."""
_IDENTIFYING = ("reward", "num_prompts", "nll_weight", "loss", "max_tokens", "engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Improved:
    """The loop as it is now; `measured` has all finished iterations, 0 first."""

    out: Path
    recipe: str
    measured: list[Measures]
    best: int
    model: Path
    """The best iteration's."""
    stopped: str | None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"out": str(self.out), "model": str(self.model)}


def improve(config: ImproveConfig) -> Improved:
    """Do what is left of the iterations; what is finished is not done again.

    Raises CurateError for bad input, another run's folder, and what a stage raises.
    """
    _check_rewards(config)
    source, recipe, policy = open_source(config.input.data), recipe_of(config), _policy(config)
    template = _template(config, policy)
    identity = _identity(config, source, recipe, policy, template)
    notes = {"data": source.name, "options": recorded_options(config)}
    run = RunDir.create(config.out.resolve(), identity, **notes)
    calls = Calls.here(isolate=config.isolate, device=config.training.device)
    loop = Loop(
        run=run,
        config=config,
        recipe=recipe,
        policy=policy,
        template=template,
        calls=calls,
        material=Material(run),
    )
    with run.discarded_if_empty(), run_lock(run.path, STAGE):
        step(run, "data", lambda: loop.material.write(source, config, recipe))
        return _iterate(loop)


def _check_rewards(config: ImproveConfig) -> None:
    """CurateError for a judge, a program or an exam that no iteration could use."""
    own = replace(config.judge, model=config.model) if config.rates_itself else None
    for judge in (own, config.judge if config.reward == "judge" else None, config.held_out_judge):
        if judge is not None and judge.replies is None:
            check_model(judge)
    if config.reward == "rifd" and config.judge.model is not None:
        check_folder(config.judge.model)
    if config.command and shutil.which(config.command[0]) is None:
        raise CurateError(
            f"--reward-command {config.command[0]}: there is no such program, or none that may be "
            "started"
        )
    if config.exam is not None and all(one.rank is None for one in samples_of(config.exam)):
        raise CurateError(
            f"--exam {config.exam}: no answer has a rank, in a column 'rank' or as 'chosen' and "
            "'rejected'"
        )


def _policy(config: ImproveConfig) -> Path:
    """The model's folder; of a hub id the files of its revision."""
    check_folder(config.model)
    folder = Path(config.model)
    if folder.is_dir():
        return folder.resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(config.model, revision=config.revision))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CurateError(
            f"--model {config.model} is neither a folder nor a model of the hub that can be had: "
            f"{str(error).splitlines()[0]}"
        ) from None


def _template(config: ImproveConfig, policy: Path) -> str:
    """The template of all stages; `auto` is settled by the first model alone."""
    name = config.template or trained_with(str(policy)) or "auto"
    if name != "auto":
        return name
    return student_template(name, load_tokenizer(str(policy), None)).name


def _identity(
    config: ImproveConfig, source: Source, recipe: LoopRecipe, policy: Path, template: str
) -> dict[str, Any]:
    """What may not change when the loop is taken up again."""
    settings = {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if field.name not in _FREE
    }
    files = ("prompts", "eft", "held_out", "exam")
    others = {name: _fingerprint(getattr(config, name)) for name in files}
    training = {
        f"training.{name}": getattr(config.training, name)
        for name in ("seed", "max_length", "overlong", "weight_decay", "max_grad_norm", "precision",
                     "lora_r", "lora_alpha")
    }  # fmt: skip
    identity = {
        "command": STAGE,
        **input_identity(source, config.input),
        "limit": config.input.limit,
        "recipe": config.recipe,
        "model": folder_hash(policy),
        "template": template,
        **others,
        **{name: getattr(config, name) for name in _IDENTIFYING},
        "reward_command": config.command or None,
        "judge": [config.judge.model, config.judge.revision, *config.judge.sampling.values()],
        **settings,
        **training,
    }
    if recipe.pairs == "ratings":
        identity["reward"] = config.reward or "self"
    found: dict[str, Any] = json.loads(json.dumps(identity))  # as it will be read
    return found


def _fingerprint(name: str | None) -> str | None:
    if name is None:
        return None
    return open_source(f"{name}/instructions" if is_run(name) else name).fingerprint


# --- the loop -------------------------------------------------------------------------------------


def _iterate(loop: Loop) -> Improved:
    """The iterations in turn, until their number is reached or the loop has got worse."""
    stopped: str | None = None
    for number in range(loop.recipe.iterations + 1):
        _note(loop, None)
        stopped = _iteration(loop, number)
        _remove_weights(loop, ended=stopped is not None)
        if stopped is not None:
            break
    _note(loop, stopped)
    found = history(loop.run)
    best = best_of(found)
    return Improved(
        out=loop.config.out,
        recipe=loop.config.recipe,
        measured=found,
        best=best,
        model=loop.model(best),
        stopped=stopped,
    )


def _iteration(loop: Loop, number: int) -> str | None:
    """Do what is left of an iteration; why the loop ends with it."""
    run = RunDir.create(iteration_of(loop.run, number).path, _own_identity(loop, number))
    if number == 0:
        step(run, "train", lambda: steps.first_model(loop))
    elif (why := _trained(loop, run, number)) is not None:
        return why
    step(run, "measure", lambda: measure(loop, number))
    if loop.config.stop == "never":
        return None
    return stop_after([one for one in history(loop.run) if one.iteration <= number])


def _trained(loop: Loop, run: RunDir, number: int) -> str | None:
    """Make the iteration's model; why there is none."""
    rated = loop.recipe.pairs == "ratings"
    making = [steps.prompts, steps.sample, *([steps.rate] if rated else []), steps.pair, steps.mix]
    for work in making:
        step(run, work.__name__, partial(work, loop, number))
    now = before_training(loop, number)
    least = loop.recipe.min_pairs if loop.config.stop == "worse" else 1
    why = stop_before_training(now, min_pairs=least)
    if why is not None and (loop.config.stop == "worse" or not now.trained_on):
        return why
    step(run, "train", partial(steps.train, loop, number))
    return None


def _own_identity(loop: Loop, number: int) -> dict[str, Any]:
    """An iteration's, which names the weights that it begins with."""
    own = {"command": f"{STAGE} iteration", "recipe": loop.config.recipe, "iteration": number}
    if number == 0:
        return {**own, "parent": folder_hash(loop.policy)}
    return {**own, "parent": (iteration_of(loop.run, number - 1).stage("train") or {})["weights"]}


def _note(loop: Loop, stopped: str | None) -> None:
    """Write what is known of the loop as a whole: manifest, table, curves."""
    found = history(loop.run)
    entry: dict[str, Any] = {"iterations": loop.recipe.iterations, "stopped": stopped}
    if found:
        entry |= {"best": best_of(found), "measured": [one.iteration for one in found]}
    if loop.run.stage(STAGE) != entry:
        if found:
            write_curves(loop.run.path, found)
        loop.run.finish_stage(STAGE, entry)


def _remove_weights(loop: Loop, *, ended: bool) -> None:
    """Remove weights as --keep-models says, never the best, nor what the next iteration needs."""
    keep, found = loop.config.keep_models, history(loop.run)
    if keep == "all" or not found:
        return
    kept = {best_of(found)}
    if not ended or keep == "last":
        kept.add(found[-1].iteration)
        if loop.recipe.reference == "first":
            kept.add(0)
    for number in {one.iteration for one in found} - kept:
        model = loop.model(number)
        if not model.is_symlink():
            for path in model.glob("*.safetensors"):
                say(f"removing {path} (--keep-models {keep})")
                path.unlink()


# --- in words -------------------------------------------------------------------------------------


def in_words(result: Improved) -> Iterator[str]:
    """The table, why the loop ended, and which model is the best."""
    head: tuple[str, ...] = (
        "iteration",
        "pairs",
        "ties",
        "reward",
        "loss",
        "length",
        "cut",
        "taken up",
        "wins",
    )
    forms = ("d", ".0%", ".3f", ".4f", ".0f", ".0%", ".0%", ".3f")
    rows = [head]
    for one in result.measured:
        score = one.wins_first.score if one.wins_first else None
        found = (one.pairs, one.ties, one.reward, one.held_out_loss, one.length, one.cut)
        values = zip((*found, one.taken_up, score), forms, strict=True)
        rows.append((str(one.iteration), *(shown(value, form) for value, form in values)))
    yield from aligned(rows)
    if result.stopped is not None:
        yield f"stopped: {result.stopped}"
    yield f"the best is iteration {result.best}: {result.model}"
