"""The Python API: data first, options by the names that they have on the command line.

Errors are `CurateError`. With `progress=False` neither progress nor notes are written.
"""

import inspect
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import commands
from .base.progress import silence
from .config import configured
from .config.options.flat import Option, options_of
from .errors import CurateError as CurateError
from .errors import UsageError
from .inputs.inline import InlineData

if TYPE_CHECKING:
    from datasets import Dataset

C = TypeVar("C")
R = TypeVar("R")


def _function(command: Callable[[C], R]) -> Callable[..., R]:
    """The command as a function of its arguments and, by keyword, of its options."""
    config: type[C] = inspect.signature(command).parameters["config"].annotation
    options = options_of(config)
    arguments = [name for name, option in options.items() if option.about["argument"]]

    def call(*data: Any, progress: bool = True, **given: Any) -> R:
        if len(data) > len(arguments):
            raise UsageError(f"{command.__name__} takes {len(arguments)} arguments and options")
        values = dict(zip(arguments, data, strict=False)) | given
        named = {name: _named(options.get(name), value) for name, value in values.items()}
        with (
            nullcontext() if progress else silence(),
            commands.local_paths(command.__name__, dict.fromkeys(options) | named) as local,
        ):
            return command(configured(config, local, label=str))

    call.__name__ = call.__qualname__ = command.__name__
    call.__doc__ = f"{command.__doc__}\n\n" + "\n".join(map(_described, options.values()))
    call.__signature__ = _signature(options)  # type: ignore[attr-defined]
    return call


def _named(option: Option | None, value: Any) -> Any:
    """Rows in memory get a name, where an option takes the name of data."""
    takes_data = option is not None and option.about["place"] == "in" and not option.kind.many
    if takes_data and value is not None and not isinstance(value, str | Path):
        return InlineData.of(value)
    return value


def _signature(options: Mapping[str, Option]) -> inspect.Signature:
    parameters = [inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=True)]
    for name, option in options.items():
        keyword = inspect.Parameter.KEYWORD_ONLY
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if option.about["argument"] else keyword
        default = inspect.Parameter.empty if option.required else option.default
        parameters.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))


def _described(option: Option) -> str:
    usual = "" if option.default in (None, False, ()) else f" [default: {option.default}]"
    return f"{option.name}: {option.help}{usual}"


# What these return depends on an option: dry_run, shard, from_log.
run: Callable[..., Any] = _function(commands.run)
reflect: Callable[..., Any] = _function(commands.reflect)
select: Callable[..., Any] = _function(commands.select)
judge: Callable[..., Any] = _function(commands.judge)
finetune = _function(commands.finetune)
compare = _function(commands.compare)
explain = _function(commands.explain)
report = _function(commands.report)
status = _function(commands.status)
export = _function(commands.export)
generate = _function(commands.generate)
pairs = _function(commands.pairs)
align = _function(commands.align)
improve: Callable[..., Any] = _function(commands.improve)
evaluate = _function(commands.evaluate)
bpc = _function(commands.bpc)
check = _function(commands.check)
solve = _function(commands.solve)
synthesize = _function(commands.synthesize)
_score = _function(commands.score)


def score(data: Any, *, out: str | Path | None = None, **options: Any) -> "Dataset":
    """IFD and r-IFD of any data set, as a `datasets.Dataset`; also as a Parquet file at `out`."""
    import pyarrow.parquet as pq
    from datasets import Dataset
    from datasets.table import InMemoryTable

    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        written = _score(data, out=out or Path(folder) / "scores.parquet", **options)
        return Dataset(InMemoryTable(pq.read_table(written.out)))
