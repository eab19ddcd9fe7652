"""Chooses and makes the teacher's engine."""

import importlib.util

from ..config import EngineName, TeacherConfig
from ..errors import CurateError, UsageError
from .openai_server import OpenAITeacher
from .protocol import Teacher
from .recorded import RecordedTeacher


def choose_engine(config: TeacherConfig) -> EngineName:
    """What `auto` means: `openai` with a URL, `recorded` with replies, else what is here."""
    if config.engine != "auto":
        return config.engine
    if config.base_url is not None:
        return "openai"
    if config.replies is not None:
        return "recorded"
    return "vllm" if _has_vllm_and_gpu() else "transformers"


def _has_vllm_and_gpu() -> bool:
    if importlib.util.find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def make_teacher(config: TeacherConfig) -> Teacher:
    """The engine that a configuration asks for. Raises UsageError for what does not go together."""
    engine = choose_engine(config)
    if engine == "recorded":
        if config.replies is None:
            raise UsageError("--engine recorded needs --replies FILE")
        return RecordedTeacher(config.replies, name=config.teacher or "recorded")
    if config.teacher is None:
        raise UsageError("--teacher is needed: the name of the model that reflects")
    if engine == "openai":
        if config.base_url is None:
            raise UsageError("--engine openai needs --base-url, such as http://localhost:8000/v1")
        return OpenAITeacher(
            config.teacher,
            config.base_url,
            api_key=config.api_key,
            ceiling=config.concurrency,
        )
    raise CurateError(
        f"the {engine} engine is not built yet: serve {config.teacher} with any OpenAI-compatible "
        "server and give --base-url"
    )
