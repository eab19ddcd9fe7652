"""A command of the command line: from its words a configuration, its result printed, a code."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from io import TextIOWrapper
from json import dumps
from pathlib import Path
from typing import Any

import typer

from ..base.processes import ranks, signals
from ..base.progress import error_text, inert, is_talkative, say, silence, talkative
from ..commands import local_paths
from ..config import configured
from ..errors import CurateError, UsageError
from .options import CONFIG, JSON, QUIET, VERBOSE, Help, parameters

INTERRUPTED = 130
FINISHED_BUT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A command's result, the same in lines, and whether some of its records failed.

    `made`: the folder whose status tells what to type next; `following`: that command, of a file.
    """

    result: Any
    lines: Iterable[str]
    failed: bool = False
    made: str | Path | None = None
    following: str | None = None


Tell = Callable[[Iterable[str]], None]
"""Prints lines of a result before the command has ended; nothing where JSON is asked for."""


def register(
    app: typer.Typer,
    named: Callable[..., Any],
    command: Callable[..., Output],
    *,
    example: str,
    trains: bool,
) -> None:
    """Make a command, with a name and a help, from a function of a configuration.

    One that has several results to tell takes a `Tell` beside it.
    """
    name = named.__name__
    config: type[Any] = inspect.signature(command).parameters["config"].annotation

    def run(**options: Any) -> None:
        quiet, verbose = options.pop(QUIET), options.pop(VERBOSE)
        with silence() if quiet else talkative() if verbose else nullcontext():
            work = partial(_output, name, config, command, options)
            raise typer.Exit(_code(work, name, trains))

    run.__signature__ = inspect.Signature(parameters(config))  # type: ignore[attr-defined]
    app.command(name, help=named.__doc__, epilog=f"curate {name} {example}", cls=Help)(run)


def _output(
    name: str, config: type[Any], command: Callable[..., Output], options: Mapping[str, Any]
) -> int:
    as_json = options[JSON]
    own = {name: value for name, value in options.items() if name not in (CONFIG, JSON)}
    tells = "tell" in inspect.signature(command).parameters
    told: dict[str, Tell] = {"tell": _nothing if as_json else _print} if tells else {}
    if (loading := announced(name, own)) is not None:
        say(loading)
    with local_paths(name, own) as local:
        output = command(configured(config, local), **told)
        _print([_json(output.result)] if as_json else output.lines)
        for next_one in _following(output):
            say(f"next: {next_one}")
    return FINISHED_BUT if output.failed else 0


def announced(name: str, options: Mapping[str, Any]) -> str | None:
    """What is said before libraries are imported, which may take seconds.

    >>> announced("select", {"data": "run", "student": "gpt2"})
    'select: loading libraries for gpt2'
    """
    models = (options.get(role) for role in ("teacher", "student", "model", "judge"))
    plain = (model for model in models if model and "://" not in model)  # a URL may hold a secret
    named = " and ".join(dict.fromkeys(plain))
    light = name in ("status", "next", "explain")
    return None if light else f"{name}: loading libraries" + (f" for {named}" if named else "")


def _nothing(_: Iterable[str]) -> None:
    """All is in the JSON at the end."""


def _following(output: Output) -> list[str]:
    """What to type next; what has failed is asked for again by the same command."""
    if output.made is None:
        return [output.following] if output.following and not output.failed else []
    from ..stages.status.stage import status

    with suppress(CurateError):  # the work is done
        return status(str(output.made)).next[:1]
    return []


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
        return _failed(error)
    except OSError as error:  # of a file that nobody asked before whether it may be used
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        return _failed(CurateError(f"cannot use {error.filename}: {error.strerror}"))
    except KeyboardInterrupt:
        _say_why("interrupted: the same command goes on from here")
        return INTERRUPTED
    return code


def _failed(error: CurateError) -> int:
    if is_talkative():
        traceback.print_exc()
    _say_why(f"error: {error_text(error)}")
    return error.exit_code


def _say_why(line: str) -> None:
    if ranks.first_to_end():
        with suppress(OSError):
            print(line, file=sys.stderr)
