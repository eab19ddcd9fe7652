"""A model under transformers' continuous batching: loaded, sized, started, ended."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....base.progress import say
from ....config import Role
from ....errors import CurateError
from ....models.devices import pick_device, pick_dtype, release_memory
from ....models.loading import load_causal_lm, load_tokenizer, tokenizer_errors
from ....records import Message
from ...flow_control import RESUME
from .gumbel_sampling import GumbelSampler

CPU_BATCH = 16  # requests at once on a CPU: each attends over the cache of all, masked
CPU_BATCH_TOKENS = 512
ROOM = 4096  # tokens that a request is given room for in the cache of a CPU


@dataclass(frozen=True, slots=True)
class Settings:
    """Which model, where, for how many requests at once, with how many bytes of cache.

    `chat` is whether prompts come as messages, which takes a chat template.
    """

    model: str
    revision: str | None
    device: str
    ceiling: int
    memory: int | None
    role: Role = "teacher"
    chat: bool = True


@dataclass(slots=True)
class LoadedModel:
    """A loaded model and the running manager of its batches; `context` is in tokens."""

    model: Any
    tokenizer: Any
    manager: Any
    ends: frozenset[int]
    context: int

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's tokens, in the model's own chat template."""
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        with tokenizer_errors(self.tokenizer.name_or_path):
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: list[int]) -> str:
        """The text of a reply's tokens, special ones left out."""
        with tokenizer_errors(self.tokenizer.name_or_path):
            text = self.tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return str(text)

    def stop(self) -> None:
        """End the thread at once (what it was working on fails) and free everything."""
        self.manager.stop(block=True, hard_stop=True)
        self.manager.destroy()
        self.manager = self.model = self.tokenizer = None
        release_memory()


def start_model(settings: Settings) -> LoadedModel:
    """The model loaded and its manager's thread begun.

    Raises CurateError for what cannot be loaded, has no chat template or does not fit.
    """
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    name = settings.model
    device = pick_device(settings.device, option=f"the {settings.role}'s device")
    tokenizer = load_tokenizer(name, settings.revision)
    if settings.chat and not tokenizer.chat_template:
        raise CurateError(
            f"{name} has no chat template: take a model tuned for instructions as "
            f"--{settings.role}, or put a chat_template.jinja into its folder"
        )
    say(f"{settings.role}: loading {name} on {device}")
    dtype = pick_dtype(device, otherwise="float16")
    model = load_causal_lm(name, settings.revision, dtype=dtype, device=device)
    try:
        return _started(model, tokenizer, settings)
    except (RuntimeError, MemoryError, ValueError) as error:  # no memory; an architecture unknown
        raise failed(name, str(error), settings.role) from None


def _started(model: Any, tokenizer: Any, settings: Settings) -> LoadedModel:
    from transformers import GenerationConfig

    text = model.config.get_text_config()
    ends = _ends(model, tokenizer)
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(eos_token_id=sorted(ends) or -1, do_sample=False),
        continuous_batching_config=_batching(model, settings),
    )
    manager.logit_processor = GumbelSampler()
    manager.warmup()  # makes the cache here, so that want of memory shows now
    manager.start()
    sizes = manager.continuous_batching_config
    page = getattr(sizes, "page_size", None) or sizes.block_size  # named so before 5.18
    context = min(
        getattr(text, "max_position_embeddings", None) or 1 << 30, page * sizes.num_blocks
    )
    return LoadedModel(model, tokenizer, manager, ends, context)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply: the model's and the tokenizer's."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return frozenset(end for end in [*own, tokenizer.eos_token_id] if end is not None)


def _batching(model: Any, settings: Settings) -> Any:
    """Sizes of batches and cache; a GPU's are transformers' own, of the memory that is free."""
    import torch
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    if model.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(model.device)
        taken = torch.cuda.memory_reserved(model.device)
        share = min(0.85, 0.85 * free / (total - taken))  # of all that is not ours yet
        batching = ContinuousBatchingConfig(max_memory_percent=share)
        batching.max_requests_per_batch = settings.ceiling
        return batching
    batch = min(settings.ceiling, CPU_BATCH)
    batching = ContinuousBatchingConfig(max_batch_tokens=CPU_BATCH_TOKENS)
    batching.max_requests_per_batch = batch
    page = getattr(batching, "page_size", None) or batching.block_size
    batching.num_blocks = max(1, _cached_tokens(model, settings, batch) // page)
    return batching


def _cached_tokens(model: Any, settings: Settings, batch: int) -> int:
    """Tokens in the cache of a CPU: room for a batch and one whole context, if memory allows."""
    text = model.config.get_text_config()
    context = getattr(text, "max_position_embeddings", None) or ROOM
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    pairs = (getattr(text, "num_key_value_heads", None) or heads) * width
    size: int = 2 * text.num_hidden_layers * pairs * model.dtype.itemsize
    memory = settings.memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    wanted: int = max(batch * min(context, ROOM), context) + 256
    return min(wanted, memory // size)


def failed(name: str, why: str, role: Role = "teacher") -> CurateError:
    """What a user is told when the model cannot run here, or no longer."""
    said = " ".join(why.split())[:300]
    memory = "memory" in said.lower()
    step = "take a smaller --concurrency, --max-tokens or model, and " if memory else ""
    return CurateError(f"the {role} {name} failed: {said}; {step}{RESUME}")
