"""The child process that compares mathematical expressions by math-verify.

A line of JSON [given answer, expression, seconds] comes in, a line with the outcome goes out. Its
timeouts go by SIGALRM, so that they hold in a main thread alone; what no signal interrupts is ended
by the parent.
"""

import json
import sys
from typing import Any, Literal

MathOutcome = Literal["equal", "different", "unreadable", "unreadable_answer", "timeout"]


def compare(given: str, expression: str, seconds: int) -> MathOutcome:
    """Whether an expression equals the given answer, which comes first: `verify` has an order.

    The first extraction of either side is taken: `verify` is true where any of several matches.
    """
    from math_verify import verify
    from math_verify.errors import TimeoutException

    try:
        gold, target = (_parsed(text, seconds) for text in (given, expression))
        if not gold:
            return "unreadable_answer"
        if not target:
            return "unreadable"
        equal = verify(gold, target, timeout_seconds=seconds, raise_on_error=True)
    except TimeoutException:
        return "timeout"
    except Exception:  # noqa: BLE001 - sympy raises dozens of kinds for what it cannot compare
        return "unreadable"
    return "equal" if equal else "different"


def _parsed(text: str, seconds: int) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    wrapped = text if "$" in text or "\\boxed" in text else f"${text}$"
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    found: list[Any] = parse(wrapped, kinds, parsing_timeout=seconds, raise_on_error=True)
    return found


def main() -> None:
    """Answer lines until there are no more."""
    for line in sys.stdin:
        sys.stdout.write(compare(*json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
