"""What a mistyped path was meant to be."""

import difflib
import os


def nearest_path(path: str) -> str:
    """How an error about a path that is not there ends: the nearest name that is, or nothing.

    >>> nearest_path("/ect/passwd")
    '; the nearest there is /etc'
    """
    path = os.path.expanduser(path)
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        return nearest_path(folder)
    try:
        near = difflib.get_close_matches(os.path.basename(path), os.listdir(folder or "."), n=1)
    except (OSError, ValueError):
        return ""
    return f"; the nearest there is {os.path.join(folder, near[0])}" if near else ""
