"""A real pretrained student on real records: the boundary, packing, and agreement with float64.

    python benchmarks/real_student.py STUDENT REVISIONS.json.gz [--records 60] [--candidates 40]

STUDENT is the folder of a base model of some hundred million parameters. REVISIONS is a JSON list of
records with `Raw` and `Revised` `Instruction`, `Input` and `Response` (the expert revisions of CoachLM).
Prints a page in Markdown.
"""

import argparse
import gzip
import json
import platform
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers

from curate.pipeline.config import InputConfig, ScoreConfig, ScoringConfig, SelectConfig
from curate.pipeline.method.first_token import FirstTokens
from curate.pipeline.method.spans import SIDES, pair
from curate.pipeline.models.loading import load_tokenizer
from curate.pipeline.records import Candidate, scores_from
from curate.pipeline.scoring.forward.head import Head
from curate.pipeline.scoring.forward.hidden_states import alone_states
from curate.pipeline.scoring.model import load_student
from curate.pipeline.scoring.scorer import Scorer
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.scoring import score
from curate.pipeline.stages.selection.stage import select
from curate.pipeline.templates import Template

TEXT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}{{ bos_token }}"
)
# The wire formats with nothing between prompt and response, as Jinja files.
BARE = {
    "vicuna": TEXT + Template("vicuna").prompt("{{ messages[0].content }}"),
    "alpaca": TEXT + Template("alpaca").prompt("{{ messages[0].content }}"),
}


def main():
    options = parsed()
    records = [r for r in json.load(gzip.open(options.revisions)) if usable(r)][: options.records]
    print(f"# A real student on a CPU\n\n    python {' '.join(sys.argv)}\n")
    print(
        f"{versions()}\n{len(records)} records without an input, their human revisions beside them.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        boundary(options.student, records, Path(folder))
        packing(options.student, records, options.candidates)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student")
    parser.add_argument("revisions", type=Path)
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=40)
    return parser.parse_args()


def usable(record):
    texts = [
        record[f"{kind} {part}"]
        for kind in ("Raw", "Revised")
        for part in ("Instruction", "Response")
    ]
    return all(texts) and not record["Raw Input"] and not record["Revised Input"]


def versions():
    model = next(
        (
            line.partition(": ")[2].strip()
            for line in open("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        "",
    )
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}; "
        f"{model or platform.processor()}, {torch.get_num_threads()} threads; float32."
    )


# --- the boundary ---------------------------------------------------------------------------------


def boundary(student, records, folder):
    print("## The boundary between prompt and response\n")
    print(
        "IFD below 1, and the mean NLL (nats) of the first and of a further token of a target. Without a boundary:"
    )
    print(
        "`curate score --template FILE` with the wire format as a Jinja file that ends in the colon. With it: `curate select`.\n"
    )
    print("| template | between | records | IFD < 1 | r-IFD < 1 | first token | a further token |")
    print("|---|---|---|---|---|---|---|")
    for template, bare in BARE.items():
        file = folder / f"{template}.jinja"
        file.write_text(bare)
        for kind in ("Raw", "Revised"):
            data = folder / f"{kind}.jsonl"
            data.write_text(
                "".join(json.dumps(row(r, kind, i)) + "\n" for i, r in enumerate(records))
            )
            out = folder / f"{template}-{kind}"
            config = ScoreConfig(
                input=InputConfig(data=str(data)),
                out=out.with_suffix(".parquet"),
                scoring=ScoringConfig(
                    student=student, template=str(file), device="cpu", dtype="float32"
                ),
            )
            score(config)
            line(template, "nothing", kind, pq.read_table(config.out))
            scoring = replace(config.scoring, template=template)
            result = select(SelectConfig(input=config.input, scoring=scoring, out=out))
            parts = sorted((out / "scores" / result.student).glob("*.parquet"))
            line(template, repr(Template(template).separator), kind, pq.read_table(parts[0]))
    print()


def row(record, kind, number):
    return {
        "id": str(number),
        "instruction": record[f"{kind} Instruction"],
        "output": record[f"{kind} Response"],
    }


def line(template, between, kind, table):
    scores = [s for s in scores_from(table) if s.ifd is not None]
    first = FirstTokens()
    for one in scores:
        first.add(one)
    found = first.summary()
    share = [np.mean([getattr(s, side) < 1 for s in scores]) for side in SIDES]
    name = {"Raw": "originals", "Revised": "revisions"}[kind]
    print(
        f"| `{template}` | {between} | {len(scores)} {name} | {share[0]:.0%} | {share[1]:.0%} | "
        f"{found['nats']:.2f} | {found['further_nats']:.2f} |",
        flush=True,
    )


# --- packing --------------------------------------------------------------------------------------


def packing(folder, records, number):
    student = load_student(folder, revision=None, device=torch.device("cpu"), dtype="float32")
    tokenizer, template = load_tokenizer(folder), Template("vicuna")
    tokens = Tokenization(tokenizer, template, name="exact", max_length=2048)
    headers = tokens.header_ids(template.headers())
    given = list(candidates(records, number))
    print(
        f"## Packing\n\n{len(given)} candidates, four a record, everything scored; packed: {student.packed}, "
    )
    print(
        f"noise by neighbours {student.noise:g} nats. Processor time of the whole process beyond loading.\n"
    )
    (packed, spans), packed_s = timed(scored, student, tokens, template, headers, given)
    found, seconds = {"packed": packed}, {"packed": packed_s}
    for name, other in one_at_a_time(student).items():
        (found[name], _), seconds[name] = timed(scored, other, tokens, template, [], given)
    print("| way | processor s | packed is of it |\n|---|---|---|")
    for name, used in seconds.items():
        print(f"| {name} | {used:.1f} | {packed_s / used:.2f} |", flush=True)
    agreement(student.model, spans[:number], found)


def candidates(records, number):
    """Original, both revised, each response with the other instruction: four versions a record."""
    for index, record in enumerate(records[: number // 4]):
        for kind, x, y in (
            ("original", "Raw", "Raw"),
            ("instruction", "Revised", "Revised"),
            ("response", "Raw", "Revised"),
            ("both", "Revised", "Raw"),
        ):
            yield Candidate(
                id=str(index),
                candidate=kind,
                instruction=record[f"{x} Instruction"],
                input="",
                output=record[f"{y} Response"],
            )


def scored(student, tokens, template, headers, given):
    pairs = [pair(candidate, side, template) for candidate in given for side in SIDES]
    spans = [s for p in tokens.span_pairs(pairs) for s in (p.conditional, p.unconditional)]
    with closing(Scorer(student, headers)) as scorer:
        return scorer.nll(spans), spans


def timed(work, *given):
    begin = time.process_time()
    return work(*given), time.process_time() - begin


def one_at_a_time(student):
    student.model.set_attn_implementation("sdpa")
    layer, states = student.model.get_output_embeddings(), alone_states(student.model)
    head = Head(
        layer.weight, softcap=getattr(student.model.config, "final_logit_softcapping", None)
    )
    way = torch.inference_mode()(lambda p: head.log_probs(states(p), torch.from_numpy(p.targets)))
    ways = {
        "one at a time, our head on the target rows": way,
        "one at a time, all logits and float32 log_softmax": as_before(student.model),
    }
    return {name: replace(student, packed=False, log_probs=way) for name, way in ways.items()}


def as_before(model):
    """All logits, then a float32 log-softmax of the target rows."""

    @torch.inference_mode()
    def way(pack):
        logits = model(input_ids=torch.from_numpy(pack.ids).long()[None], use_cache=False).logits[0]
        rows = logits[torch.from_numpy(pack.predict)]
        return rows.log_softmax(-1).gather(1, torch.from_numpy(pack.targets)[:, None])[:, 0]

    return way


def agreement(model, spans, found):
    exact = np.array([library(model.double(), span) for span in spans])
    print(f"\nDistance of mean NLLs from float64, over {len(spans)} sequences (nats):\n")
    print("| way | mean | largest |\n|---|---|---|")
    for name, values in found.items():
        error = np.abs(values[: len(spans)] - exact)
        print(f"| {name} | {error.mean():.1e} | {error.max():.1e} |")


@torch.inference_mode()
def library(model, span):
    ids = torch.from_numpy(span.ids.astype(np.int64))
    logits = model(input_ids=ids[None], use_cache=False).logits[0, span.start - 1 : -1]
    return float(-logits.log_softmax(-1).gather(1, ids[span.start :, None]).double().mean())


if __name__ == "__main__":
    main()
