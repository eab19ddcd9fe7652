"""Candidates -> scores: loads the student when the first score is needed, then fills in rounds."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import numpy as np
import torch

from ..config import ScoringConfig
from ..errors import CurateError
from ..executors.ray_cluster import require_ray
from ..method.corpus.diversity import Units, units
from ..method.decision import Needs, needs
from ..method.ifd import SideResult, with_side
from ..method.spans import SIDES, Pair, Side, pair
from ..models.devices import release_memory
from ..models.loading import load_tokenizer
from ..records import Candidate, CandidateKind, Score
from ..templates import Template, student_template
from .forward.packing import Span
from .identity import ScoringIdentity
from .model import device_here, load_student
from .scorer import Scorer, Tick, Values
from .tokens import SpanPair, Tokenization

log = logging.getLogger(__name__)

NOISE_SAMPLE = 64
"""Sequences on which rounding noise is measured."""
Record = dict[CandidateKind, Candidate]
Scored = dict[CandidateKind, Score]
Wanted = Callable[[Record, Scored], Needs]


class ScoringEngine:
    """Scores candidates with one student under one identity."""

    def __init__(self, config: ScoringConfig, identity: ScoringIdentity) -> None:
        self.config = config
        self.identity = identity
        self._loading = Lock()
        self._sequences = 0  # of a student that was given back

    @cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer."""
        return _tokenizer(self.config.student, self.config.revision, self.identity)

    @cached_property
    def template(self) -> Template:
        """T."""
        return student_template(self.config.template, self.tokenizer)

    @cached_property
    def tokenization(self) -> Tokenization:
        """How texts become spans."""
        return Tokenization(
            self.tokenizer,
            self.template,
            name=self.identity.tokenization,
            max_length=self.identity.max_length,
        )

    @cached_property
    def scorer(self) -> Scorer:
        """The loaded student."""
        student = load_student(
            self.config.student,
            revision=self.config.revision,
            device=device_here(self.config),
            dtype=self.identity.dtype,
            max_length=self.identity.max_length,
        )
        headers = self.tokenization.header_ids(self.template.headers())
        return Scorer(student, headers, batch_tokens=self.config.batch_tokens)

    def fill(
        self,
        records: Sequence[Record],
        scores: Sequence[Scored],
        tick: Tick = lambda _: None,
        wanted: Wanted | None = None,
    ) -> int:
        """Score what the decision needs, round after round, until it needs nothing more.

        With `score_all`, everything at once. `wanted` replaces the decision's question. Returns
        how many rounds it took. May be called from several threads.
        """
        ask = self._asking(wanted)
        rounds = 0
        while True:
            jobs = [
                (index, kind, side)
                for index, (record, known) in enumerate(zip(records, scores, strict=True))
                for kind, side in sorted(ask(record, known))
            ]
            if not jobs:
                return rounds
            self._score(jobs, records, scores, tick)
            rounds += 1

    def lacks(
        self, records: Sequence[Record], scores: Sequence[Scored], wanted: Wanted | None = None
    ) -> bool:
        """Whether `fill` would have anything to score; takes no model."""
        ask = self._asking(wanted)
        return any(ask(record, known) for record, known in zip(records, scores, strict=True))

    def _asking(self, wanted: Wanted | None) -> Wanted:
        return wanted or (everything if self.config.score_all else needs)

    def check(self) -> None:
        """Raise CurateError where what is asked for does not go together or is not installed."""
        _ = self.template, self.tokenization
        if self.config.executor == "ray":
            require_ray()

    def rounding_noise(self, records: Sequence[Record]) -> float:
        """How far half precision moves a mean NLL, measured on the responses of some records."""
        originals = [record["original"] for record in records if "original" in record]
        pairs = [pair(c, "ifd", self.template) for c in originals[:NOISE_SAMPLE] if c.valid]
        both = [(p.conditional, p.unconditional) for p in self.tokenization.span_pairs(pairs)]
        spans = [span for two in both for span in two if span is not None]
        return self.scorer.rounding_noise(spans[:NOISE_SAMPLE])

    def embed(self, texts: Sequence[str]) -> list[Units]:
        """The direction of each text's mean last hidden state, in units of 1/2048 [D].

        e = m / |m| with m = the mean of h_t over the text's tokens t, h_t being the last hidden
        state, from which the head predicts, behind the anchor token and with no template. Raises
        CurateError where there is none.
        """
        spans = [self.tokenization.text_span(text) for text in texts]
        given = [span for span in spans if span is not None]
        means = iter(self.scorer.mean_states(given))
        states = [next(means) if span is not None else None for span in spans]
        return [_embedding(text, state) for text, state in zip(texts, states, strict=True)]

    @property
    def sequences(self) -> int:
        """How many sequences the student has computed."""
        return self._sequences + (self.scorer.sequences if "scorer" in self.__dict__ else 0)

    @property
    def smaller_rows(self) -> int | None:
        """Tokens of a row since memory ran out; None where it never did."""
        halved = "scorer" in self.__dict__ and self.scorer.halved
        return self.scorer.budget if halved else None

    @property
    def neighbour_noise(self) -> float:
        """What neighbours in a row change in a score (nats); 0 before a student is loaded."""
        return self.scorer.student.noise if "scorer" in self.__dict__ else 0.0

    @property
    def window(self) -> int:
        """How many records are scored together: a CPU's rows are full sooner than a GPU's."""
        return 1000 if device_here(self.config).type == "cuda" else 100

    def close(self) -> None:
        """Give back the student's threads and memory."""
        if "scorer" in self.__dict__:
            self.scorer.close()
            self._sequences += self.scorer.sequences
            del self.scorer
            with suppress(torch.AcceleratorError):  # of a device that failed
                release_memory()

    def _score(
        self,
        jobs: Sequence[tuple[int, CandidateKind, Side]],
        records: Sequence[Record],
        scores: Sequence[Scored],
        tick: Tick,
    ) -> None:
        with self._loading:  # several threads may come here first
            template, tokenization = self.template, self.tokenization
        pairs: list[Pair] = [pair(records[i][kind], side, template) for i, kind, side in jobs]
        spans = tokenization.span_pairs(pairs)
        for (index, kind, side), result in zip(jobs, self._results(spans, tick), strict=True):
            score = scores[index].get(kind) or Score(id=records[index][kind].id, candidate=kind)
            scores[index][kind] = with_side(score, side, result)

    def _results(self, spans: Sequence[SpanPair], tick: Tick) -> list[SideResult]:
        both: list[Span | None] = [s for p in spans for s in (p.conditional, p.unconditional)]
        given = [index for index, span in enumerate(both) if span is not None]
        values = np.full((len(both), 2), np.nan)
        if given:
            with self._loading:
                scorer = self.scorer
            values[given] = scorer.mean_and_first([s for s in both if s is not None], tick)
        (conditional, first), alone = values[::2].T.tolist(), values[1::2, 0].tolist()
        return [
            SideResult(
                conditional[i], alone[i], p.status, p.num_tokens, first[i], self._too_large(p)
            )
            for i, p in enumerate(spans)
        ]

    def _too_large(self, pair: SpanPair) -> str | None:
        """Why one of the two passes found no memory."""
        known = self.scorer.too_large if "scorer" in self.__dict__ else None
        if not known:
            return None
        both = (span.key for span in (pair.conditional, pair.unconditional) if span)
        return next((known[key] for key in both if key in known), None)


@lru_cache(maxsize=1)
def _tokenizer(student: str, revision: str | None, identity: ScoringIdentity) -> Any:
    """One for all engines of an identity, which pins the tokenizer's files."""
    return load_tokenizer(student, revision)


def _embedding(text: str, state: Values | None) -> Units:
    if state is None or not np.isfinite(state).all():
        raise CurateError(
            f"the student has no finite hidden state for {text[:80]!r}: select without --diverse, "
            "or with --dtype float32"
        )
    return units(state)


def everything(
    record: Mapping[CandidateKind, Candidate], known: Mapping[CandidateKind, Score]
) -> Needs:
    """Both sides of every candidate that has a pair, as far as not known."""
    return frozenset(
        (kind, side)
        for kind, candidate in record.items()
        if candidate.valid
        for side in SIDES
        if kind not in known or getattr(known[kind], f"{side}_status") is None
    )
