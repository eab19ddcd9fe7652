"""The options of `curate select` that lead to a selection again, from what it left."""

from collections.abc import Mapping
from typing import Any

from ...config import InputConfig, ScoringConfig, SelectConfig

USUAL = {"tokenization": "exact", "max_length": 2048}


def scoring_words(scoring: Mapping[str, Any]) -> list[str]:
    """Those that its scores depend on, but the student; dtype is told by the scores themselves.

    >>> scoring_words({"template": "chat", "max_length": 2048})
    ['--template', 'chat']
    """
    template = ["--template", str(scoring["template"])] if "template" in scoring else []
    return template + [
        word
        for name, usual in USUAL.items()
        if name in scoring and scoring[name] != usual
        for word in (_option(name), str(scoring[name]))
    ]


def settings_words(settings: Mapping[str, Any]) -> list[str]:
    """Those by which it was decided, as the manifest has them.

    >>> settings_words({"max_ifd": 0.9, "top": "2%", "only_improved": True, "rank_by": "ifd"})
    ['--max-ifd', '0.9', '--only-improved', '--top', '2%']
    """
    words: list[str] = []
    usual = SelectConfig(input=InputConfig(data=""), scoring=ScoringConfig(student=""))
    for name in ("max_ifd", "max_rifd", "only_improved", "top", "rank_by", "diverse", "ngram"):
        value = settings.get(name, getattr(usual, name))
        if value != getattr(usual, name):
            words += [_option(name)] if value is True else [_option(name), str(value)]
    for source in settings.get("decontaminate", {}):
        words += ["--decontaminate", source]
    return words


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
