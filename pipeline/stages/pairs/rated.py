"""Rated samples -> rivals: all answers to a prompt, wherever they stand in the data."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from statistics import pvariance
from typing import Any

from ...base.scratch import scratch_database
from ...config import InputConfig
from ...inputs.ingest import Intake
from ...inputs.readers import Source
from ...inputs.samples import read_samples
from ...method.preferences.rivals import Answer, Rivals
from ...method.replies.endings import incomplete
from ...pair_records import NoPair, Origin, PairSource, Prompt, Sample


def rated_rivals(
    source: Source, columns: InputConfig, intake: Intake, made_by: PairSource
) -> Iterator[Rivals]:
    """The samples of each id, in the order in which they were sampled where that is known."""
    samples = read_samples(source, columns, intake)
    for id, group in grouped((sample.id, asdict(sample)) for sample in samples):
        found = [sample_from(fields) for fields in group]
        found.sort(key=lambda one: math.inf if one.sample is None else one.sample)
        yield Rivals(
            id=id,
            prompt=found[0].prompt.messages,
            answers=[sampled_answer(sample, place) for place, sample in enumerate(found)],
            source=made_by,
        )


def sampled_answer(sample: Sample, place: int) -> Answer:
    """The sample as a rival, numbered by its place where it has no number of its own."""
    return Answer(
        text=sample.output,
        origin=Origin(
            sample=place if sample.sample is None else sample.sample,
            model=sample.model,
            reply_key=sample.reply_key,
        ),
        reward=sample.rating,
        score=sample.rating,
        variance=pvariance(sample.ratings) if len(sample.ratings) > 1 else 0.0,
        fault=_fault(sample),
    )


def sample_from(fields: Mapping[str, Any]) -> Sample:
    """The inverse of `asdict`."""
    return Sample(**{**fields, "prompt": Prompt(**fields["prompt"])})


def _fault(sample: Sample) -> NoPair | None:
    broken = incomplete(sample.finish_reason)
    if broken is None or broken[0] == "ok" or broken[0] == "unchanged":
        return None
    return broken[0]


def grouped(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """All values of each key, keys and values in the order in which they first appear.

    They are sorted on disk; values are what JSON holds.
    """
    with scratch_database() as database:
        database.execute("create table keys (key text primary key, place integer)")
        database.execute("create table items (key text, value text)")
        for place, (key, value) in enumerate(items):
            database.execute("insert or ignore into keys values (?, ?)", (key, place))
            database.execute("insert into items values (?, ?)", (key, json.dumps(value)))
        database.execute("create index by_key on items (key)")
        rows = database.execute(
            "select keys.key, value from keys join items using (key) "
            "order by keys.place, items.rowid"
        )
        for key, group in groupby(rows, key=lambda row: row[0]):
            yield key, [json.loads(value) for _, value in group]
