"""A command of the command line: from its words a configuration, its result printed, a code."""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass, is_dataclass
from io import TextIOWrapper
from json import dumps
from typing import Any, TypeVar

import typer

from ..base import ranks, signals
from ..base.progress import error_text, inert
from ..commands import local_paths
from ..config import configured
from ..errors import CurateError, UsageError
from .options import CONFIG, JSON, Help, parameters

INTERRUPTED = 130
FINISHED_BUT = 3
C = TypeVar("C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A command's result, the same in lines, and whether some of its records failed."""

    result: Any
    lines: Iterable[str]
    failed: bool = False


def register(
    app: typer.Typer,
    named: Callable[..., Any],
    command: Callable[[C], Output],
    *,
    example: str,
    trains: bool,
) -> None:
    """Make a command, with a name and a help, from a function of a configuration."""
    name = named.__name__
    config: type[C] = inspect.signature(command).parameters["config"].annotation

    def run(**options: Any) -> None:
        raise typer.Exit(_code(lambda: _output(name, config, command, options), name, trains))

    run.__signature__ = inspect.Signature(parameters(config))  # type: ignore[attr-defined]
    app.command(name, help=named.__doc__, epilog=f"curate {name} {example}", cls=Help)(run)


def _output(
    name: str, config: type[C], command: Callable[[C], Output], options: Mapping[str, Any]
) -> int:
    as_json = options[JSON]
    own = {name: value for name, value in options.items() if name not in (CONFIG, JSON)}
    with local_paths(name, own) as local:
        output = command(configured(config, local))
        _print([_json(output.result)] if as_json else output.lines)
    return FINISHED_BUT if output.failed else 0


def usable_streams() -> None:
    """Let the standard streams take any character; a closed one is as good as none."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # its number goes to no other file, either
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print(lines: Iterable[str]) -> None:
    texts = list(map(inert, lines))
    try:
        print(*texts, sep="\n", end="\n" if texts else "", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains of it at its end
        raise CurateError(
            f"the work is done, but standard output cannot be written: {error.strerror}"
        ) from None


def _json(result: Any) -> str:
    found = result.as_dict() if hasattr(result, "as_dict") else result
    plain = asdict(found) if is_dataclass(found) and not isinstance(found, type) else found
    return dumps(plain, indent=2, ensure_ascii=False, default=str)


def _code(work: Callable[[], int], name: str, trains: bool) -> int:
    """The exit code; an error becomes one line on stderr.

    What trains may be started by torchrun: several processes do it, and the first speaks.
    """
    try:
        if ranks.are_several() and not trains:
            raise UsageError(f"torchrun starts what trains, not `{name}`")
        stdout = sys.stdout if ranks.is_first() else None
        with signals.interruptible(), redirect_stdout(stdout):
            code = work()
        ranks.leave()
    except CurateError as error:
        _say_why(f"error: {error_text(error)}")
        return error.exit_code
    except KeyboardInterrupt:
        _say_why("interrupted: the same command goes on from here")
        return INTERRUPTED
    return code


def _say_why(line: str) -> None:
    if ranks.first_to_end():
        with suppress(OSError):
            print(line, file=sys.stderr)
