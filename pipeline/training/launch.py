"""The surroundings of a training: its processes, libraries, memory and output."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..base.foreign_json import parse_json
from ..base.foreign_text import regular
from ..base.processes.ranks import are_several, processes
from ..config.shared.training import Recipe
from ..errors import CurateError, UsageError
from ..models.loading import is_out_of_memory


def check_launch(recipe: Recipe) -> None:
    """CurateError where the recipe asks for processes, libraries or files that are not there."""
    trackers(recipe.report_to)
    if recipe.fsdp and recipe.deepspeed:
        raise UsageError("give --fsdp or --deepspeed, not both")
    if not recipe.packing and recipe.batch_size % processes():
        raise CurateError(
            f"a batch of {recipe.batch_size} cannot be shared equally by {processes()} processes"
        )
    if (recipe.fsdp or recipe.deepspeed) and not are_several():
        raise UsageError(
            "--fsdp and --deepspeed share the work of several processes, and here is one: start "
            "them with `torchrun --nproc-per-node N -m curate.cli finetune ...`"
        )
    if recipe.deepspeed and find_spec("deepspeed") is None:
        raise CurateError("DeepSpeed is not installed: pip install deepspeed")
    if recipe.deepspeed:
        try:
            parse_json(regular(Path(recipe.deepspeed)).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CurateError(f"--deepspeed {recipe.deepspeed} cannot be read: {error}") from None


@contextmanager
def lost_process() -> Iterator[None]:
    """Turn what the others' end does to a process that waits for them into a CurateError."""
    try:
        yield
    except RuntimeError as error:
        lost = any(word in str(error) for word in ("gloo", "NCCL", "Connection closed"))
        if not (are_several() and lost):
            raise
        raise CurateError("another process of this training has ended") from None


@contextmanager
def memory_advice(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into one sentence that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise CurateError(
            f"out of memory with up to {recipe.per_device_batch_size} rows of {recipe.row_tokens} "
            "tokens on a device: lower --per-device-batch-size (the batch of "
            f"{recipe.batch_size} stays), then --max-length, or train with --preset lora"
        ) from None


@contextmanager
def without_library_output() -> Iterator[None]:
    """Without the libraries' own progress bars and hints; ours go through the callback."""
    import datasets
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    dataset_bars = not datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if dataset_bars:
            datasets.enable_progress_bars()


def trackers(names: str) -> list[str]:
    """The trackers of a list with commas. CurateError for one that is not known or not here."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK as KNOWN

    asked, here = names.split(","), ["none", *get_available_reporting_integrations()]
    for name in asked:
        if name not in here and name not in KNOWN:
            raise CurateError(
                f"no tracker is called {name!r}; known are {', '.join(sorted(KNOWN))}"
            )
        if name not in here:
            package = "'curate-reflection[tensorboard]'" if name == "tensorboard" else name
            raise CurateError(f"the tracker {name} is not installed: pip install {package}")
    return asked
