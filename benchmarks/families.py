"""Which families of models are packed: each in its real proportions, with one or two layers.

    python benchmarks/families.py [--only NAME] [--threads 4]

Random weights. Prints a page in Markdown: whether the proof at load holds, what neighbours in a row
change, how far packed rows are from the model's own forward, and the reason where one is not packed.
"""

import argparse
import gc
import logging
import platform
import sys

import torch
import transformers as hf

from curate.pipeline.scoring.model import student_of
from curate.pipeline.scoring.proof import as_rows_are_scored, own_way, probe_of

LENGTH = 2048
TWO = {"num_hidden_layers": 2}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 48, "long_factor": [4.0] * 48,
    "original_max_position_embeddings": 4096, "factor": 32.0,
}  # fmt: skip


def llama(hidden, inner, heads, groups, vocabulary, **more):
    sizes = {
        "hidden_size": hidden, "intermediate_size": inner, "num_attention_heads": heads,
        "num_key_value_heads": groups, "vocab_size": vocabulary, "max_position_embeddings": 8192,
        "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return sizes | TWO | more


# What it is of, in its model card's proportions.
FAMILIES = {
    "Llama 2 7B": lambda: hf.LlamaConfig(**llama(4096, 11008, 32, 32, 32000)),
    "Llama 3.2 1B": lambda: hf.LlamaConfig(**llama(2048, 8192, 32, 8, 128256, head_dim=64, tie_word_embeddings=True)),
    "Qwen 2.5 0.5B": lambda: hf.Qwen2Config(**llama(896, 4864, 14, 2, 151936, tie_word_embeddings=True)),
    "Qwen 3 0.6B": lambda: hf.Qwen3Config(**llama(1024, 3072, 16, 8, 151936, head_dim=128, tie_word_embeddings=True)),
    "Mistral 7B": lambda: hf.MistralConfig(**llama(4096, 14336, 32, 8, 32000, sliding_window=4096, num_hidden_layers=1)),
    "Gemma 2 2B": lambda: hf.Gemma2Config(
        **llama(2304, 9216, 8, 4, 256000, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096)
    ),
    "Gemma 3 1B": lambda: hf.Gemma3TextConfig(
        **llama(1152, 6912, 4, 1, 262144, head_dim=256, query_pre_attn_scalar=256, sliding_window=512)
    ),
    "Phi 3 mini 4k": lambda: hf.Phi3Config(**llama(3072, 8192, 32, 32, 32064, sliding_window=2047, num_hidden_layers=1)),
    "Phi 3 mini 128k": lambda: hf.Phi3Config(
        **llama(3072, 8192, 32, 32, 32064, original_max_position_embeddings=4096, rope_parameters=LONGROPE)
    ),
    "OLMo 2 1B": lambda: hf.Olmo2Config(**llama(2048, 8192, 16, 16, 100352)),
    "SmolLM 135M": lambda: hf.LlamaConfig(**llama(576, 1536, 9, 3, 49152, tie_word_embeddings=True)),
    "GPT-2": lambda: hf.GPT2Config(n_layer=2),
    "GPT-NeoX (Pythia 410M)": lambda: hf.GPTNeoXConfig(
        vocab_size=50304, hidden_size=1024, intermediate_size=4096, num_attention_heads=16, rotary_pct=0.25, **TWO
    ),
    "Mixtral, narrow": lambda: hf.MixtralConfig(**llama(1024, 3584, 32, 8, 32000, num_local_experts=8)),
    "Falcon 7B": lambda: hf.FalconConfig(hidden_size=4544, num_attention_heads=71, **TWO),
    "Bloom 560M": lambda: hf.BloomConfig(hidden_size=1024, n_layer=2, n_head=16),
    "GPT-OSS, narrow": lambda: hf.GptOssConfig(
        **llama(512, 512, 16, 8, 32000, head_dim=64, num_local_experts=4, sliding_window=128)
    ),
}  # fmt: skip


def main():
    options = parsed()
    torch.set_num_threads(options.threads)
    print(f"# Which families are packed\n\n    python {' '.join(sys.argv)}\n")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {hf.__version__}, "
        f"{options.threads} threads, float32, random weights, sequences of at most {LENGTH} tokens.\n"
    )
    print(
        "| family | heads, groups, width | window | vocabulary | packed | neighbours change | off by | why not |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, config in FAMILIES.items():
        if options.only is None or options.only in name:
            print(row(name, config()), flush=True)
            gc.collect()


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def row(name, config):
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    expected = reference(model)
    said = Said()
    student = student_of(model, torch.float32, max_length=LENGTH)
    logging.getLogger("curate.pipeline.scoring.model").removeHandler(said)
    off = "" if expected is None or not student.packed else f"{distance(student, expected):.0e}"
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    noise = f"{student.noise:.0e} nats" if student.noise else "no bit"
    return (
        f"| {name} | {heads}, {groups}, {width} | {getattr(config, 'sliding_window', None) or ''} | "
        f"{config.vocab_size} | {'yes' if student.packed else 'no'} | {noise if student.packed else ''} | "
        f"{off} | {'' if student.packed else said.reason} |"
    )


def reference(model):
    """The probe, with what the model's own forward gives on it (sdpa leaves Gemma 2's softcap out)."""
    model.set_attn_implementation("eager")
    with as_rows_are_scored(model.device):
        return probe_of(model, own_way(model), LENGTH)


def distance(student, probe):
    with as_rows_are_scored(student.device):
        return float((student.log_probs(probe.row) - probe.expected).abs().max())


class Said(logging.Handler):
    """What the log says of a model."""

    def __init__(self):
        super().__init__()
        self.reason = ""
        logging.getLogger("curate.pipeline.scoring.model").addHandler(self)

    def emit(self, record):  # noqa: D102
        self.reason = self.reason or record.getMessage().partition("at a time: ")[2]


if __name__ == "__main__":
    main()
