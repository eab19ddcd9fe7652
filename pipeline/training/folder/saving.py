"""Saves a trained model: weights, generation settings, tokenizer and chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...models.loading import load_causal_lm, load_config, load_tokenizer
from ..job import Job


def save_trained(trainer: Any, job: Job, folder: Path) -> None:
    """Write the whole model in the dtype of its base, adapters merged, ready to be served.

    Every process must call this, since a sharded model is gathered from all; one of them writes.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.accelerator.is_main_process:
        return
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if hasattr(model, "peft_config"):
        adapter = folder / "adapter"
        model.save_pretrained(adapter, state_dict=weights, selected_adapters=["default"])
        model = _merged(job, adapter)
        model.save_pretrained(folder)
    else:
        dtype = load_config(job.model, job.revision).get_text_config().dtype
        model.save_pretrained(folder, state_dict=_cast(weights, dtype))
        model.config.dtype = dtype or model.dtype  # `save_pretrained` noted that of training
        model.config.save_pretrained(folder)
    _save_serving(model, job, folder)


def _save_serving(model: Any, job: Job, folder: Path) -> None:
    """What a server reads beside the weights: the tokens to stop on, and the chat template."""
    settings = model.generation_config
    ends = settings.eos_token_id
    ends = list(ends) if isinstance(ends, list) else [] if ends is None else [ends]
    settings.eos_token_id = list(dict.fromkeys([*ends, job.serving.end[-1]]))
    settings.save_pretrained(folder)
    # Loaded afresh, for the trainer gives its own a padding token.
    tokenizer = load_tokenizer(job.model, job.revision)
    if job.serving.chat_template is not None:
        tokenizer.chat_template = job.serving.chat_template
    tokenizer.save_pretrained(folder)


def _merged(job: Job, adapter: Path) -> Any:
    from peft import PeftModel

    base = load_causal_lm(job.model, job.revision, dtype=None)
    return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()


def _cast(weights: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """All floating-point weights in `dtype`; tied ones stay tied, so that they are saved once."""
    cast: dict[int, Any] = {}
    for tensor in weights.values():
        if tensor.data_ptr() not in cast:
            change = dtype is not None and tensor.is_floating_point()
            cast[tensor.data_ptr()] = tensor.to(dtype) if change else tensor
    return {name: cast[tensor.data_ptr()] for name, tensor in weights.items()}
