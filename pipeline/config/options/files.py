"""`--config FILE`: options by their names, in YAML or JSON; a run's own config.json is one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...base.foreign_json import parse_json
from ...base.foreign_text import regular
from ...base.progress import say
from ...errors import CurateError, UsageError
from .fields import Options
from .flat import Option, converted, known, options_of

_RUN = "curate_run"  # in a run's config.json
_NOTHING = (None, "", "~", "null")


def file_options(config: type, path: Path) -> dict[str, Any]:
    """What a file gives for a configuration, as it would be typed: flags, texts, lists of texts.

    Raises UsageError for an unknown option or a value of another type, and CurateError for a file
    that cannot be read.
    """
    options, found = options_of(config), _mapping(path)
    if _RUN in found:
        found = _of_this_command(found.get("options") or {}, options, path)
    given = {}
    for key, value in found.items():
        if value not in _NOTHING:
            option = known(options, str(key).replace("-", "_"), label=_in_file(path))
            given[option.name] = _typed(option, value, _in_file(path))
    return given


def _in_file(path: Path) -> Callable[[str], str]:
    return lambda name: f"{name} in {path}"


def _of_this_command(recorded: Options, options: Mapping[str, Option], path: Path) -> Options:
    """The options of a run that this command has, too."""
    others = sorted(name for name in recorded if name not in options)
    if others:
        say(f"note: {', '.join(others)} in {path} are options of another command")
    return {name: value for name, value in recorded.items() if name in options}


def _typed(option: Option, value: Any, label: Callable[[str], str]) -> Any:
    if option.about["parse"] is not None and not isinstance(value, str):
        raise UsageError(f"{label(option.name)} takes a text, not {value!r}")
    item = converted(option, value, label=label)
    if option.kind.item is bool:
        return item
    if option.kind.many and option.about["parse"] is None:
        return [str(one) for one in item]
    return str(value)


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        text = (path if _is_opened(path) else regular(path)).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"cannot read --config {path}: {error}") from None
    found = _parsed(path, text)
    if not isinstance(found, dict):
        raise CurateError(f"{path} is no mapping of options to values, such as `max_ifd: 0.9`")
    return found


def _is_opened(path: Path) -> bool:
    """Whether it is a pipe that the shell has opened, for `<(…)`: another one may never end."""
    return path.is_fifo() and os.path.realpath(path).startswith(("/proc/", "/dev/fd/"))


def _parsed(path: Path, text: str) -> Any:
    """YAML's scalars stay texts: what they mean is said by the option."""
    import yaml

    try:
        if path.suffix == ".json":
            return parse_json(text)
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise CurateError(f"cannot read --config {path}: {said}") from None
