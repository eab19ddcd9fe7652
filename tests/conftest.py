"""What all tests stand on: no network, a tiny student, and the shared data where it is."""

import atexit
import gc
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Test processes side by side would wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Begun in the background, tests would have children that ignore what is sent to end them.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("no deadline", deadline=None)  # other work may hold the cores
settings.load_profile("no deadline")
gc.disable()  # until libraries are loaded
atexit.register(gc.unfreeze)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(place: str) -> Path:
    """A file or folder of ../shared; the test is skipped where it is absent."""
    path = SHARED / place
    if not path.exists():
        pytest.skip(f"{path} is absent: it may not be redistributed")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains comes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: not {"workflows", "training"} & {*item.path.parts})


@pytest.fixture(scope="module", autouse=True)
def libraries_apart() -> None:
    """Leave libraries out of collections: the product collects after each model that it frees."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of random weights, context 256, and a tokenizer with BOS and chat."""
    from .scoring.tiny import save_student

    return save_student(tmp_path_factory.mktemp("students") / "tiny")


@pytest.fixture(scope="session")
def byte_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of random weights, context 256, whose tokenizer knows every byte."""
    from .training.byte_student import save_byte_student

    return save_byte_student(tmp_path_factory.mktemp("students") / "byte")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny matrices on one thread: several only wait for each other on a machine that is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
