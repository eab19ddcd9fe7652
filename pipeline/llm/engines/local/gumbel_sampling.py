"""Sampling by the Gumbel maximum, with noise from a counter: a function of the request alone.

argmax over tokens v of z_v + T·G_v is a sample of softmax(z / T) where the G_v are independent
Gumbel noise. Here G_v = -log(-log(1 - U_v)) and U_v is a hash of (stream, position, v): `stream`
names the request, and `position` counts the tokens before the new one. Nothing depends on what is
computed beside it, so that a request has one reply, in whatever batch and order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WORD = 1 << 32
BLOCK = 1 << 15  # logits at once on a CPU: one thread's work, and in its cache
LANES = 64  # a multiple of any vector's length
HALVINGS = 40  # of the interval in which the nucleus' least probability is sought


class GumbelSampler:
    """In the place of a batching manager's logits processors: makes its argmax a sample.

    A request says `temperature` (0: greedily), `top_p` and `stream` as it is added. They go to the
    device as rows of an int32 tensor, so that a CUDA graph replays with new ones.
    """

    tensors_required = 4  # the temperature, top_p, and the two words of the noise's key
    do_processing = True

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Whatever a request says was written by us."""

    def fill_defaults(self, rows: "Tensor") -> None:
        """Greedily."""
        rows.zero_()

    def prepare_tensor_args(
        self, requests_in_batch: Sequence[Any], arg_storage: "Tensor"
    ) -> "Tensor":
        """Write a column for each request of which a token is predicted, in their order."""
        import torch

        states = [request.state for request in requests_in_batch if request.has_new_token]
        said = [state.logit_processor_kwargs for state in states]
        floats = [[one.get("temperature", 0.0), one.get("top_p", 1.0)] for one in said]
        words = [
            _words(one.get("stream", 0), state.position_offset)
            for one, state in zip(said, states, strict=True)
        ]
        if states:
            columns = arg_storage[: self.tensors_required, : len(states)]
            columns[:2] = torch.tensor(floats, dtype=torch.float32).view(torch.int32).T
            columns[2:] = torch.tensor(words, dtype=torch.int32).T
        return arg_storage

    def __call__(self, input_ids: "Tensor", scores: "Tensor", arguments: "Tensor") -> "Tensor":
        """The logits [N, V] with their noise; what is outside of the nucleus is -inf."""
        import torch

        temperature, top_p = arguments[:2, : len(scores), None].view(torch.float32)
        words = arguments[2:, : len(scores), None].transpose(0, 1)
        rows = len(scores) if scores.is_cuda else max(1, BLOCK // scores.shape[1])
        parts = zip(*(t.split(rows) for t in (scores, temperature, top_p, words)), strict=True)
        return torch.cat([_sampled(*part) for part in parts])


def _sampled(scores: "Tensor", temperature: "Tensor", top_p: "Tensor", words: "Tensor") -> "Tensor":
    """z + T·G within the nucleus [N, V]; T and top_p [N, 1], the key's words [N, 2, 1]."""
    import torch

    look = not scores.is_cuda  # at values: not there, where the kernels may be captured
    if look and not temperature.any():
        return scores
    if not look or (top_p < 1).any():
        warm = torch.where(temperature > 0, temperature, 1)
        kept = nucleus((scores / warm).softmax(-1), torch.where(temperature > 0, top_p, 1))
        scores = scores.masked_fill(~kept, -torch.inf)
    return scores + temperature * gumbel_noise(words[:, 0], words[:, 1], scores.shape[1])


def nucleus(probabilities: "Tensor", top_p: "Tensor") -> "Tensor":
    """Whether a token is of the likeliest whose probabilities reach `top_p`; equal ones all are.

    The least probability is found by halving, without a sort: all that is at least `low` reaches
    `top_p`, all that is at least `high` does not.
    """
    import torch

    low, high = torch.zeros_like(top_p), torch.ones_like(top_p)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = torch.where(probabilities >= middle, probabilities, 0).sum(-1, True) >= top_p
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
    return (probabilities >= low) | (top_p >= 1)


def gumbel_noise(first: "Tensor", second: "Tensor", size: int) -> "Tensor":
    """Gumbel noise [N, size] of the key's two words [N, 1], int32."""
    import torch

    # Rows of whole vectors: below that logarithms are computed otherwise, with other last bits.
    tokens = torch.arange(-(-size // LANES) * LANES, dtype=torch.int32, device=first.device)
    bits = _mixed(_mixed(tokens + first).bitwise_xor_(second)).bitwise_and_(0x7FFFFFFF)
    # Small u is great noise: it has all its bits in float32, and u = 1 is left out.
    uniform = bits.float().add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()[:, :size]


def _mixed(x: "Tensor") -> "Tensor":
    """A bijection of 32-bit words that spreads each bit over all (lowbias32 of C. Wellons)."""
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x *= 0x7FEB352D
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= 0x846CA68B - WORD
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    return x


def _words(stream: int, position: int) -> tuple[int, int]:
    """The key of a position's noise as two signed words: SplitMix64 at that place of the stream."""
    x = (stream + (position + 1) * 0x9E3779B97F4A7C15) % (1 << 64)
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % (1 << 64)
    x = (x ^ x >> 27) * 0x94D049BB133111EB % (1 << 64)
    x ^= x >> 31
    high, low = divmod(x, WORD)
    return high - (WORD >> 1), low - (WORD >> 1)
