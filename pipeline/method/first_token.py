"""How much of the conditional NLL the first target tokens carry: whether the template fits.

A prompt that ends where no text of the student's training goes on in that way makes the first
token of every target improbable, which weighs on short targets.
"""

from dataclasses import dataclass

from ..records import Score

OUT_OF_PROPORTION = 4.0
"""From so many times a further token's mean NLL on, the first token's is too high."""


@dataclass(slots=True)
class FirstTokens:
    """Sums over the valid targets of both ratios: their numbers, and NLLs in nats."""

    targets: int = 0
    tokens: int = 0
    first: float = 0.0
    total: float = 0.0

    def add(self, score: Score) -> None:
        """Count the response and the instruction of a candidate, as far as they have a score."""
        if score.ifd is not None:
            self._add(
                score.nll_first_response_token,
                score.nll_response_given_instruction,
                score.num_response_tokens,
            )
        if score.rifd is not None:
            self._add(
                score.nll_first_instruction_token,
                score.nll_instruction_given_response,
                score.num_instruction_tokens,
            )

    def _add(self, first: float | None, mean: float | None, tokens: int | None) -> None:
        assert first is not None and mean is not None and tokens is not None
        self.targets += 1
        self.tokens += tokens
        self.first += first
        self.total += mean * tokens

    def summary(self) -> dict[str, float] | None:
        """The first tokens' share of all nats, and the mean of a first and of a further token.

        None without a target of several tokens.
        """
        if self.tokens == self.targets or not self.total:
            return None
        return {
            "share": self.first / self.total,
            "nats": self.first / self.targets,
            "further_nats": (self.total - self.first) / (self.tokens - self.targets),
        }

    def in_words(self, template: str) -> list[str]:
        """A sentence about the share, and a warning where it is out of proportion."""
        found = self.summary()
        if found is None:
            return []
        said = (
            f"the first token of a target costs {found['nats']:.1f} nats behind its prompt, a "
            f"further one {found['further_nats']:.1f}"
        )
        if found["nats"] <= OUT_OF_PROPORTION * found["further_nats"]:
            return [f"the {template} template fits: {said}"]
        return [
            said,
            f"warning: that is out of proportion, so short targets get ratios that are too high: "
            f"the {template} template does not fit this student; try another --template",
        ]
