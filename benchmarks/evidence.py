"""Does it help? What the scores see, and what training on the selection does to a real student.

    python benchmarks/evidence.py STUDENT DATA --work WORK [--out results/evidence.md]

STUDENT is the folder of a base model of some hundred million parameters. DATA is a folder with
`reflections/coachlm_expert_revisions.json.gz` (Alpaca records and a human expert's revision of each),
`reflections/alpaca_gpt4_999.json.gz` and `scores/alpaca_5200_gpt2_ifd.json.gz` (IFD recorded with
GPT-2). WORK keeps scores and trained models, so that an interrupted measurement goes on.
"""

import argparse
import gzip
import json
import platform
import random
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from datasets import load_from_disk
from transformers import AutoConfig

from curate.pipeline import align, finetune, improve, pairs, score, select
from curate.pipeline.method.spans import Pair
from curate.pipeline.method.statistics.intervals import t_interval
from curate.pipeline.models.devices import pick_device
from curate.pipeline.models.loading import load_tokenizer
from curate.pipeline.scoring.model import load_student
from curate.pipeline.scoring.scorer import Scorer
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.templates import Template

WORDS = 160  # records of more are left out: a CPU trains on what is here
SEEDS = (0, 1, 2)
TRAINING = {"preset": "lora", "batch_size": 8, "template": "vicuna", "device": "cpu",
            "precision": "bf16", "gradient_checkpointing": False, "max_length": 512}  # fmt: skip
# GPT-2's scores were made with `{instruction}\n{input}\n` before the response.
PLAIN = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}{{ bos_token }}{{ messages[0].content }}\n"


def main():
    options = parsed()
    options.work.mkdir(parents=True, exist_ok=True)
    revisions, written, recorded = read(options.data)
    count = options.records
    held = {
        "expert revisions": revisions[:: len(revisions) // options.held_out][: options.held_out]
    }
    asked = {record["instruction"] for record in held["expert revisions"]}
    rest = [record for record in revisions if record["instruction"] not in asked][:count]
    known = asked | {record["instruction"] for record in rest}
    held["GPT-4 responses"] = [r for r in written if r["instruction"] not in known][
        : options.held_out
    ]
    page = Page(options, rest)
    seen = sees(page, options, rest[: count // 2], recorded)
    run = selected(options, rest)
    differences = helps(page, options, run, held)
    draw(seen, differences, options.out.with_suffix(".png"))
    page(f"![The two tables above]({options.out.stem}.png)")
    if options.pairs:
        prefers(page, options, run, held)
    if options.iterations:
        improves(page, options, rest, held)
    options.out.write_text("\n".join(page.lines) + "\n", "utf-8")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/evidence.md")
    parser.add_argument("--records", type=int, default=240, help="records with their revisions")
    parser.add_argument("--held-out", type=int, default=40, help="held-out records of each kind")
    parser.add_argument("--rows", type=int, default=96, help="rows of a training set")
    parser.add_argument(
        "--pairs", type=int, default=32, help="pairs of a preference training; 0: none"
    )
    parser.add_argument(
        "--iterations", type=int, default=2, help="iterations of a self-rewarding loop; 0: none"
    )
    return parser.parse_args()


# --- the data -------------------------------------------------------------------------------------


def read(folder):
    """Raw and revised records; responses by GPT-4; records with GPT-2's IFD. In a fixed order."""
    experts = json.load(gzip.open(folder / "reflections/coachlm_expert_revisions.json.gz"))
    revisions = [
        {"id": str(n), **part(row, "Revised"), "raw": part(row, "Raw")}
        for n, row in enumerate(experts)
    ]
    revisions = [r for r in revisions if usable(r) and usable(r["raw"])]
    written = json.load(gzip.open(folder / "reflections/alpaca_gpt4_999.json.gz"))
    recorded = json.load(gzip.open(folder / "scores/alpaca_5200_gpt2_ifd.json.gz"))
    recorded = [row for row in recorded if row["ifd_ppl"] == row["ifd_ppl"]]
    found = revisions, [*filter(usable, written)], [*filter(usable, recorded)]
    for rows in found:
        random.Random(0).shuffle(rows)
    return found


def part(row, kind):
    return {
        "instruction": row[f"{kind} Instruction"],
        "input": row[f"{kind} Input"] or "",
        "output": row[f"{kind} Response"],
    }


def usable(row):
    return bool(row["instruction"] and row["output"]) and sum(map(words, texts(row))) <= WORDS


def texts(row):
    return [row["instruction"], row.get("input") or "", row["output"]]


def words(text):
    return len(text.split())


class Page:
    """The lines of the results page."""

    def __init__(self, options, records):
        given = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in vars(options).items()
                         if name in ("records", "held_out", "rows", "pairs", "iterations"))  # fmt: skip
        line = next((x for x in open("/proc/cpuinfo") if x.startswith("model name")), ": unknown")
        self.lines = [
            "# Evidence on a real student",
            "",
            f"    python benchmarks/evidence.py STUDENT DATA --work WORK {given}".rstrip(),
            "",
            f"Student: a base model of {parameters(options.student) / 1e6:.0f}M parameters "
            f"(`{AutoConfig.from_pretrained(options.student).model_type}`). {len(records)} Alpaca records of at "
            f"most {WORDS} words, with a human expert's revision of each. "
            f"Python {platform.python_version()}, torch {torch.__version__}, transformers "
            f"{transformers.__version__}, on a CPU ({line.partition(':')[2].strip()}).",
            "",
        ]

    def __call__(self, *lines):
        """Print the lines and keep them as a paragraph."""
        print(*lines, sep="\n", flush=True)
        self.lines += [*lines, ""]

    def table(self, head, rows):
        """A table in Markdown."""
        self(*(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]))


def parameters(student):
    from safetensors import safe_open

    with safe_open(Path(student) / "model.safetensors", "pt") as file:
        return sum(np.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


# --- does the score see what it should? -----------------------------------------------------------


def sees(page, options, records, recorded):
    raw, revised = [r["raw"] for r in records], records
    turned = raw[1:] + raw[:1]  # each record's neighbour
    versions = {
        "original": raw,
        "another's": [{**y, "output": x["output"]} for x, y in zip(raw, turned, strict=True)],
        "cut": [{**x, "output": half(x["output"])} for x in raw],
        "revised": revised,
    }
    found = {name: scores(options, rows, f"a-{name}") for name, rows in versions.items()}
    page(
        "## Does the score see what it should?", "",
        f"{len(records)} of the records. The probability that the score of the first is higher than that of the second (AUC; ½ is chance), with a 95 % "
        "interval (bootstrap over records), and in how many of the records it is so within the record.",
    )  # fmt: skip
    rows, seen = [], []
    for what, high, low in (
        ("another record's instruction, its own", "another's", "original"),
        ("a response cut in half, the whole", "cut", "original"),
        ("the raw record, the expert's revision", "original", "revised"),
    ):
        for name in ("ifd", "rifd"):
            a, b = (np.array(found[version][name], float) for version in (high, low))
            both = np.isfinite(a) & np.isfinite(b)
            low_, high_ = bootstrap(auc, a[both], b[both])
            within = (a > b)[both & (a != b)]
            seen.append((f"{NAMES[name]}: {what}", auc(a[both], b[both]), low_, high_))
            rows.append([what, NAMES[name], f"{auc(a[both], b[both]):.3f}", f"{low_:.3f} to {high_:.3f}",
                         f"{within.mean():.0%} of {len(within)}"])  # fmt: skip
    page.table(["higher, lower", "score", "AUC", "95 %", "within a record"], rows)
    against_gpt2(page, options, recorded[: len(records)])
    return seen


NAMES = {"ifd": "IFD", "rifd": "r-IFD"}


def half(text):
    """Its first half, by words; at least one."""
    parts = text.split(" ")
    return " ".join(parts[: max(1, len(parts) // 2)])


def scores(options, rows, name, template="vicuna"):
    """IFD and r-IFD of the rows, in their order; kept as a file."""
    out = options.work / f"{name}.parquet"
    if not out.exists():
        plain = [
            dict(zip(("instruction", "input", "output"), texts(row), strict=True)) for row in rows
        ]
        numbered = [{"id": str(n), **row} for n, row in enumerate(plain)]
        score(numbered, student=options.student, out=out, template=template, device="cpu", dtype="float32")  # fmt: skip
    table = pq.read_table(out).to_pylist()
    by_id = {row["id"]: row for row in table}
    same = defaultdict(lambda: {"ifd": None, "rifd": None}, by_id)
    return {name: [same[str(n)][name] for n in range(len(rows))] for name in NAMES}


def auc(high, low):
    """P(high > low) + P(high = low) / 2 over all pairs: Mann and Whitney's U / nm."""
    both = high[:, None] - low[None, :]
    return float((both > 0).mean() + (both == 0).mean() / 2)


def bootstrap(statistic, *samples, times=1000):
    """The 95 % interval of a statistic of records, drawn anew with their values together."""
    draws = np.random.default_rng(0)
    n = len(samples[0])
    drawn = [draws.integers(0, n, n) for _ in range(times)]
    return np.percentile([statistic(*(s[d] for s in samples)) for d in drawn], [2.5, 97.5])


def against_gpt2(page, options, recorded):
    file = options.work / "plain.jinja"
    file.write_text(PLAIN, "utf-8")
    ours = np.array(scores(options, recorded, "a-gpt2", template=str(file))["ifd"], float)
    theirs = np.array([row["ifd_ppl"] for row in recorded])
    both = np.isfinite(ours)
    low, high = bootstrap(spearman, ours[both], theirs[both])
    page(f"Spearman's correlation of this student's IFD with the recorded IFD of GPT-2 (124M) on {both.sum()} records in "
         f"GPT-2's template: {spearman(ours[both], theirs[both]):.3f} (95 %: {low:.3f} to {high:.3f}).")  # fmt: skip


def spearman(a, b):
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


# --- does the selection help? ---------------------------------------------------------------------


def selected(options, records):
    """A run that selects from the records and their revisions as if a teacher had written these."""
    run = options.work / "run"
    if not (run / "manifest.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        data = options.work / "candidates.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in candidates(records)), "utf-8")
        select(data, student=options.student, out=run, template="vicuna", score_all=True, device="cpu", dtype="float32")  # fmt: skip
    return run


def candidates(records):
    for record in records:
        old, new = record["raw"], {key: record[key] for key in ("instruction", "input", "output")}
        for name, asked, answer in (("original", old, old), ("instruction", new, old),
                                    ("response", old, new), ("both", new, new)):  # fmt: skip
            yield {"id": record["id"], "candidate": name, **asked, "output": answer["output"]}


def training_sets(run, rows, seed):
    """The same number of rows for each; what is drawn is drawn anew with each seed."""
    kept = load_from_disk(str(next((run / "selected").iterdir()))).to_list()
    table = [r for shard in sorted((run / "candidates").glob("*.parquet")) for r in pq.read_table(shard).to_pylist()]  # fmt: skip
    of = {name: [r for r in table if r["candidate"] == name] for name in ("original", "both")}
    draws = random.Random(seed)
    chosen = draws.sample(kept, rows)
    return {
        "selected": chosen,
        "random originals": draws.sample(of["original"], rows),
        "originals of like length": alike(chosen, of["original"], draws),
        "all revisions": draws.sample(of["both"], rows),
    }


def alike(chosen, originals, draws):
    """For each chosen row the unused original whose response is nearest in length, by words."""
    left = draws.sample(originals, len(originals))
    found = []
    for row in chosen:
        found.append(min(left, key=lambda one: abs(words(one["output"]) - words(row["output"]))))
        left.remove(found[-1])
    return found


def helps(page, options, run, held):
    measured = {"nothing": [losses(options, options.student, held)]}
    lengths = {}
    for seed in SEEDS:
        for name, rows in training_sets(run, options.rows, seed).items():
            out = options.work / f"sft-{name.replace(' ', '-')}-{seed}"
            plain = [
                dict(zip(("instruction", "input", "output"), texts(r), strict=True)) for r in rows
            ]
            train(finetune, plain, options.student, out, seed=seed, epochs=1)
            lengths[name] = np.mean([words(row["output"]) for row in rows])
            measured.setdefault(name, []).append(losses(options, out, held))
    page(
        "## Does the selection help?", "",
        f"The student was fine-tuned (LoRA, rank 16, learning rate 2e-4, one epoch of {options.rows} rows, 8 a step) on "
        f"each set, drawn and trained with {len(SEEDS)} seeds. Held out: {options.held_out} records of each kind that no set "
        "asks. `all revisions` is the expert's revision of every record, without a selection.",
        "",
        f"Kept by the selection: {decisions(run)}.",
    )  # fmt: skip
    return report(page, held, measured, "random originals", lengths)


def decisions(run):
    kept = load_from_disk(str(next((run / "selected").iterdir())))
    total = sum(pq.read_metadata(shard).num_rows for shard in (run / "candidates").glob("*.parquet")) // 4  # fmt: skip
    counts = Counter(kept["candidate"])
    named = ", ".join(f"{counts[name]} `{name}`" for name in sorted(counts))
    return f"{len(kept)} of {total} records ({named})"


def train(command, data, model, out, **settings):
    if not (out / "training.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        command(data, model=model, out=out, **TRAINING, **settings)


def losses(options, model, held):
    """Of each held-out set: nats a response token, and bits a character."""
    file = options.work / "losses" / f"{Path(model).name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        found = {name: loss(str(model), rows) for name, rows in held.items()}
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())


def loss(model, rows):
    nats, counts = response_nats(model, [asked_and_said(row) for row in rows])
    characters = sum(len(row["output"]) for row in rows)
    return [nats.sum() / counts.sum(), nats.sum() / np.log(2) / characters]


def asked_and_said(row):
    return Template("vicuna").prompt(row["instruction"], row.get("input") or ""), row["output"]


def response_nats(model, prompts):
    """For each (prompt, response): -log p(response | prompt) in nats, and the response's tokens."""
    template, tokenizer = Template("vicuna"), load_tokenizer(model, None)
    student = load_student(model, revision=None, device=pick_device("cpu"), dtype="float32")
    tokens = Tokenization(tokenizer, template, name="exact", max_length=1024)
    spans = [span.conditional for span in tokens.span_pairs([Pair(*prompt) for prompt in prompts])]
    scorer = Scorer(student, tokens.header_ids(template.headers()))
    try:
        means = np.asarray(scorer.nll(spans))
    finally:
        scorer.close()
    counts = np.array([len(span.ids) - span.start for span in spans])
    return means * counts, counts


def report(page, held, measured, base, lengths):
    differences = []
    for kind in held:
        rows = []
        for name, found in measured.items():
            nats, bits = np.array([one[kind] for one in found]).T
            change = ["", ""]
            if len(found) == len(measured[base]) and name != base:
                other = np.array([one[kind][0] for one in measured[base]])
                change = interval(nats - other)
                differences.append((f"{name}: {kind}", *t_interval((nats - other).tolist())))
            long = f"{lengths[name]:.0f}" if name in lengths else ""
            rows.append([name, long, f"{nats.mean():.4f}", f"{bits.mean():.4f}", *change])
        page(f"Held-out loss on {kind}:")
        page.table(["trained on", "words a response", "nats a token", "bits a character", f"difference from {base}", "95 %"], rows)  # fmt: skip
    return differences


def interval(values):
    found = t_interval(values.tolist())
    return [f"{found.mean:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]


def draw(seen, differences, out):
    """The AUCs, and the differences of held-out loss from random originals, with 95 % intervals."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 6.5), height_ratios=(len(seen), len(differences)))
    for axis, points, chance, title in (
        (axes[0], seen, 0.5, "P(score of the first > score of the second)"),
        (axes[1], differences, 0.0, "held-out loss, nats a token, beside random originals"),
    ):
        places = range(len(points), 0, -1)
        middle, low, high = (np.array([point[n] for point in points]) for n in (1, 2, 3))
        axis.errorbar(
            middle, list(places), xerr=[middle - low, high - middle], fmt="o", color="#17748a"
        )
        axis.axvline(chance, color="#999999", linewidth=1)
        axis.set_yticks(list(places), [point[0] for point in points])
        axis.set_title(title, fontsize=10, loc="left")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


# --- what came since: preference training ---------------------------------------------------------


def prefers(page, options, run, held):
    folder = options.work / "pairs"
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        pairs(run, out=folder)
    made = load_from_disk(str(folder)).to_list()
    rows, unseen = apart(made, options.held_out)
    measured = {"nothing": [losses(options, options.student, held)]}
    started, trained = [], []
    for seed in SEEDS:
        drawn = random.Random(seed).sample(rows, min(options.pairs, len(rows)))
        chosen = [{"messages": [*row["prompt"], *row["chosen"]]} for row in drawn]
        sft, dpo = (options.work / f"chosen-{name}-{seed}" for name in ("sft", "dpo"))
        train(finetune, chosen, options.student, sft, seed=seed, epochs=1)
        three = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in drawn]
        train(align, three, str(sft), dpo, seed=seed, epochs=1, loss="dpo", learning_rate=5e-5)
        for name, out in (("SFT on chosen", sft), ("SFT on chosen, then DPO", dpo)):
            measured.setdefault(name, []).append(losses(options, out, held))
        started.append(preference(options, sft, unseen))
        trained.append(preference(options, dpo, unseen))
    page(
        "## Do the run's pairs help?", "",
        f"{len(made)} pairs from the same run (`curate pairs`). SFT on the chosen responses of {options.pairs} of them, and DPO on the "
        "same pairs from there (LoRA, learning rate 5e-5, beta 0.1, one epoch, 8 a step).",
    )  # fmt: skip
    report(page, held, measured, "SFT on chosen", {})
    prefers_more(page, len(unseen), np.array(started), np.array(trained))


def apart(rows, count):
    """Pairs to train on, and one pair each of `count` records that none of these is of."""
    ids = sorted({row["id"] for row in rows})
    unseen = set(random.Random(0).sample(ids, count))
    one = {row["id"]: row for row in rows if row["id"] in unseen}
    return [row for row in rows if row["id"] not in unseen], [one[id] for id in sorted(one)]


def preference(options, model, rows):
    """For each pair log p(chosen) - log p(rejected), in nats."""
    file = options.work / "preferences" / f"{model.name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        asked = [Template("vicuna").prompt(row["prompt"][0]["content"], "") for row in rows]
        sides = (
            response_nats(str(model), list(zip(asked, (r[side][0]["content"] for r in rows), strict=True)))[0]
            for side in ("rejected", "chosen")
        )  # fmt: skip
        rejected, chosen = sides
        file.write_text(json.dumps((rejected - chosen).tolist()))
    return json.loads(file.read_text())


def prefers_more(page, count, started, trained):
    """What DPO did to pairs of records that it did not see: (seeds, pairs) log-ratios in nats."""
    gained = trained - started
    page(
        f"{count} pairs of records that no training saw. The chosen response is likelier than the rejected one in "
        f"{(started > 0).mean():.0%} of them after SFT, in {(trained > 0).mean():.0%} after DPO (mean of {len(SEEDS)} seeds). "
        f"DPO raised log p(chosen) - log p(rejected) in {(gained > 0).mean():.0%} of them, by {interval(gained.mean(axis=1))[1]} "
        f"nats a pair (95 %, over seeds; mean {gained.mean():+.3f}).",
    )  # fmt: skip


# --- a loop: the student's own r-IFD as reward ----------------------------------------------------


def improves(page, options, records, held):
    given = {"recipe": "self-rewarding", "reward": "rifd", "no_sft": True, "iterations": options.iterations,
             "num_prompts": 24, "samples": 4, "max_tokens": 96, "batch_size": 8, "learning_rate": 5e-5,
             "preset": "lora", "min_pairs": 1, "stop": "never"}  # fmt: skip
    data, unseen = (options.work / f"{name}.jsonl" for name in ("prompts", "unseen"))
    for file, rows in ((data, records[-48:]), (unseen, held["expert revisions"][:16])):
        file.write_text("".join(json.dumps(dict(zip(("instruction", "input", "output"), texts(row), strict=True))) + "\n" for row in rows))  # fmt: skip
    model = str(options.work / "sft-selected-0")
    found = improve(
        str(data), model=model, held_out=str(unseen), out=options.work / "loop", **given
    )
    page(
        "## Does a loop help?", "",
        "The model trained on the selection (seed 0) answers prompts, its own r-IFD rates the answers, and DPO prefers the best to the worst "
        f"(`curate improve`, {', '.join(f'{name} {value}' for name, value in given.items())}). One seed. Measured on 16 held-out records; "
        "`taken up` is the share of a prompt's words of four letters and more that the greedy answer repeats.",
    )  # fmt: skip
    rows = [
        [str(one.iteration), *(shown(value, form) for value, form in (
            (one.pairs, "d"), (one.reward, ".3f"), (one.taken_up, ".3f"), (one.held_out_loss, ".4f"), (one.length, ".0f")))]
        for one in found.measured
    ]  # fmt: skip
    page.table(["iteration", "pairs", "reward", "taken up", "held-out loss", "characters an answer"], rows)  # fmt: skip


def shown(value, form):
    return "" if value is None else f"{value:{form}}"


if __name__ == "__main__":
    main()
