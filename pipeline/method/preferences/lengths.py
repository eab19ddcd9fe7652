"""How far the length of an answer alone tells which one was chosen, and how to even it out."""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def length_ratio(first: str, second: str) -> float:
    """How many times as many characters the longer text has; infinite beside an empty one.

    >>> length_ratio("ab", "abcdef")
    3.0
    """
    shorter, longer = sorted((len(first), len(second)))
    return longer / shorter if shorter else float("inf")


def length_auc(chosen: Integers, rejected: Integers) -> float | None:
    """The area under the ROC curve of "the longer an answer, the likelier it is chosen".

    The probability that a chosen answer is longer than a rejected one of any pair, equal lengths
    counting half (Mann-Whitney); 0.5 says that length tells nothing. None without pairs.

    >>> length_auc(np.array([3, 5]), np.array([1, 3]))
    0.875
    """
    if not chosen.size:
        return None
    ordered = np.sort(rejected)
    shorter = ordered.searchsorted(chosen, "left")
    not_longer = ordered.searchsorted(chosen, "right")
    return float((shorter + not_longer).mean() / (2 * ordered.size))


def balanced(differences: Integers, margins: Floats, keys: npt.NDArray[np.uint64]) -> Mask:
    """Which pairs stay so that the chosen answer is as often the longer as the shorter one.

    `differences` are the lengths of chosen minus rejected. Of the more frequent kind those with
    the smallest margins go, ties by `keys`; pairs of equal lengths stay.

    >>> keys = np.arange(3, dtype=np.uint64)
    >>> balanced(np.array([4, 1, -2]), np.array([0.3, 0.1, 0.2]), keys)
    array([ True, False,  True])
    """
    longer, shorter = (differences > 0).nonzero()[0], (differences < 0).nonzero()[0]
    larger = longer if longer.size > shorter.size else shorter
    weakest = np.lexsort((keys[larger], margins[larger]))
    stay = np.ones(differences.size, np.bool_)
    stay[larger[weakest[: abs(longer.size - shorter.size)]]] = False
    return stay
