"""The share of a run that one of several tasks does, as an option."""

import os
from typing import Any

from ..base.processes.sharding import WHOLE, Share, share_of
from ..base.progress import say
from .options.fields import option


def share_option() -> Any:
    """The shards that are this task's, of several tasks that work side by side."""
    return option(
        WHOLE,
        name="shard",
        help="Do one task's share of the shards, i/n with i from 0, or all; several tasks work "
        "into one run [default: that of a Slurm array's task, else all].",
        parse=lambda text: share_of(text, os.environ),
        absent=_share_of_task,
        record=False,
    )


def _share_of_task() -> Share:
    share = share_of(None, os.environ)
    if not share.whole:
        say(f"note: this Slurm array's task does share {share} of the run")
    return share
