"""Loads configurations, tokenizers and causal LMs: safetensors only, no remote code.

Whatever the libraries raise for a model that cannot be loaded becomes one sentence.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import printable
from typing import TYPE_CHECKING, Any

from ..base.nearest import nearest_path
from ..base.progress import say
from ..errors import CurateError
from ..inputs.remote.hub import hub_is_reachable

if TYPE_CHECKING:
    import torch


def load_config(name: str, revision: str | None = None) -> Any:
    """The model's configuration."""
    from transformers import AutoConfig

    return _load(AutoConfig.from_pretrained, "configuration", name, revision)


def context_of(config: Any) -> int | None:
    """The model's context in tokens, from its config, None where the config has no bound."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The model's tokenizer. CurateError also for tokens that the model has no embedding of."""
    from transformers import AutoTokenizer

    def load(*args: Any, **options: Any) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(*args, **options)
        _check_normalizer(tokenizer)
        tokenizer("a")  # some settings are read only now
        return tokenizer

    config = load_config(name, revision)
    tokenizer = _load(load, "tokenizer", name, revision)
    _check_vocabulary(tokenizer, config, name)
    return tokenizer


def load_causal_lm(
    name: str,
    revision: str | None = None,
    *,
    dtype: str | None,
    device: "torch.device | None" = None,
) -> Any:
    """The weights in `dtype` (None: as they were saved), on `device` (None: in memory).

    CurateError for a folder that lacks weights: transformers would make them up at random.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as library_logging

    say(f"loading the weights of {name}")
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()  # its report shows names of the file as they are
    model, found = _load(
        AutoModelForCausalLM.from_pretrained,
        "model",
        name,
        revision,
        dtype=dtype or "auto",
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # they are refused below, with their names
        output_loading_info=True,
    )
    wrong = found["missing_keys"] or {key for key, *_ in found["mismatched_keys"]}
    if wrong:
        lacking = "lacks weights" if found["missing_keys"] else "has weights of another size"
        raise CurateError(f"the model of {name!r} {lacking}: {min(wrong)}")
    _mend_generation_config(model, name)
    if device is not None:
        with memory_errors(name, device):
            model.to(device)
    return model


@contextmanager
def memory_errors(name: str, device: "torch.device | str") -> Iterator[None]:
    """Turn running out of memory into a CurateError that names the model and the device."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise CurateError(
            f"{name} does not fit into the memory of {device}: take a smaller model or dtype, "
            "or a device with more free memory"
        ) from None


@contextmanager
def tokenizer_errors(name: str) -> Iterator[None]:
    """Turn a panic of the tokenizers library, which is no Exception, into a CurateError.

    One comes of a regular expression that gives a text up.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:300]
        raise CurateError(f"the tokenizer of {name!r} fails on a text: {reason}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of a GPU or of this machine."""
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError)
    said = ("allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, kinds) or any(words in str(error) for words in said)


def _load(
    loader: Callable[..., Any], part: str, name: str, revision: str | None, **options: Any
) -> Any:
    check_folder(name)
    if not os.path.exists(name):
        options["local_files_only"] = not hub_is_reachable()
    try:
        with memory_errors(name, "this machine"), tokenizer_errors(name):
            # Left out, transformers would ask on the terminal whether to run a repository's code.
            return loader(name, revision=revision, trust_remote_code=False, **options)
    except CurateError:
        raise
    except Exception as error:  # noqa: BLE001 - foreign files raise all kinds, tokenizers' bare ones
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CurateError(f"cannot load the {part} of {name!r}: {_advice(name)}{reason}") from None


def check_folder(name: str) -> None:
    """CurateError for a path that is no model's, as far as its name and its files' names tell."""
    there = os.path.exists(name)  # unlike Path's, False for a name that is too long
    if there and not (Path(name) / "config.json").is_file():
        raise CurateError(f"{name} is no model folder: it has no config.json")
    if not there and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise CurateError(f"no such model folder: {name}{nearest_path(name)}")


def _advice(name: str) -> str:
    folder = Path(name)
    if not os.path.isdir(folder):
        near = nearest_path(name)
        return f"it is no model folder{near}, nor a hub id that can be reached and loaded: "
    if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
        return "tokenizer.model without tokenizer.json takes `pip install sentencepiece protobuf`: "
    return ""


def _check_normalizer(tokenizer: Any) -> None:
    """ValueError where replacement upon replacement makes a short text fill the memory."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    steps = [*_steps(backend.normalizer)] if backend and backend.normalizer else []
    patterns = (step.get("pattern", {}).get("String", "") for step in steps)
    text = printable + "".join(patterns)
    longest = 100 * len(text)
    for step in steps:
        text = _normalizer(step).normalize_str(text)
        if len(text) > longest:
            raise ValueError("its normalizer makes texts more than 100 times as long")


def _steps(normalizer: Any) -> Iterator[dict[str, Any]]:
    """A normalizer's steps, as tokenizer.json has them."""
    state = json.loads(normalizer.__getstate__())
    if state["type"] != "Sequence":
        yield state
    for step in state.get("normalizers", ()):
        yield from _steps(_normalizer(step))


def _normalizer(step: dict[str, Any]) -> Any:
    from tokenizers.normalizers import Sequence

    one = Sequence([])
    one.__setstate__(json.dumps(step).encode())
    return one


def _check_vocabulary(tokenizer: Any, config: Any, name: str) -> None:
    """CurateError where text can become a token beyond the embeddings.

    Special tokens that no template writes (of images, say) never come up, so they do not count.
    """
    size = getattr(config.get_text_config(), "vocab_size", None)
    vocabulary = tokenizer.get_vocab()
    if size is None or max(vocabulary.values(), default=0) < size:
        return
    template = str(tokenizer.chat_template or "")
    special = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and token.content not in template
    } - {tokenizer.bos_token, tokenizer.eos_token}
    largest = max(number for token, number in vocabulary.items() if token not in special)
    if largest >= size:
        raise CurateError(
            f"the tokenizer of {name!r} has a token {largest}, and its model only {size} "
            "embeddings: they do not belong together"
        )


def _mend_generation_config(model: Any, name: str) -> None:
    """Let the model be saved: transformers refuses a temperature that is not sampled with."""
    settings = model.generation_config
    if settings is None:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True
        say(
            f"note: generation_config.json of {name} sets a temperature or top_p without "
            "do_sample; taken as do_sample = true"
        )
