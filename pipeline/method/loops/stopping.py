"""When a loop has got worse, and which iteration is the best."""

from collections.abc import Sequence

from ...base.tables import many
from .measures import Measures

LOSS = 1.05
TIES, IDENTICAL = 0.8, 0.9
LENGTH = 1.5


def stop_before_training(now: Measures, *, min_pairs: int) -> str | None:
    """Why an iteration's pairs are not worth a training; None where they are."""
    if (now.ties or 0) > TIES:
        return (
            f"{now.ties:.0%} of the prompts of iteration {now.iteration} are ties: the reward does "
            "not tell the answers apart"
        )
    if (now.identical or 0) > IDENTICAL:
        return (
            f"{now.identical:.0%} of the prompts of iteration {now.iteration} have answers of one "
            "text: there is nothing left to learn from them"
        )
    if (now.trained_on or 0) < max(min_pairs, 1):
        return (
            f"iteration {now.iteration} has {many(now.trained_on or 0, 'pair')} to train on, fewer "
            f"than --min-pairs {max(min_pairs, 1)}"
        )
    return None


def stop_after(history: Sequence[Measures]) -> str | None:
    """Why the last iteration is worse than those before; None where it is not known to be.

    The held-out loss is held against the lowest before, the length against iteration 0's.
    """
    *before, now = history
    if not before:
        return None
    beaten = now.wins_previous
    if beaten and beaten.score is not None and beaten.score < 1 and _below_one(beaten.interval):
        return (
            f"iteration {now.iteration} loses to the one before: winning score {beaten.score:.3f}, "
            "with its interval below 1"
        )
    losses = [one.held_out_loss for one in before if one.held_out_loss is not None]
    if now.held_out_loss is not None and losses and now.held_out_loss > LOSS * min(losses):
        return (
            f"the held-out loss of iteration {now.iteration} is {now.held_out_loss:.4f}, more than "
            f"5 % above the lowest before, {min(losses):.4f}"
        )
    first = before[0].length
    if now.length is not None and first and now.length > LENGTH * first:
        return (
            f"the answers of iteration {now.iteration} have {now.length:.0f} characters on "
            f"average, more than 1.5 times the {first:.0f} of iteration 0"
        )
    return None


def _below_one(interval: tuple[float, float] | None) -> bool:
    return interval is not None and interval[1] < 1


def best_of(history: Sequence[Measures]) -> int:
    """The best iteration.

    By the held-out judge's winning score against iteration 0, whose own is 1; without a judge by
    the held-out loss; without held-out records the last. Of equals the earliest.
    """
    last = history[-1]
    if last.wins_first is not None:
        scores = {
            one.iteration: one.wins_first.score or 0 if one.wins_first else 1 for one in history
        }
        return max(scores, key=lambda number: scores[number])
    if last.held_out_loss is not None:
        losses = {one.iteration: one.held_out_loss or float("inf") for one in history}
        return min(losses, key=lambda number: losses[number])
    return last.iteration
