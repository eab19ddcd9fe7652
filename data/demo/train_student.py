"""Train the demo's student, a small English Llama that reads an instruction before it answers.

Text comes from two sources that may be redistributed and that are on any Debian system:
WordNet 3.0 (package wordnet-base: definitions, examples and relations of 117,000 concepts; WordNet
licence) and the docstrings and pydoc topics of the running Python's standard library (PSF licence).
From them and from sentence frames in this file the script writes instruction/answer pairs whose
answers take up the words of their instructions. On these it trains a byte-level BPE tokenizer and
the model: answers after a prompt, instructions after an answer ("guess the instruction"), and both
bare, as the scores IFD and r-IFD read them. Early on, texts repeated twice teach it to copy.

Everything follows from --seed: the same Python, libraries, WordNet and machine give the same
weights. The run as set takes about 25 minutes on one core. Two parts in a hundred of the source
text are kept out of training; the README beside the weights gives the perplexity there.
"""

import argparse
import ast
import json
import math
import random
import re
import sysconfig
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HF: Any = transformers
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
BELOW = "Below is an instruction that describes a task"
ASK = "Write a response that appropriately completes the request.\n\n### Instruction:\n{0}\n\n### "
TEMPLATES = {  # without input, with input
    "vicuna": (
        f"{SYSTEM} USER: {{0}} ASSISTANT:",
        f"{SYSTEM} USER: {{0}}\nInput:\n{{1}} ASSISTANT:",
    ),
    "alpaca": (
        f"{BELOW}. {ASK}Response:",
        f"{BELOW}, paired with an input that provides further context. {ASK}Input:\n{{1}}\n\n"
        "### Response:",
    ),
    "wizardlm": ("{0}\n\n### Response:", "{0}\n{1}\n\n### Response:"),
}
GUESS = (
    "Below is the response to an instruction, please guess the corresponding instruction for the "
    "given response.\n{0}\nGenerate the instruction for the above response."
)
CHAT = (
    "{{ bos_token }}{% if messages and messages[0].role == 'system' %}{{ messages[0].content }}"
    "{% else %}" + SYSTEM + "{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    " USER: {{ m.content }}{% elif m.role == 'assistant' %} ASSISTANT:{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
RUDE = re.compile("offensive|obscene|slur|derogat|disparag|sexual|vulgar|genital|prostitut|slang")
STOP = set(
    re.findall(
        "[a-z]+",
        """about above after again all also and any are around because been
before being between both but can could does done down during each either especially every few for
from has have having his how into its itself kind least less like made make many may more most much
not off often one only other out over part people same several she some someone something such that
than the their them then there these they thing things this those through time two under used using
usually very was were what when where which while who whose will with within without would you
your""",
    )
)
# Instructions on one concept, on words of the answer, on a statement in it, and how to begin.
WHAT = """What is {0}?|Explain what {0} is.|Describe {0}.|Define {0} and give an example.|What does
{0} mean?|Tell me about {0}.|Explain {0} in simple words.|Write a short paragraph about
{0}.|Describe {0} to a child.|How would you describe {0}?|Give a short description of {0}.|What
should I know about {0}?|In a few sentences, explain {0}.|What is {0}, and what is it used
for?|What is the meaning of {0}? Give examples.|Write an entry about {0} for a dictionary.|Explain
to a beginner what {0} is and how it works.|I keep hearing about {0}. What is it?|Give me three
facts about {0}.|Introduce {0}."""
WORDS = """Write about {0} and {1}.|Explain how {0} and {1} are connected.|What do {0} and {1} have
in common?|How does {0} affect {1}?|Why is {0} important for {1}?|Describe the {0} of the
{1}.|Explain the role of {0} in {1}.|Why do {0} need {1}?|How can {0} help with {1}?|Write a short
paragraph on {0} that mentions {1} and {2}.|What happens to {0} when there is {1}?|Describe how
{0}, {1} and {2} work together.|Give some examples of {0} with {1}.|Name some uses of {0} in
{1}.|Tell a short story about {0}, {1} and {2}.|Suggest ways to use {0} for {1}.|What are the main
differences between {0} and {1}?|How do you choose {0} for {1}?|Give advice about {0} and
{1}.|Explain why {0} can cause {1}.|What are the benefits of {0} for {1}?|How is {0} made from
{1}?|Use {0}, {1} and {2} in sentences.|Discuss {0} and its {1}.|Plan a {1} with {0}.|How to {0}
{1}?|Write a short letter about {0} and {1}."""
CLAUSE = """Explain how {0}.|Explain why {0}.|Describe how {0}.|Why is it that {0}?|Give an example
of how {0}.|What does it mean that {0}?|Tell me more: {0}.|Describe what happens when {0}.|Write a
short story in which {0}.|Say in other words: {0}.|How come {0}?|Continue this text: {0}.|Is it
true that {0}? Explain.|Write a few sentences about how {0}.|Describe {0}.|Write about {0}.|How can
you tell that {0}?|What should I do if {0}?"""
ECHO = """You can tell that {0} if you look.|This is how {0}.|{0}, because it has to.|When {0},
people notice it.|One way in which {0} is this.|{0} for two reasons.|If {0}, wait a while."""
DOING = """How do I {v} {n}?|Explain how to {v} {n}.|Describe the steps to {v} {n}.|What is the
best way to {v} {n}?|Give tips for {g} {n}.|Why should you {v} {n}?|How can I learn to {v} {n} at
home?|Give me three tips on {g} {n}.|Write instructions for {g} {n}.|What do I need to {v}
{n}?|Explain why people {v} {n}.|Tell a beginner how to {v} {n} safely.|What are the benefits of
{g} {n}?|Describe how you would {v} {n}.|List the steps for {g} {n}.|How often should I {v}
{n}?|How can you tell when to {v} {n}?|Describe how to {v} {n} that is {a}.|Explain how to {v} {n}
so that the {m} stays {a}.|Why does the {m} {v} {n}?|What happens when you {v} {n}?|How does a {m}
{v} {n}?|Suggest a plan for {g} {n}."""
START = """To {v} {n}, {w} the {s} first.|{g} {n} is easy with a {m}.|You should {v} {n} when the
{m} is {a}.|People {v} {n} because it is {a}.|To {v} {n} so that the {m} stays {a}, {w} it
first.|You can tell when to {v} {n} by the {m}.|The best way to {v} {n} is to {w} it.|{g} {n} means
that you {w} it.|When you {v} {n}, the {m} becomes {a}.|A {m} can {v} {n}, because the {m} is
{a}."""
STEPS = """First, {v} the {s}.|Start with the {s}, and {v} it with care.|Then {v} the {s} until it
is {a}.|Next, {v} it slowly.|It helps to {v} the {s} before you {w} it.|Keep the {s} {a}, because a
{a} {s} is easy to {v}.|Do not {w} the {s} too soon.|Use a {m} to {v} the {s}.|Put the {s} near the
{m}.|When the {s} is {a}, {v} the {m}.|After a few minutes, check the {s} again.|This keeps the {s}
{a} and makes it last.|If the {s} is too {a}, {w} it a little.|Many people {v} the {s} every
day.|{g} the {s} takes time, so plan ahead.|Finally, {w} the {s} and let it rest.|A good {s} needs
a {a} {m}.|The {m} protects the {s}.|Once you {v} the {s}, it becomes {a}.|{g} also helps you to
{w} better.|Choose a {m} that is {a}.|Each {s} should be {a}.|You can also {w} the {m}.|The {m}
stays {a} if you {w} the {s} well.|This is why the {s} is {a} when you {v} it.|If the {s} feels
{a}, the {m} needs more {o}, and if it feels {b}, it can wait.|The {s} {v}s the {m}, so the {m}
becomes {a}.|Without a {s}, the {m} cannot {v}.|Too much {o} makes the {s} {b}, and too little
makes it {a}.|The {m} and the {o} meet in the {s}, where they {v}.|That is why a {a} {s} looks {b}
in the morning.|They {v} their {o} in the {m} and {w} it at night.|Take off the {o} and lift out
the {m}.|Put in a new {o} of the same size as the {s}.|It takes two or three days to {v} {n}, so
begin early.|Turn off the {m}, open the {s}, and let the {o} out.|The best {s} for this is {a} and
{b}.|A {s} has a {a} {o} and a {b} {m}.|Ask a friend to hold the {o} while you {v} the {s}.|Write
down what you {v}, and look at it each week.|Leave some {o} between the {s} and the {m}.|In the end
the {s} is {a}, and people can {v} it again.|Cut the {o} into small pieces and add them to the
{s}.|Some {s} {o} is {a}, but most of it is {b}.|A {b} {o} is lighter than a {a} {s}, and so it
{v}s faster.|This means that the {m} must {v} the {o} all the time.|Animals, plants and people need
{o} to {v}.|If you cannot {v} the {s} yourself, bring it to a {m}.|At first the {s} was {b}; then
it began to {v}.|Be careful with {o}, since it may {w} the {s}.|Thank the people who {v} your {s},
and tell them about the {m}.|The {s} moves from the {o} to the {m} and back.|Both the {s} and the
{o} {v}, but only the {s} is {a}.|We {v} {n} in winter, when the {m} is {b} and the {o} is {a}."""
SORT = "Put these words in alphabetical order.|Sort the words from A to Z.|Arrange the list."
FIX = "Correct the punctuation.|Fix this text.|Rewrite the text with capitals and full stops."
DEFINE = "Define these words.|Explain the following words.|Write a short text with these words."
ORDER = "Put these sentences in order.|Rewrite this paragraph.|Say it again in a better order."
SUM = "Sum up the text.|Summarize the input.|What is this text about?|Give the main point."
GO_ON = "Continue the text.|Explain what this means.|Expand these notes.|Answer from the text."
DIFFER = """Compare {0} and {1}.|What is the difference between {0} and {1}?|How are {0} and {1}
alike, and how do they differ?|Explain the difference between {0} and {1}."""
KINDS = "List some kinds of {0}.|Name three types of {0}.|Give examples of {0} and describe each."
CALLED = "What do we call {0}?|Which word means {0}?|Name {0}."
LINK = "For example,|In short,|Also,|In addition,|As a result,|Because of this,|Sometimes"

Pair = tuple[str, str, str]  # instruction, input, answer
Row = tuple[list[int], int]  # tokens, and how many of them are the prompt


class Synset(NamedTuple):
    """One WordNet concept."""

    pos: str
    words: tuple[str, ...]
    definition: str
    examples: tuple[str, ...] = ()
    links: dict[str, list[str]] = {}  # noqa: RUF012


def held_out(text: str) -> bool:
    """Say whether a piece of source text is kept out of training (2 %)."""
    return zlib.crc32(text.encode()) % 50 == 0


def read_wordnet(folder: Path) -> dict[str, Synset]:
    """Read WordNet's data files; keys are part of speech and offset."""
    found = {}
    for pos, name in (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv")):
        for line in (folder / f"data.{name}").read_text("utf-8", "replace").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue
            head, gloss = line.split("|", 1)
            field = head.split()
            end = 4 + 2 * int(field[3], 16)
            words = tuple(re.sub(r"\(.*", "", w).replace("_", " ") for w in field[4:end:2])
            links: dict[str, list[str]] = defaultdict(list)
            for at in range(end + 1, end + 1 + 4 * int(field[end]), 4):
                links[field[at]].append(field[at + 2].replace("s", "a") + field[at + 1])
            examples = tuple(e.strip(" ;,") for e in re.findall(r'"([^"]{12,160})"', gloss))
            definition = re.sub(r"\([^)]*\)", "", gloss.split('"')[0].split("--")[0])
            definition = " ".join(definition.split()).strip(" ;:,")
            if words[0].islower() and not RUDE.search(gloss):
                found[pos + field[0]] = Synset(pos, words, definition, examples, links)
    return found


def read_docs() -> list[tuple[str, str]]:
    """Collect (title, paragraph) from the standard library's docstrings and pydoc's topics."""
    root = Path(sysconfig.get_path("stdlib"))
    skip = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo"}
    texts: list[tuple[str, str]] = []
    for path in sorted(root.rglob("*.py")):
        if skip & set(path.relative_to(root).parts):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append((getattr(node, "name", path.stem), ast.get_docstring(node) or ""))
            elif path.name == "topics.py" and isinstance(node, ast.Dict):
                texts += ast.literal_eval(node).items()
    found = set()
    for title, text in texts:
        for part in re.split(r"\n\s*\n", text):
            flat = " ".join(part.split())
            plain = sum(c.isalpha() or c in " ,.'" for c in flat) > 0.94 * len(flat)
            if plain and len(flat.split()) >= 9 and flat[0].isupper() and flat.endswith("."):
                found.add((title.strip("_").replace("_", " "), flat))
    return sorted(found)


def content(text: str) -> list[str]:
    """Return the words of a text that carry its subject."""
    return [w for w in re.findall(r"[a-z]{3,}", text.lower()) if w not in STOP]


def article(noun: str, definition: str) -> str:
    """Put an article before a noun whose definition says that it is counted."""
    counted = definition.startswith(("a ", "an "))
    return ("an " if noun[0] in "aeiou" else "a ") + noun if counted else noun


def plural(noun: str) -> str:
    """Return a regular plural."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def gerund(verb: str) -> str:
    """Return the -ing form of a verb's first word."""
    first, _, rest = verb.partition(" ")
    if first.endswith("e") and not first.endswith(("ee", "oe", "ye")):
        first = first[:-1]
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", first):
        first += first[-1]
    return f"{first}ing {rest}".strip()


def sentence(text: str) -> str:
    """Give a text a capital and a full stop."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def listing(words: Sequence[str]) -> str:
    """Join words as English lists do."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def size(sentences: Sequence[str]) -> int:
    """Count words."""
    return sum(len(s.split()) for s in sentences)


class Writer:
    """Writes instruction/answer pairs from one side (training or held out) of the sources."""

    def __init__(
        self, nets: dict[str, Synset], docs: list[tuple[str, str]], seed: int, held: bool
    ) -> None:
        """Choose the side's concepts and index its sentences by the words in them."""
        self.rng = random.Random(seed)
        self.nets = {k: s for k, s in nets.items() if held_out(k) == held}
        self.docs = [d for d in docs if held_out(d[1]) == held]
        seen = Counter(w for s in nets.values() for w in set(content(s.definition)))
        uses: dict[str, Counter[str]] = defaultdict(Counter)
        for syn in nets.values():
            for word in syn.words:
                uses[word][syn.pos] += 1
        self.topics: dict[str, list[Synset]] = defaultdict(list)
        self.plain: dict[str, list[str]] = defaultdict(list)
        self.sentences: list[str] = []
        for syn in self.nets.values():
            if not 3 <= len(syn.definition.split()) <= 28:
                continue
            common = any(seen[w] >= 8 for w in syn.words)
            self.topics[syn.pos] += [syn] * (8 if common and syn.pos != "r" else 1)
            self.plain[syn.pos] += [
                w for w in syn.words if seen[w] >= 20 and uses[w].most_common(1)[0][0] == syn.pos
            ]
            self.sentences += [sentence(e) for e in syn.examples if len(e.split()) > 3] * 2
            if common or all(seen[w] >= 6 for w in content(syn.definition)):
                self.sentences.append(self.define(syn))
        self.index: dict[str, list[int]] = defaultdict(list)
        for at, text in enumerate(self.sentences):
            for word in set(content(text)):
                self.index[word].append(at)
        self.heads = sorted(w for w, at in self.index.items() if 4 <= len(at) <= 600)

    def pick(self, items: str | Sequence[str]) -> str:
        """Choose one of several texts, or of the parts of one text."""
        if isinstance(items, str):
            items = " ".join(items.split()).split("|")
        return self.rng.choice(items)

    def length(self) -> int:
        """Draw the number of words of an answer."""
        return int(self.rng.triangular(12, 105, 55))

    def define(self, syn: Synset, word: str = "") -> str:
        """Say in a sentence what a concept is."""
        word = word or self.pick(syn.words)
        if syn.pos == "n":
            return sentence(f"{article(word, syn.definition)} is {syn.definition}")
        if syn.pos == "v":
            form = self.pick("to {0} is to {1}|when you {0} something, you {1}")
            return sentence(form.format(word, syn.definition))
        return sentence(f"{word} means {syn.definition}")

    def about(self, words: Sequence[str], length: int) -> list[str]:
        """Collect sentences that share words with each other until they hold enough words."""
        out: list[str] = []
        queue = list(words)
        while size(out) < length:
            word = self.pick(queue) if queue and self.rng.random() < 0.9 else self.pick(self.heads)
            places = self.index.get(word) or self.index.get(word.rstrip("s"))
            text = self.sentences[self.rng.choice(places or range(len(self.sentences)))]
            if text in out:
                queue = [w for w in queue if w != word] or content(out[-1])
                continue
            if self.rng.random() < 0.12:
                text = f"{self.pick(LINK)} {text[0].lower()}" + text[1:]
            out.append(text)
            if self.rng.random() < 0.25:
                queue += content(text)[:3]
        return out

    def linked(self, syn: Synset, *symbols: str) -> list[Synset]:
        """Follow a concept's relations inside this side."""
        found = [self.nets[k] for s in symbols for k in syn.links.get(s, ()) if k in self.nets]
        self.rng.shuffle(found)
        return found[:4]

    def concept(self) -> Pair:
        """Explain one concept: definition, kinds, parts, examples."""
        syn = self.rng.choice(self.topics[self.rng.choices("nvar", (12, 4, 3, 1))[0]])
        word, length = self.pick(syn.words), self.length()
        subject = article(word, syn.definition) if syn.pos == "n" else word
        out, more = [self.define(syn, word)], [sentence(e) for e in syn.examples]
        for up in self.linked(syn, "@")[:1]:
            more += [sentence(f"{subject} is a kind of {up.words[0]}"), self.define(up)]
        for form, symbols in (
            ("Kinds of {0} include {1}.", "~"),
            ("There are many kinds of {0}, such as {1}.", "~"),
            ("The parts of {0} are the {1}.", ("%p", "%m", "%s")),
        ):
            if found := self.linked(syn, *symbols):
                more.append(form.format(word, listing([self.pick(f.words) for f in found])))
                more.append(self.define(found[0]))
        self.rng.shuffle(more)
        while more and size(out) < length:
            out.append(more.pop())
        text = " ".join(out + self.about([word], length - size(out)))
        if self.rng.random() < 0.15:  # the other way round: the name is asked for
            return self.pick(CALLED).format(syn.definition.split(";")[0]), "", text
        return self.pick(WHAT).format(subject), "", text

    def compare(self) -> Pair:
        """Compare two concepts, or list the kinds of one."""
        kinds: list[Synset] = []
        while len(kinds) < 3:
            top = self.rng.choice(self.topics["n"])
            kinds = self.linked(top, "~")
        if self.rng.random() < 0.5:
            text = f"Here are some kinds of {top.words[0]}."
            for number, kind in enumerate(kinds, 1):
                text += f"\n{number}. {self.define(kind)}"
            return self.pick(KINDS).format(top.words[0]), "", text
        one, two = (self.pick(k.words) for k in kinds[:2])
        out = [self.define(kinds[0], one), self.define(kinds[1], two)]
        out.append(f"Both {one} and {two} are kinds of {top.words[0]}.")
        out += self.about([one, two], self.length() // 2)
        return self.pick(DIFFER).format(one, two), "", " ".join(out)

    def related(self) -> Pair:
        """Ask with words of the answer, whose sentences hang together by a word."""
        word = self.pick(self.heads)
        text = " ".join(self.about([word], self.length()))
        others = [w for w in dict.fromkeys(content(text)) if w != word] or [word]
        words = [word, self.pick(others), self.pick(others)]
        if self.rng.random() < 0.3:
            self.rng.shuffle(words)
        return self.pick(WORDS if self.rng.random() < 0.8 else WHAT).format(*words), "", text

    def clause(self) -> Pair:
        """Ask about a statement or a phrase that the answer takes up."""
        out = self.about([self.pick(self.heads)], self.length())
        said = (out[0] if self.rng.random() < 0.4 else self.pick(out)).rstrip(".!?").split()
        if len(said) > 5 and self.rng.random() < 0.5:
            at = self.rng.randrange(len(said) - 4)
            said = said[at : at + self.rng.randint(3, 6)]
        said[0] = said[0].lower() if said[0] != "I" else "I"
        if self.rng.random() < 0.5:
            out.insert(0, sentence(self.pick(ECHO).format(" ".join(said))))
        out += self.about(content(" ".join(said)) or self.heads[:9], 14)
        return self.pick(CLAUSE).format(" ".join(said)), "", " ".join(out)

    def doing(self) -> Pair:
        """Write steps or advice with plain words."""
        verb, other = self.pick(self.plain["v"]), self.pick(self.plain["v"])
        noun, tool = self.pick(self.plain["n"]), self.pick(self.plain["n"])
        thing = plural(noun) if self.rng.random() < 0.5 else self.pick("the|a|your") + " " + noun
        if self.rng.random() < 0.3:
            thing = f"{thing} {self.pick('with|for|in|from|without')} {tool}"
        slots = {"v": verb, "w": other, "g": gerund(verb), "s": noun, "n": thing, "m": tool}
        slots["a"] = self.pick(self.plain["a"])
        out, length = [sentence(self.pick(START).format(**slots))], self.length()
        while size(out) < length:
            if self.rng.random() < 0.3:
                out += self.about([noun, verb, tool], 4)
            extra = {"o": self.pick(self.plain["n"]), "b": self.pick(self.plain["a"])}
            out.append(sentence(self.pick(STEPS).format(**slots, **extra)))
        return self.pick(DOING).format(**slots), "", " ".join(dict.fromkeys(out))

    def given(self) -> Pair:
        """Work on an input: sort, repair, define, put in order, sum up, go on."""
        out = self.about([self.pick(self.heads)], self.rng.randint(8, 45))
        text, kind = " ".join(out), self.rng.randrange(6)
        words = sorted(set(content(text)) & self.index.keys()) or ["word"]
        words = self.rng.sample(words, min(5, len(words)))
        if kind == 0:
            return self.pick(SORT), ", ".join(words), ", ".join(sorted(words)) + "."
        if kind == 1:
            return self.pick(FIX), re.sub("[.,]", "", text.lower()), text
        if kind == 2:
            said = [self.sentences[self.rng.choice(self.index[w] or [0])] for w in words]
            return self.pick(DEFINE), ", ".join(words), " ".join(said)
        if kind == 3:
            return self.pick(ORDER), " ".join(self.rng.sample(out, len(out))), text
        if kind == 4:
            return self.pick(SUM), text, f"It is about {listing(words[:3])}. {self.pick(out)}"
        return self.pick(GO_ON), text, " ".join(self.about(words, self.length()))

    def document(self) -> Pair:
        """Ask for a paragraph of the Python documentation."""
        title, text = self.rng.choice(self.docs)
        words = [title, *self.rng.choices(content(text) or [title], k=2)]
        text = " ".join(text.split()[:110])
        return self.pick(WHAT if self.rng.random() < 0.5 else WORDS).format(*words), "", text

    def pair(self) -> Pair:
        """Write a pair of any kind."""
        kinds: list[Callable[[], Pair]] = [self.concept, self.compare, self.related, self.clause]
        kinds += [self.doing, self.given, self.document]
        return self.rng.choices(kinds, (18, 6, 15, 19, 29, 8, 5))[0]()


def prompt(template: str, instruction: str, given: str = "") -> str:
    """Fill a prompt template."""
    return TEMPLATES[template][bool(given)].format(instruction, given)


def build_tokenizer(writer: Writer, vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE that puts <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [GUESS, *(prompt(t, "", "x") for t in TEMPLATES)] * 20
    for _ in range(9000):
        texts += writer.pair()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenise without <s>."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def write_row(writer: Writer, tokenizer: Tokenizer, copy: float, longest: int) -> Row:
    """Write a training row: a text twice, or an answer or instruction after a prompt or bare."""
    instruction, given, answer = writer.pair()
    if writer.rng.random() < copy:
        text = encode(tokenizer, answer)[: writer.rng.randint(10, longest // 2 - 1)]
        if writer.rng.random() < 0.5:
            writer.rng.shuffle(text)
        return [0, *text, *text], len(text) + 1
    template, draw = writer.rng.choices(list(TEMPLATES), (4, 1, 1))[0], writer.rng.random()
    before, after = "", answer if draw < 0.20 else instruction + given
    if draw > 0.50:
        before, after = prompt(template, instruction, given), answer
    elif draw > 0.27:
        before = prompt(template, GUESS.format(answer))
    head = [0, *encode(tokenizer, before)]
    return [*head, *encode(tokenizer, after), 1][:longest], len(head)


def batches(writer: Writer, tokenizer: Tokenizer, options: Any) -> Iterator[list[Row]]:
    """Yield batches of rows of like lengths, about options.budget tokens each."""
    done = 0
    while done < options.steps:
        early = done < 0.25 * options.steps  # short rows, half of them to copy
        copy, longest = (0.5, 128) if early else (0.06, options.longest)
        budget = options.budget // 2 if early else options.budget
        rows = [write_row(writer, tokenizer, copy, longest) for _ in range(256)]
        groups: list[list[Row]] = [[]]
        for row in sorted(rows, key=lambda r: len(r[0])):
            if (len(groups[-1]) + 1) * len(row[0]) > budget or len(groups[-1]) == 32:
                groups.append([])
            groups[-1].append(row)
        writer.rng.shuffle(groups)
        yield from groups[: options.steps - done]
        done += len(groups)


def losses(model: Any, rows: list[Row], prompt_weight: float = 0.0) -> tuple[Any, Any]:
    """Return each row's weighted sum of token losses, and the sum of its weights."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.ones(len(rows), width, dtype=torch.long)
    weight = torch.zeros(len(rows), width)
    for at, (ids, start) in enumerate(rows):
        tokens[at, : len(ids)] = torch.tensor(ids)
        weight[at, : len(ids)] = prompt_weight
        weight[at, start : len(ids)] = 1.0
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].transpose(1, 2)
    loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none")
    return (loss * weight[:, 1:]).sum(1), weight[:, 1:].sum(1)


class Muon:
    """Momentum whose step for a matrix is made orthogonal by five Newton-Schulz turns."""

    def __init__(self, matrices: list[Any]) -> None:
        """Take the matrices; equal shapes are stepped together."""
        self.shapes: dict[Any, list[Any]] = defaultdict(list)
        for matrix in matrices:
            self.shapes[matrix.shape].append((matrix, torch.zeros_like(matrix)))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step and forget the gradients."""
        for shape, pairs in self.shapes.items():
            for matrix, mean in pairs:
                mean.lerp_(matrix.grad, 0.05)
            x = torch.stack([matrix.grad.lerp(mean, 0.95) for matrix, mean in pairs])
            x = x.mT if shape[0] > shape[1] else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = x.mT if shape[0] > shape[1] else x
            for (matrix, _), turn in zip(pairs, x, strict=True):
                matrix.mul_(1 - 0.1 * rate).sub_(turn * (0.2 * math.sqrt(max(shape)) * rate))
                matrix.grad = None


def train(writer: Writer, tokenizer: Tokenizer, options: Any) -> Any:
    """Train the model from nothing and return it."""
    torch.manual_seed(options.seed)
    config = HF.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 32,
        num_key_value_heads=options.hidden // 32,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = HF.LlamaForCausalLM(config).train()
    matrices = [p for n, p in model.named_parameters() if "proj" in n]
    others = [p for n, p in model.named_parameters() if "proj" not in n]
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    muon = Muon(matrices)
    begun, mean = time.time(), 0.0
    for step, rows in enumerate(batches(writer, tokenizer, options), 1):
        rate = options.lr * (0.525 + 0.475 * math.cos(math.pi * step / options.steps))
        rate *= min(1.0, step / 100)
        sums, sizes = losses(model, rows, 0.3)
        (sums.sum() / (0.5 * options.budget)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = rate
        adam.step()
        adam.zero_grad()
        muon.step(rate)
        mean += (float((sums.sum() / sizes.sum()).detach()) - mean) / min(step, 100)
        if step % 100 == 0:
            print(f"step {step} loss {mean:.3f} {time.time() - begun:.0f} s", flush=True)
    return model.eval()


def save(model: Any, tokenizer: Tokenizer, out: Path) -> None:
    """Write weights (stored as float16, read as float32) and tokenizer."""
    model.generation_config.pad_token_id = 1
    model.half().save_pretrained(out)
    fast = HF.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(out)
    for name, key, value in (
        ("config.json", "dtype", "float32"),
        ("tokenizer_config.json", "chat_template", CHAT),
        ("tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast"),
    ):
        settings = {**json.loads((out / name).read_text()), key: value}
        (out / name).write_text(json.dumps(settings, indent=2) + "\n")
    (out / "model.safetensors").chmod(0o644)


@torch.no_grad()
def check(out: Path, writer: Writer) -> dict[str, Any]:
    """Measure the saved student on text kept out of training."""
    model = HF.LlamaForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts = [text for _, text in writer.docs] + writer.sentences
    loss = count = 0.0
    for at in range(0, len(texts), 16):
        rows = [([0, *encode(tokenizer, t)][:1024], 1) for t in texts[at : at + 16]]
        sums, sizes = losses(model, rows)
        loss, count = loss + float(sums.sum()), count + float(sizes.sum())
    kinds = (writer.concept, writer.related, writer.clause, writer.doing)
    pairs = [writer.rng.choice(kinds)() for _ in range(200)]
    wins = dict.fromkeys(TEMPLATES, 0.0)
    for name in TEMPLATES:
        for one, two in zip(pairs, pairs[1:] + pairs[:1], strict=True):
            heads = [[0, *encode(tokenizer, prompt(name, p[0], p[1]))] for p in (one, two)]
            tail = encode(tokenizer, one[2])
            own, other = losses(model, [(head + tail, len(head)) for head in heads])[0]
            wins[name] += 100 * bool(own < other) / len(pairs)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": sum(p.stat().st_size for p in out.iterdir()) / 1e6,
        "texts": len(texts),
        "perplexity_token": math.exp(loss / count),
        "perplexity_word": math.exp(loss / size(texts)),
        "own_wins": ", ".join(f"{name} {won:.0f} %" for name, won in wins.items()),
    }


README = """# Demo student

A Llama of {parameters:,} parameters (stored as float16, {megabytes:.1f} MB with its tokenizer),
trained by `../train_student.py` in {steps} steps and {minutes:.0f} minutes on one core. It scores
the offline demo and is of no other use.

- Held-out perplexity: {perplexity_token:.1f} a token ({perplexity_word:.0f} a word) on {texts:,}
  definitions, example sentences and documentation paragraphs kept out of training.
- On 200 generated held-out pairs, the answer is likelier after its own instruction than after
  another's: {own_wins}.

## Sources and licences

Docstrings and pydoc topics of Python's standard library, under the PSF License Agreement
(https://docs.python.org/3/license.html): Copyright (c) 2001 Python Software Foundation; All Rights
Reserved.

WordNet 3.0 (https://wordnet.princeton.edu), under this notice:

{notice}
"""


def main() -> None:
    """Train, save and check the student."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("student"))
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--budget", type=int, default=2400, help="tokens a step")
    parser.add_argument("--longest", type=int, default=352, help="tokens of a row at most")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="only measure what is in --out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    nets, docs = read_wordnet(options.wordnet), read_docs()
    if not options.check:
        writer = Writer(nets, docs, options.seed, held=False)
        tokenizer = build_tokenizer(writer, options.vocabulary)
        begun = time.time()
        model = train(writer, tokenizer, options)
        minutes = (time.time() - begun) / 60
        save(model, tokenizer, options.out)
    found = check(options.out, Writer(nets, docs, options.seed, held=True))
    print(json.dumps(found, indent=2))
    if not options.check:
        lines = (options.wordnet / "data.noun").read_text("utf-8", "replace").splitlines()
        notice = "\n".join(("> " + li[4:].strip()).rstrip() for li in lines if li.startswith("  "))
        text = README.format(**found, steps=options.steps, minutes=minutes, notice=notice)
        (options.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
