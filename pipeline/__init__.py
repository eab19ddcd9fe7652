"""curate in Python: `from curate.pipeline import score, reflect, select, …`.

The functions take data as a path, a hub id, a `datasets.Dataset` or a list of dicts, and the
options of the command of the same name as keywords. They are loaded when they are used.
"""

# ruff: noqa: F403, F405 - what is listed below is in api.py

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *

    __version__: str

__all__ = [
    "CurateError", "__version__", "align", "bpc", "check", "compare", "evaluate", "explain",
    "export", "finetune", "generate", "improve", "judge", "pairs", "reflect", "report", "run",
    "score", "select", "solve", "status", "synthesize",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("curate-reflection")
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
