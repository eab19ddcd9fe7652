"""What a score depends on, and the short name that a student's folder gets from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.checksums import read_checked, with_checksum
from ..base.files import write_json
from ..config import Dtype, ScoringConfig, TokenizationName
from ..errors import CurateError
from ..inputs.model_files import revision_of, short_name
from ..models.devices import pick_dtype
from ..models.loading import context_of, load_config, load_tokenizer
from ..templates import SEPARATORS, Template, student_template

DEFAULT_MAX_LENGTH = 2048
CONFIG = "config.json"
"""In a folder of scores: whose they are."""


@dataclass(frozen=True, slots=True)
class ScoringIdentity:
    """Student and revision, template, tokenization, max length and dtype, all resolved."""

    student: str
    revision: str
    template: str
    template_version: str
    template_date: str | None
    """What the template writes in place of today's date."""
    tokenization: TokenizationName
    max_length: int
    dtype: Dtype

    @property
    def key(self) -> str:
        """The student's name and a short hash of the identity, fit for a folder's name."""
        digest = hashlib.sha256(json.dumps(self.fields(), sort_keys=True).encode()).hexdigest()
        return f"{self.student}-{digest[:8]}"

    def in_words(self) -> str:
        """For a person, the template and the length resolved."""
        dated = f" (with the date {self.template_date} on any day)" if self.template_date else ""
        return (
            f"{self.student}: {self.template} template{dated}, {self.tokenization} tokenization, "
            f"at most {self.max_length} tokens, {self.dtype}"
        )

    def fields(self) -> dict[str, Any]:
        """The identity as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


def resolve(config: ScoringConfig, scores: Path) -> ScoringIdentity:
    """The identity of a configuration, seen with the scores that a run has already.

    Reads the student's config, and its tokenizer for a chat template, but no weights.
    """
    from .model import device_here

    context = context_of(load_config(config.student, config.revision))
    template = _template(config)
    dtype = config.dtype
    if dtype == "auto":
        dtype = known_dtype(scores, config, template) or pick_dtype(device_here(config))
    return identify(config, template=template, context=context, dtype=dtype)


def _template(config: ScoringConfig) -> Template:
    if config.template in SEPARATORS:
        return Template(config.template)
    return student_template(config.template, load_tokenizer(config.student, config.revision))


def identify(
    config: ScoringConfig, *, template: Template, context: int | None, dtype: Dtype
) -> ScoringIdentity:
    """Resolve a scoring configuration. Raises CurateError for a length beyond the context."""
    longest = min(DEFAULT_MAX_LENGTH, context or DEFAULT_MAX_LENGTH)
    if config.max_length is not None and context is not None and config.max_length > context:
        raise CurateError(
            f"--max-length {config.max_length} is beyond the student's context of {context} tokens"
        )
    return ScoringIdentity(
        student=short_name(config.student),
        revision=revision_of(config.student, config.revision),
        template=template.name,
        template_version=template.version,
        template_date=template.date,
        tokenization=config.tokenization,
        max_length=config.max_length or longest,
        dtype=dtype,
    )


def note_identity(folder: Path, identity: ScoringIdentity) -> None:
    """Write into a folder of scores whose they are; anew where that is damaged."""
    if read_checked(folder / CONFIG) != identity.fields():
        write_json(folder / CONFIG, with_checksum(identity.fields()))


def noted_identity(folder: Path) -> ScoringIdentity:
    """Whose the scores in a folder are; CurateError where that is damaged."""
    fields = read_checked(folder / CONFIG)
    if fields is None:
        raise CurateError(f"{folder / CONFIG} is damaged: run `curate select` again")
    return ScoringIdentity(**fields)


def known_dtype(folder: Path, config: ScoringConfig, template: Template) -> Dtype | None:
    """The dtype of scores there that differ from the configuration in nothing else it names.

    So that `--dtype auto` on a machine without a GPU finds the scores that one with a GPU made.
    """
    found = set()
    for path in folder.glob("*/config.json"):
        fields = read_checked(path)
        if fields and _same_but_dtype(fields, config, template):
            found.add(fields["dtype"])
    return found.pop() if len(found) == 1 else None


def _same_but_dtype(fields: Mapping[str, Any], config: ScoringConfig, template: Template) -> bool:
    return (
        fields["student"] == short_name(config.student)
        and fields.get("template_version") == template.version
        and fields["tokenization"] == config.tokenization
        and config.max_length in (None, fields["max_length"])
    )
