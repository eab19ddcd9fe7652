"""Chooses and makes the engine of a model that is asked; those at servers import httpx2."""

import importlib.util
from collections.abc import Sequence

from ...config import EngineName, ModelConfig, Role
from ...errors import UsageError
from ...records import REFLECTIONS
from ..prices import Prices, prices_of
from ..protocol import Engine
from ..rates import Rates
from .local.in_process import InProcessEngine
from .recorded import RecordedEngine

DOES: dict[Role, str] = {
    "teacher": "that reflects",
    "judge": "that judges",
    "model": "that answers",
}
BATCH_PATIENCE = 3600.0  # seconds that a server may be away while a batch job is waited for


def choose_engine(config: ModelConfig) -> EngineName:
    """What `auto` means: `openai` with a URL, `recorded` with replies, else what is here."""
    if config.engine != "auto":
        return config.engine
    if config.base_urls:
        return "openai"
    if config.replies is not None:
        return "recorded"
    return "vllm" if _has_vllm_and_gpu() else "transformers"


def _has_vllm_and_gpu() -> bool:
    if importlib.util.find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def is_sold(config: ModelConfig) -> bool:
    """Whether the model is sold by the token; one that runs here, or is recorded, is not."""
    return choose_engine(config) == "openai"


def model_prices(config: ModelConfig) -> Prices:
    """What the model's tokens cost, where it is sold by the token or the options name a price."""
    return prices_of(
        (config.model or "") if is_sold(config) else "",
        table=config.prices,
        price_in=config.price_in,
        price_out=config.price_out,
    )


def make_engine(config: ModelConfig, *, slots: Sequence[str] = REFLECTIONS) -> Engine:
    """The engine that a configuration asks for. Raises UsageError for what does not go together.

    `slots` are the replies that a file of recorded ones may hold.
    """
    engine = choose_engine(config)
    if engine == "recorded":
        if config.replies is None:
            raise UsageError("--engine recorded needs --replies FILE")
        return RecordedEngine(config.replies, name=config.model or "recorded", slots=slots)
    if config.model is None:
        raise UsageError(f"--{config.role} is needed: the name of the model {DOES[config.role]}")
    if config.engine_args and engine != "vllm":
        raise UsageError(f"--engine-args are for --engine vllm, not {engine}")
    if engine != "openai" and (config.rpm or config.tpm):
        raise UsageError(f"--rpm and --tpm are for a server at --base-url, not for {engine}")
    if config.batch_api and (engine != "openai" or len(config.base_urls) > 1):
        raise UsageError("--batch-api is for one server at --base-url")
    if engine == "transformers":
        return InProcessEngine(
            config.model,
            ceiling=config.concurrency,
            revision=config.revision,
            device=config.device,
            role=config.role,
        )
    if engine == "vllm":
        from .local.vllm_server import VLLMEngine

        return VLLMEngine(
            config.model,
            ceiling=config.concurrency,
            revision=config.revision,
            engine_args=config.engine_args,
        )
    if not config.base_urls:
        raise UsageError("--engine openai needs --base-url, such as http://localhost:8000/v1")
    return _at_servers(config, config.model)


def _at_servers(config: ModelConfig, model: str) -> Engine:
    from .servers.endpoints import PATIENCE, EndpointsEngine
    from .servers.openai_server import OpenAIEngine

    rates = Rates(rpm=config.rpm, tpm=config.tpm)

    def make(url: str, patience: float) -> OpenAIEngine:
        return OpenAIEngine(
            model,
            url,
            api_key=config.api_key,
            ceiling=config.concurrency,
            revision=config.revision,
            rates=rates,
            patience=patience,
        )

    if len(config.base_urls) == 1:
        return make(config.base_urls[0], BATCH_PATIENCE if config.batch_api else PATIENCE)
    return EndpointsEngine(make, config.base_urls, ceiling=config.concurrency)
