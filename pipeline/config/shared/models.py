"""Any model that is asked: a teacher, a judge, one that answers."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import UsageError
from ..options.fields import check_fields, embedded, option

EngineName = Literal["auto", "openai", "vllm", "transformers", "recorded"]
Role = Literal["teacher", "judge", "model"]
"""What a model that is asked is called where a user reads of it."""
Retry = Literal["failed", "unparsed", "truncated", "refused"]


def _key_of_environment() -> str | None:
    """The only way in for a key."""
    return os.environ.get("CURATE_API_KEY") or os.environ.get("OPENAI_API_KEY")


def _harmless_addresses(addresses: str | tuple[str, ...]) -> tuple[str, ...]:
    """Those without a user, a password or a query, which may hold a key."""
    every = (addresses,) if isinstance(addresses, str) else addresses
    return tuple(one for one in every if not {"@", "?"} & set(one))


def _harmless_words(words: tuple[str, ...]) -> str:
    """The words as one text; empty where one of them may go with a key."""
    text = shlex.join(words)
    return "" if "key" in text.lower() else text


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model is asked, how it is reached and what it may cost."""

    model: str | None = option(
        None,
        help="The model that is asked: a folder or a hub id, or its name on the server; not needed "
        "for recorded replies.",
    )
    role: Role = "teacher"
    revision: str | None = option(
        None,
        help="Its revision: a commit on the hub, or what you call it; folders go by their content.",
    )
    engine: EngineName = option(
        "auto",
        help="How the model is reached; auto: openai with --base-url, recorded with --replies, "
        "else vllm where it and a GPU are, else transformers in this process.",
    )
    base_url: str | tuple[str, ...] | None = option(
        None,
        help="An OpenAI-compatible server, such as http://localhost:8000/v1; several share the "
        "load.",
        split=False,
        text=_harmless_addresses,
    )
    replies: Path | None = option(
        None, help="Recorded replies, JSONL: id, candidate, reply, finish_reason."
    )
    api_key: str | None = field(default=None, repr=False, metadata={"absent": _key_of_environment})
    journal: Path | None = option(
        None,
        help="The folder where replies are kept, to share them among runs [default: in the run].",
        place="journal",
    )
    concurrency: int = option(64, help="At most so many requests at once.", min=1)
    rpm: float | None = option(None, help="At most so many requests a minute.", above=0)
    tpm: float | None = option(
        None, help="At most so many tokens a minute, prompts and replies.", above=0
    )
    batch_api: bool = option(
        False, help="Ask through the server's batch API: within 24 h, at half the price."
    )
    batch_poll: float = option(
        60.0, help="Seconds between two looks at a batch job, at most.", above=0
    )
    max_tokens: int = option(2048, help="At most so many new tokens a reply.", min=1)
    temperature: float = option(0.0, help="Sampling temperature; 0 is greedy.", min=0)
    top_p: float | None = option(
        None, help="Sample from the likeliest tokens of this probability.", above=0, max=1
    )
    presence_penalty: float | None = None
    """Against words that stand in the reply already; only servers take it."""
    seed: int | None = option(None, help="Sampling seed, part of a request's identity.")
    max_cost: float | None = option(
        None, help="Stop before this many USD are exceeded (needs prices).", above=0
    )
    max_total_tokens: int | None = option(
        None, help="Stop before this many tokens are exceeded.", min=1
    )
    price_in: float | None = option(
        None, help="USD per million prompt tokens [default: the model's, if known].", min=0
    )
    price_out: float | None = option(
        None, help="USD per million completion tokens [default: likewise].", min=0
    )
    prices: Path | None = option(
        None, help="Prices by model, JSON, over those that come with the package."
    )
    retry: tuple[Retry, ...] = option(
        (), help="Ask again where the status is one of these.", record=False
    )
    prompts: Path | None = option(None, help="A folder with prompts of your own.")
    device: str = option(
        "auto",
        name="engine_device",
        help="Where the transformers engine computes: auto, cpu, cuda or cuda:N.",
    )
    engine_args: tuple[str, ...] = option(
        (),
        help="Options of the vLLM server, such as '--tensor-parallel-size 2'.",
        parse=lambda text: tuple(shlex.split(text)),
        text=_harmless_words,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_cost is not None and self.max_total_tokens is not None:
            raise UsageError("give --max-cost or --max-total-tokens, not both")
        if len(set(self.base_urls)) < len(self.base_urls):
            raise UsageError("--base-url is given twice with the same address")

    @property
    def base_urls(self) -> tuple[str, ...]:
        """All servers."""
        if isinstance(self.base_url, str):
            return (self.base_url,)
        return self.base_url or ()

    @property
    def sampling(self) -> dict[str, Any]:
        """What of a run's identity says how replies are sampled."""
        return {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}


def asked_model(title: str, role: Role, **more: Any) -> Any:
    """The field of a model that is asked; --ROLE is its name, --ROLE-revision its revision."""
    rename: Mapping[str, str] = {"model": role, "revision": f"{role}_revision"}
    return embedded(
        title,
        rename={**rename, **more.pop("rename", {})},
        supply={"role": lambda _: role, **more.pop("supply", {})},
        **more,
    )
