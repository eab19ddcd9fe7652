"""`curate improve --dry-run`: what a loop asks for and trains on, computing and keeping nothing."""

import math
import tempfile
from pathlib import Path

from ...config import ImproveConfig
from ...inputs.readers import open_source
from ...method.loops.recipes import recipe_of
from ...runs.directory import RunDir
from .material import Material


def estimate(config: ImproveConfig) -> str:
    """Answers, ratings, tokens and steps in words: none of them is exceeded."""
    recipe, source = recipe_of(config), open_source(config.input.data)
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        counts = Material(RunDir(Path(folder))).write(source, config, recipe)
    prompts = min(config.num_prompts or counts["prompts"], counts["prompts"])
    answers = prompts * recipe.samples
    by_rubric = recipe.pairs == "ratings" and config.reward in (None, "self", "judge")
    ratings = answers * recipe.times if by_rubric else 0
    pairs = prompts if recipe.pairs == "ratings" else counts["demonstrations"] * recipe.samples
    rows = pairs * (2 if recipe.trains_on == "last two" else 1)
    steps = recipe.max_steps or math.ceil(recipe.epochs * rows / recipe.batch_size)
    tuned = counts["tuning"] if recipe.sft else 0
    first = math.ceil(recipe.sft_epochs * tuned / recipe.sft_batch_size)
    held_out = counts["held_out"]
    tokens = recipe.iterations * answers * config.max_tokens
    tokens += (recipe.iterations + 1) * held_out * config.max_tokens
    judged = recipe.iterations * ratings * config.judge.max_tokens
    least = recipe.min_pairs if config.stop == "worse" else 1
    few = f"\nnote: too few pairs to train on: --min-pairs is {least}" if rows < least else ""
    return (
        f"iteration 0: {tuned:,} records to fine-tune on, {first:,} steps\n"
        f"each of {recipe.iterations} iterations: {answers:,} answers to {prompts:,} prompts, "
        f"{ratings:,} ratings, {pairs:,} pairs, {steps:,} steps\n"
        f"after each, iteration 0 too: {held_out:,} held-out answers\n"
        f"in all {tokens:,} new tokens of answers and {judged:,} of ratings\n"
        f"none of these numbers is exceeded{few}"
    )
