"""The hub: whether it can be reached at all, asked once; and a folder that is put there."""

import os
import re
import socket
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from ...errors import CurateError, UsageError

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@cache
def hub_is_reachable() -> bool:
    """False without a network, or when HF_HUB_OFFLINE is set; True where a proxy decides."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if {"http", "https", "all"} & getproxies().keys():
        return True
    place = urlsplit(os.environ.get("HF_ENDPOINT", constants.ENDPOINT))
    try:
        socket.create_connection((place.hostname or "", place.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def go_offline_if_unreachable() -> None:
    """Let the hub's own client, and what is imported from now on, do without it, not retry."""
    from huggingface_hub import constants

    if not hub_is_reachable():
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants.HF_HUB_OFFLINE = True


def hub_token(repository: str) -> str:
    """The token to write with, from the environment alone; CurateError where there is none.

    Raises UsageError for what is no repository's name.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"--push-to-hub takes owner/name, not {repository!r}")
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise CurateError("--push-to-hub needs a token that may write: set HF_TOKEN")
    if not hub_is_reachable():
        raise CurateError("--push-to-hub: the hub cannot be reached (or HF_HUB_OFFLINE is set)")
    return token


def push_folder(
    folder: Path, repository: str, token: str, *, kind: Literal["dataset", "model"]
) -> str:
    """Put a folder into a repository `owner/name`, made private if new; where it is then.

    Hidden files, checkpoints and what resumes a training stay here.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=str(folder),
            commit_message=f"Add a {kind} made with curate",
            ignore_patterns=[".*", "checkpoints/*", "finetune.json", "options.json"],
        )
    except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
        said = str(error).replace(token, "***").strip().partition("\n")[0]
        raise CurateError(
            f"cannot push to {repository!r}: {said[:200] or type(error).__name__}; the {kind} in "
            f"{folder} is whole"
        ) from None
    return str(getattr(done, "commit_url", None) or done)
