"""This process among those that `torchrun` started; one alone is the first of one."""

import os
from datetime import timedelta


def is_first() -> bool:
    """Whether this is the process that speaks and writes for all."""
    return not are_several() or os.environ.get("RANK") == "0"


def processes() -> int:
    """How many they are."""
    if "LOCAL_RANK" not in os.environ:  # a cluster's pod may have the rest without torchrun
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def are_several() -> bool:
    """Whether there are others."""
    return processes() > 1


def first_to_end() -> bool:
    """Whether none of the others has said yet why it ends; it may be asked once."""
    if not are_several():
        return True
    from torch import distributed

    address, port = os.environ.get("MASTER_ADDR", ""), int(os.environ.get("MASTER_PORT", "0"))
    try:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=timedelta(seconds=5)
        )
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return bool(store.add(f"curate/ended/{restarts}", 1) == 1)
    except distributed.DistError:  # the launcher has gone already, or keeps no store
        return is_first()


def leave() -> None:
    """Part from the others after good work."""
    if are_several():
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()
