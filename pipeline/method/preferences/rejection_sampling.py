"""Statistical rejection sampling of RSO (Liu et al. 2023, arXiv 2309.06657, algorithm 1)."""

import math
from collections.abc import Sequence
from random import Random


def statistical_rejection(
    rewards: Sequence[float], *, keep: int, beta: float, generator: Random
) -> list[int]:
    """The places of `keep` accepted candidates, in the order of acceptance.

    Sweeps over the candidates that are left, in sampling order, and accepts one with the
    probability exp((reward - highest) / beta), the highest being of those left when the sweep
    began; it ends in the middle of a sweep. With beta towards 0 the best are accepted, with a
    large one the first. All are accepted where there are no more than `keep`.

    Two faults of the paper's printed code are avoided. It keeps rewards by text, so that equal
    samples become one; here a candidate is a place. It fails where fewer than `keep` are left.

    >>> statistical_rejection([1.0, 3.0, 2.0], keep=2, beta=1e-6, generator=Random(0))
    [1, 2]
    """
    left, accepted = list(range(len(rewards))), list[int]()
    while left and len(accepted) < keep:
        highest = max(rewards[place] for place in left)
        rest = []
        for place in left:
            probability = math.exp((rewards[place] - highest) / beta)
            if len(accepted) < keep and generator.random() < probability:
                accepted.append(place)
            else:
                rest.append(place)
        left = rest
    return accepted
