"""A diverse subset: greedy facility location over unit vectors, exact in its arithmetic."""

import numpy as np
import numpy.typing as npt

SCALE = 1 << 11
"""Vectors are kept as integers in units of 1/2048.

Their products, and all partial sums of these, are then integers below 2**24, which float32 holds
exactly: no library, number of threads or order of summation changes a choice.
"""
ROOM = 1 << 26
"""Similarities that are held at once: 256 MiB of them, those of 8,192 vectors with one another."""
CROWD = 1 << 16
"""At most so many vectors are to be represented; of more, those at every k-th place."""
_BLOCK = 64

Units = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]


def units(vector: npt.NDArray[np.float64]) -> Units:
    """A vector brought to length 1, in units of 1/`SCALE`; one that is zero stays so."""
    length = float(np.linalg.norm(vector))
    whole: Units = np.rint(vector / (length or 1.0) * SCALE).astype(np.int16)
    return whole


def diverse(vectors: Units, number: int, *, room: int = ROOM, crowd: int = CROWD) -> list[int]:
    """Places of `number` of the vectors [N, D], in rising order; ties go to the lower place.

    Maximises f(S) = sum over all i of max over j in S of (1 + v_i . v_j), each time adding the
    place that gains most. Where N * N similarities are more than `room`, candidates come in parts,
    those at every k-th place: each part in turn adds its share of the number, by what it gains
    beyond all that was chosen before. Time grows with N * min(N, `crowd`).
    """
    represented = vectors[:: -(-len(vectors) // crowd) or 1]
    parts = -(-len(vectors) * len(represented) // room)
    covered = np.full(len(represented), -(SCALE**2), np.float32)
    chosen: list[int] = []
    for index in range(parts):
        places = np.arange(index, len(vectors), parts)
        share = number // parts + (index < number % parts)
        added, covered = facility_location(_products(vectors[places], represented), share, covered)
        chosen += places[added].tolist()
    return sorted(chosen)


def facility_location(similar: Floats, number: int, covered: Floats) -> tuple[list[int], Floats]:
    """The rows of `similar` [C, N] that exact greedy chooses, in its order, found lazily.

    `covered` [N] is the highest similarity to what was chosen before; how it is then comes back. A
    gain only shrinks as others are chosen (Minoux 1978), so that an old one is a bound: the best
    bounds are brought up to date, a block at a time, until the best of all is.
    """
    bounds = np.full(len(similar), np.inf)
    chosen: list[int] = []
    while len(chosen) < min(number, len(similar)):
        fresh = np.zeros(len(similar), np.bool_)
        fresh[chosen] = True
        while not fresh[best := int(bounds.argmax())]:
            stale = np.flatnonzero(~fresh)
            block = stale[np.argsort(-bounds[stale], kind="stable")[:_BLOCK]]
            bounds[block] = _gains(similar[block], covered)
            fresh[block] = True
        chosen.append(best)
        bounds[best] = -np.inf
        covered = np.maximum(covered, similar[best])
    return chosen, covered


def _products(a: Units, b: Units) -> Floats:
    """All scalar products [A, B], in units of 1/`SCALE`**2."""
    found = np.empty((len(a), len(b)), np.float32)
    whole = a.astype(np.float32)
    for begin in range(0, len(b), 4096):
        found[:, begin : begin + 4096] = whole @ b[begin : begin + 4096].astype(np.float32).T
    return found


def _gains(similar: Floats, covered: Floats) -> npt.NDArray[np.float64]:
    """How much each row would add to f, in units of 1/`SCALE`**2 [B]."""
    gains: npt.NDArray[np.float64] = np.maximum(similar - covered, 0).sum(axis=1, dtype=np.float64)
    return gains
