"""Data sets of the hub, streamed."""

import re
from collections.abc import Iterator
from typing import Any

from ...errors import CurateError
from .rows import RawRow, Row, Source

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.]+)?")


def hub_source(data: str) -> Source:
    """The rows of `owner/name` or `owner/name:split`; CurateError where the hub gives none."""
    import datasets
    from huggingface_hub import HfApi

    name, _, split = data.partition(":")
    try:
        info = HfApi().dataset_info(name)
        revision = info.sha
        stream = datasets.load_dataset(
            name, split=split or "train", streaming=True, revision=revision
        )
    except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CurateError(
            f"{data!r} is neither a file or folder here nor a data set that the hub gives "
            f"({first[:200]})"
        ) from None

    def rows() -> Iterator[RawRow]:
        for number, values in enumerate(stream, 1):
            yield Row(f"{data}:{number}", dict(values))

    fingerprint = f"{name}@{revision}:{split or 'train'}"
    return Source(data, fingerprint, rows, licence=licence_of(info))


def licence_of(info: Any) -> str | None:
    """The licence that the hub tells of a data set, from its card or its tags."""
    card = getattr(info, "card_data", None)
    given = card.get("license") if card is not None else None
    found = [given] if isinstance(given, str) else list(given or [])
    tags = getattr(info, "tags", None) or []
    found = found or [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    return ", ".join(found) or None
