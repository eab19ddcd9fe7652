"""A tiny student with a byte-level tokenizer, records to train it on, and how it is trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curate.pipeline.config.shared.training import FinetuneConfig
from curate.pipeline.records import Example
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.finetuning import finetune
from curate.pipeline.templates import Template, student_template
from curate.pipeline.training.chat_template import answer_end
from curate.pipeline.training.folder.publication import TrainingResult
from curate.pipeline.training.preparation import RecordSource
from curate.pipeline.training.rows import (
    Record,
    RowFormat,
    TrainingData,
    TrainingRow,
    training_data,
)

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
BELOW = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)
RECORDS = [
    Example(id=str(n), instruction=f"Say {n} twice.", output=f"{n} and {n}" + " again" * (n % 5))
    for n in range(24)
]


def save_byte_student(folder: Path) -> Path:
    """A Llama of random weights with a byte-level tokenizer that puts BOS in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [VICUNA, BELOW, REQUEST, "user assistant again and again"],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def template_of(name: str, student: Path) -> Template:
    return student_template(name, AutoTokenizer.from_pretrained(student))


def tokens_of(student: Path, template: str = "wizardlm") -> Tokenization:
    tokenizer = AutoTokenizer.from_pretrained(student)
    return Tokenization(tokenizer, template_of(template, student), name="exact", max_length=256)


def config_of(student: Path, out: Path, **settings: Any) -> FinetuneConfig:
    fast = {
        "epochs": 3,
        "batch_size": 4,
        "per_device_batch_size": 2,
        "learning_rate": 3e-3,
        "held_out": 4,
    }
    config = FinetuneConfig(model=str(student), out=out, preset="demo")
    return replace(config, **{**fast, **settings})


def train(config: FinetuneConfig, records: Any = RECORDS, **options: Any) -> TrainingResult:
    student = Path(config.model)
    template = options.pop("template", Template("wizardlm"))
    source: RecordSource[Record] = RecordSource(records=records, origin=options.pop("origin", {}))
    tokens = tokens_of(student, template.name)
    return finetune(config, source, tokens=tokens, **options)


def save_talker(student: Path, out: Path) -> Path:
    """The student, trained to say something short and to end."""
    records = [Example(id=str(n), instruction=f"Say {n}.", output=str(n % 3)) for n in range(24)]
    train(config_of(student, out, epochs=8, learning_rate=1e-2, held_out=0), records)
    return out


def save_rater(student: Path, out: Path) -> Path:
    """The student with room for the rubric, trained to answer whatever it is asked with a score."""
    model, wide = LlamaForCausalLM.from_pretrained(student), out.with_name("wide")
    model.config.max_position_embeddings = 1024
    model.save_pretrained(wide)
    AutoTokenizer.from_pretrained(student).save_pretrained(wide)
    records = [
        Example(id=str(n), instruction=f"Say {n}.", output=f"Score: {n % 3}") for n in range(24)
    ]
    train(config_of(wide, out, epochs=8, learning_rate=1e-2, held_out=0), records)
    return out


def data_of(
    student: Path, records: Any = RECORDS, name: Any = "wizardlm", **options: Any
) -> TrainingData[TrainingRow]:
    template, tokens = template_of(name, student), tokens_of(student, name)
    form = RowFormat(
        template=template,
        tokens=tokens,
        end=answer_end(template, tokens),
        max_length=options.pop("max_length", 256),
        overlong=options.pop("overlong", "cut"),
    )
    return training_data(records, form, **options)
