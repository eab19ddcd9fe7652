"""A reference that follows the model (TR-DPO, arXiv 2404.09656), kept with every checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "moving_reference.safetensors"
ADAPTER = "ref"  # TRL's name for the reference among the adapters of a LoRA model


@dataclass(frozen=True, slots=True)
class MovingReference:
    """reference <- (1 - alpha) reference + alpha model, every so many steps.

    With LoRA the factors A and B are averaged, not their product.
    """

    trainer: Any
    alpha: float
    every: int

    def follow(self, step: int) -> None:
        """Update the reference after an optimiser step."""
        import torch

        if step % self.every:
            return
        with torch.no_grad():
            for _, weight, reference in self._weights():
                reference.lerp_(weight, self.alpha)

    def save(self, checkpoint: Path) -> None:
        """Put the reference into the checkpoint.

        The adapter's own folder goes: the library would read it alone when it resumes, and leave
        the trained adapter at its beginning.
        """
        import shutil

        from safetensors.torch import save_file

        shutil.rmtree(checkpoint / ADAPTER, ignore_errors=True)
        tensors = {name: reference.contiguous() for name, _, reference in self._weights()}
        save_file(tensors, checkpoint / FILE)

    def restore(self, checkpoint: Path) -> None:
        """Take the reference from the checkpoint."""
        import torch
        from safetensors.torch import load_file

        kept = load_file(checkpoint / FILE)
        with torch.no_grad():
            for name, _, reference in self._weights():
                reference.copy_(kept[name])

    def _weights(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, weight and its counterpart in the reference, each once."""
        unwrap = self.trainer.accelerator.unwrap_model
        own = dict(unwrap(self.trainer.model).named_parameters())
        if self.trainer.ref_model is not None:
            for name, reference in unwrap(self.trainer.ref_model).named_parameters():
                yield name, own[name], reference
            return
        for name, weight in own.items():
            if ".default." in name:
                yield name, weight, own[name.replace(".default.", f".{ADAPTER}.")]
