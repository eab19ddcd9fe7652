"""The errors a user can act on; anything else that escapes is a bug."""


class CurateError(Exception):
    """Something the user can fix: what, the value, where, the next step. Exit code 1."""

    exit_code = 1


class UsageError(CurateError):
    """Wrong usage of an option, found after parsing. Exit code 2."""

    exit_code = 2


class BudgetReached(CurateError):
    """A budget stopped the run; what was paid for is kept. Exit code 4, resumable."""

    exit_code = 4


class RequestFailed(Exception):
    """One request got no usable answer: that candidate is `failed`, the run goes on."""
