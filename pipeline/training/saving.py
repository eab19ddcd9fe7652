"""Loads weights to train, and saves what came out: model, tokenizer and model card."""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import CurateError
from ..models.loading import load_causal_lm, load_config, load_tokenizer

LIBRARIES = ("curate-reflection", "torch", "transformers", "trl", "accelerate", "datasets", "peft")
CARD = """---
{front}
tags: [curate, sft]
---

# {name}, fine-tuned

Supervised fine-tuning on curated data. The loss counts the response and its end only; losses are
mean negative log-likelihoods of a token, in nats.

| | |
|---|---|
{facts}

## Settings (preset {preset})

| setting | value |
|---|---|
{settings}

![loss curve](loss.png)

The curve's numbers are in `loss.csv`; the library versions and the rest are in `training.json`.
"""


def lora_config(rank: int, alpha: int, dropout: float) -> Any:
    """Adapters on every linear layer but the head."""
    try:
        from peft import LoraConfig
    except ImportError:
        raise CurateError("LoRA needs peft: pip install 'curate-reflection[lora]'") from None
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def save_trained(trainer: Any, base: str, revision: str | None, folder: Path) -> None:
    """Write the whole model in the dtype of `base`, adapters merged, with the tokenizer of `base`.

    Every process must call this, since a sharded model is gathered from all; one of them writes.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.accelerator.is_main_process:
        return
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder / "adapter", state_dict=weights)
        _merged(base, revision, folder / "adapter").save_pretrained(folder)
    else:
        dtype = load_config(base, revision).get_text_config().dtype
        model.save_pretrained(folder, state_dict=_cast(weights, dtype))
        model.config.dtype = dtype or model.dtype  # `save_pretrained` noted that of training
        model.config.save_pretrained(folder)
    # Loaded afresh, for the trainer gives its own a padding token.
    load_tokenizer(base, revision).save_pretrained(folder)


def _merged(base: str, revision: str | None, adapter: Path) -> Any:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_causal_lm(base, revision, dtype=None), str(adapter))
    return model.merge_and_unload()


def _cast(weights: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """All floating-point weights in `dtype`; tied ones stay tied, so that they are saved once."""
    cast: dict[int, Any] = {}
    for tensor in weights.values():
        if tensor.data_ptr() not in cast:
            change = dtype is not None and tensor.is_floating_point()
            cast[tensor.data_ptr()] = tensor.to(dtype) if change else tensor
    return {name: cast[tensor.data_ptr()] for name, tensor in weights.items()}


def versions() -> dict[str, str]:
    """Python and the libraries that training stands on, where installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_card(manifest: Mapping[str, Any]) -> str:
    """The README of a trained model, from its training.json."""
    result, settings, model = manifest["result"], manifest["settings"], manifest["model"]
    facts = {
        "base model": f"`{model}`",
        **{str(name): f"`{value}`" for name, value in manifest["source"].items()},
        "data fingerprint": f"`{manifest['data']}`",
        "records trained on": result["rows"],
        "of all, cut": f"{result['cut']} at {result['max_length']} tokens",
        "records dropped": _counts(result["dropped"]),
        "prompt template": f"`{manifest['template']}`",
        "steps": result["steps"],
        "training loss, first and last step": _ends(result["train_loss"]),
        "held-out loss, before and after": _held_out(result),
    }
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    if not Path(model).exists():
        front.append(f"base_model: {model}")
    table = [f"| {name} | {value} |" for name, value in facts.items()]
    chosen = [f"| {name} | {value} |" for name, value in settings.items() if value is not None]
    return CARD.format(
        front="\n".join(front),
        name=Path(model).name,
        facts="\n".join(table),
        preset=manifest["preset"],
        settings="\n".join(chosen),
    )


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"


def _ends(curve: Any) -> str:
    return f"{curve[0][1]:.4f}, {curve[-1][1]:.4f}" if curve else "no step"


def _held_out(result: Mapping[str, Any]) -> str:
    if result["held_out_before"] is None:
        return "none was held out"
    before, after = result["held_out_before"], result["held_out_after"]
    rows, tokens = result["held_out_rows"], result["held_out_tokens"]
    return f"{before:.4f}, {after:.4f} ({rows} records, {tokens} tokens)"
