"""The model card of a trained model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = """---
{front}
tags: [curate, {tag}]
---

# {name}, {title}

{about}

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


SFT = {
    "tag": "sft",
    "title": "fine-tuned",
    "about": "Supervised fine-tuning on curated data. The loss counts the response and its end "
    "only; losses are\nmean negative log-likelihoods of a token, in nats.",
}
PREFERENCE = {
    "tag": "preference",
    "title": "trained on preference pairs",
    "about": "Preference training: of two answers to a prompt the chosen one becomes more likely "
    "against the\nrejected one. Log-probabilities are sums over an answer and its end, in nats.",
}


def model_card(manifest: Mapping[str, Any]) -> str:
    """The README of a trained model, from its training.json."""
    result, settings, model = manifest["result"], manifest["settings"], manifest["model"]
    read, curve, dropped = manifest["rows"]["input"], result["train_loss"], result["dropped"]
    facts = {
        "base model": f"`{model}`",
        **{str(name): f"`{value}`" for name, value in manifest["source"].items()},
        "data fingerprint": f"`{manifest['data']}`",
        "records trained on": result["rows"],
        "of all, cut": f"{result['cut']} at {result['max_length']} tokens",
        "input rows not used": f"{read['duplicates'] + read['rejected']} of {read['rows']}",
        "records dropped": ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()))
        or "none",
        "prompt template": f"`{manifest['template']}`",
        "steps": result["steps"],
        "training loss, first and last step": f"{curve[0][1]:.4f}, {curve[-1][1]:.4f}"
        if curve
        else "no step",
        **_measured(manifest),
    }
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    if not os.path.exists(model):
        front.append(f"base_model: {model}")
    table = [f"| {name} | {value} |" for name, value in facts.items()]
    settings = {**manifest.get("preference", {}), **settings}
    chosen = [f"| {name} | {value} |" for name, value in settings.items() if value is not None]
    return CARD.format(
        front="\n".join(front),
        name=Path(model).name,
        facts="\n".join(table),
        preset=manifest["preset"],
        **(PREFERENCE if "preference" in manifest else SFT),
        settings="\n".join(chosen),
    )


def _measured(manifest: Mapping[str, Any]) -> dict[str, str]:
    result = manifest["result"]
    if result["preferences"] is None:
        on = f", on {manifest['measured_on']}" if result["held_out_before"] is not None else ""
        return {"held-out loss (nats a response token), before and after": _held_out(result) + on}
    steps = "of the pairs trained on, first and last step"
    return {
        f"{name.replace('_', ' ')} {steps}": f"{first:.4f}, {last:.4f}"
        for name, (first, last) in result["preferences"].items()
    }


def _held_out(result: Mapping[str, Any]) -> str:
    if result["held_out_before"] is None:
        return "none was held out"
    before, after = result["held_out_before"], result["held_out_after"]
    rows, tokens = result["held_out_rows"], result["held_out_tokens"]
    return f"{before:.4f}, {after:.4f} ({rows} records, {tokens} tokens)"
