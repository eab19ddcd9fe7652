"""Log-probabilities under the reference, by the scorer, and kept beside the training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...base.files import read_parquet, write_parquet
from ...base.progress import Progress
from ...config import Dtype
from ...errors import CurateError
from ...inputs.model_files import revision_of
from ...models.loading import load_tokenizer
from ..job import Job
from .pair_rows import Ids

FOLDER = "reference"
PART = 512  # answers whose log-probabilities are written together
Answer = tuple[Ids, Ids]
"""A prompt's tokens and an answer's, with its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The model that the trained one is tied to; `weights` pin its files."""

    model: str
    revision: str | None
    weights: str

    @classmethod
    def of(cls, model: str, revision: str | None) -> "Reference":
        """The reference of this name."""
        return cls(model=model, revision=revision, weights=revision_of(model, revision))


def check_tokens(model: str, revision: str | None, reference: str) -> None:
    """CurateError where the reference's tokens are not the model's."""
    own, other = load_tokenizer(model, revision), load_tokenizer(reference)
    if own.get_vocab() != other.get_vocab():
        raise CurateError(
            f"the reference {reference} has another vocabulary than {model} ({len(other)} and "
            f"{len(own)} tokens): their log-probabilities cannot be compared"
        )


def log_probabilities(
    job: Job, reference: Reference, answers: Sequence[Answer], *, title: str = "reference"
) -> list[float]:
    """The summed log-probability (nats) of each answer, its end included, behind its prompt.

    Parts that an interrupted training wrote are taken as they are; each process makes its share.
    """
    parts = [
        _Part(job.out / FOLDER / f"part-{index:05d}.parquet", answers[begin : begin + PART])
        for index, begin in enumerate(range(0, len(answers), PART))
    ]
    dtype: Dtype = "bfloat16" if job.bf16 else "float32"
    lacking = [part for part in parts if part.read(reference, dtype) is None]
    if share := lacking[job.state.process_index :: job.state.num_processes]:
        _score(job, reference, dtype, share, title)
    job.state.wait_for_everyone()
    found = [value for part in parts for value in part.read(reference, dtype) or ()]
    assert len(found) == len(answers)
    if not np.isfinite(found).all():
        raise CurateError(
            f"the reference {reference.model} gives no finite log-probability for some answers: "
            "train with --precision float32, or take another --reference"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    answers: Sequence[Answer]

    def read(self, reference: Reference, dtype: Dtype) -> list[float] | None:
        """What is in the file, None unless it is of these answers under this reference."""
        known = read_parquet(self.path)
        if known is None or known[1] != self.identity(reference, dtype):
            return None
        values: list[float] = known[0].column("log_probability").to_pylist()
        return values

    def write(self, values: Any, reference: Reference, dtype: Dtype) -> None:
        import pyarrow as pa

        tokens = [len(answer) for _, answer in self.answers]
        table = pa.table({"log_probability": values, "tokens": tokens})
        write_parquet(self.path, table, **self.identity(reference, dtype))

    def identity(self, reference: Reference, dtype: Dtype) -> dict[str, str]:
        digest = hashlib.sha256(json.dumps(self.answers).encode()).hexdigest()
        return {"reference": reference.weights, "dtype": dtype, "answers": digest}


def _score(
    job: Job, reference: Reference, dtype: Dtype, parts: Sequence[_Part], title: str
) -> None:
    """Fill the parts with one student, whose memory is given back."""
    from ...models.devices import release_memory
    from ...scoring.forward.packing import Span
    from ...scoring.model import load_student
    from ...scoring.scorer import Scorer

    student = load_student(
        reference.model,
        revision=reference.revision,
        device=job.state.device,
        dtype=dtype,
        max_length=job.recipe.row_tokens,
    )
    scorer = Scorer(student)
    total = sum(len(part.answers) for part in parts)
    with Progress(title, total=total, unit="answers") as progress:
        for part in parts:
            spans = [
                Span(np.array(prompt + answer, dtype=np.int32), len(prompt))
                for prompt, answer in part.answers
            ]
            means = scorer.nll(spans, progress.advance)
            values = -means * [span.num_targets for span in spans]
            part.write(values, reference, dtype)
    scorer.close()
    del student, scorer
    release_memory()
