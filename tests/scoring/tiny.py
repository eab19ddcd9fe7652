"""Tiny students of random weights, and the obvious way to score that ours is held against."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curate.pipeline.scoring.forward.packing import Ids, Span
from curate.pipeline.scoring.scorer import Scorer

VOCABULARY = 400
CONTEXT = 256
CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TEXTS = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: ASSISTANT: Input:",
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request. ### Instruction:",
    "Below is the response to an instruction, please guess the corresponding instruction for the "
    "given response. Generate the instruction for the above response.",
    "Say which of the animals in the list can fly, and tell me why the others cannot.",
)


def byte_level(
    *,
    bos: str | None = "<s>",
    eos: str | None = "</s>",
    ends: bool = False,
    in_front: bool = True,
    space: bool = False,
    chat: str | None = CHAT,
) -> Any:
    """A byte-level BPE tokenizer of 400 tokens: `bos` goes in front, `eos` behind if `ends`.

    With `space`, texts are tokenised as if they had one in front.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    around = f"{bos if bos and in_front else ''} $A {eos if ends else ''}".strip()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=list(zip(special, (0, 1), strict=True))
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    wrapped.chat_template = chat
    return wrapped


def llama(**settings: Any) -> Any:
    """A Llama of two layers whose every token depends on all before it."""
    given = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    torch.manual_seed(0)
    return lively(LlamaForCausalLM(LlamaConfig(**given | settings)))


def lively(model: Any) -> Any:
    """Weights so large that attention is sharp: transformers' own hardly look at the context."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                wide = 1.0 if "emb" in name or "wte" in name or "wpe" in name else 0.3
                weight.copy_(torch.randn(weight.shape, generator=noise) * wide)
            elif "bias" in name:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    model.tie_weights()
    return model.eval()


def save_student(folder: Path, model: Any = None, tokenizer: Any = None) -> Path:
    """Model and tokenizer as a student's folder."""
    (model or llama()).save_pretrained(folder)
    (tokenizer or byte_level()).save_pretrained(folder)
    return folder


def some_spans(
    header: Ids,
    lengths: Sequence[int] = (100, 61, 40, 23, 12, 3, 2),
    *,
    vocabulary: int = VOCABULARY,
) -> list[Span]:
    """Spans of random tokens: of each length one without and one behind the header."""
    random = np.random.default_rng(5)

    def tokens(number: int) -> Ids:
        return random.integers(2, vocabulary, number, dtype=np.int32)

    bare = [Span(tokens(length), 1 + length // 3) for length in lengths]
    headed = [Span(np.concatenate((header, tokens(n))), len(header) + 1 + n // 3) for n in lengths]
    return bare + headed


def some_header(length: int = 9, vocabulary: int = VOCABULARY) -> Ids:
    """The token ids of an opening."""
    return np.random.default_rng(6).integers(2, vocabulary, length, dtype=np.int32)


def score_with(
    student: Any, spans: Sequence[Span], headers: Sequence[Ids] = (), budget: int = 256
) -> npt.NDArray[np.float64]:
    """The mean NLLs by our scorer."""
    with closed(Scorer(student, headers, batch_tokens=budget)) as scorer:
        return scorer.nll(spans)


@contextmanager
def closed(scorer: Scorer) -> Iterator[Scorer]:
    """Ends a scorer's threads."""
    try:
        yield scorer
    finally:
        scorer.close()


def one_at_a_time(model: Any, spans: Sequence[Span], *, double: bool = True) -> Any:
    """The oracle: the model's own eager forward on one sequence, all logits, log_softmax [N]."""
    own = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    return np.array([_mean_nll(own.double() if double else own, span) for span in spans])


@torch.inference_mode()
def _mean_nll(model: Any, span: Span) -> float:
    ids = torch.from_numpy(span.ids.astype(np.int64))
    log_probs = model(input_ids=ids[None], use_cache=False).logits[0].double().log_softmax(-1)
    return float(-log_probs[span.start - 1 : -1].gather(1, ids[span.start :, None]).mean())
