"""A configuration as a user would type it, without what is secret."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..shared.training import Recipe
from .fields import flag_of
from .flat import Option, options_of

ARGUMENTS = ("data", "run", "id", "a", "b", "pairs")
"""The options that are typed without a flag, in their order."""


def recorded_options(config: Any) -> dict[str, Any]:
    """The options that are not at their defaults, as JSON has them.

    Keys, addresses and arguments that may hold one, and what concerns one command alone (where it
    writes, its share) are left out.
    """
    found = {}
    for name, option in options_of(type(config)).items():
        if option.about["record"] and option.about["place"] != "out":
            value, usual = _value(config, option)
            plain = _plain(option, value)
            if value != usual and plain not in (None, [], ""):
                found[name] = plain
    return found


def _value(config: Any, option: Option) -> tuple[Any, Any]:
    """The option's value and its default, which may be the preset's."""
    holder = config
    for name in option.path[:-1]:
        holder = getattr(holder, name, None)
    value = getattr(holder, option.path[-1], None)
    if option.about["preset"] is not None and holder is not None:
        return value, getattr(Recipe(preset=holder.preset), option.path[-1])
    return value, option.default


def _plain(option: Option, value: Any) -> Any:
    if option.about["text"] is not None and value is not None:
        value = option.about["text"](value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    named = isinstance(value, str) and type(value) is not str  # rows in memory have a name alone
    return None if named else value


def command_words(command: str, options: Mapping[str, Any]) -> list[str]:
    """What a user types for these options.

    >>> command_words("reflect", {"data": "d.jsonl", "teacher": "t", "retry": ["failed"]})
    ['curate', 'reflect', 'd.jsonl', '--teacher', 't', '--retry', 'failed']
    """
    words = ["curate", command, *(str(options[name]) for name in ARGUMENTS if name in options)]
    for name, value in options.items():
        if name in ARGUMENTS:
            continue
        if isinstance(value, bool):
            words.append(flag_of(name if value else f"no_{name}"))
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for one in values for word in (flag_of(name), str(one))]
    return words
