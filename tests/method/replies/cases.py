"""A table of teacher replies, whole and bent, with what the parser must make of each."""

from dataclasses import dataclass
from typing import Literal

from curate.pipeline.method.replies.parsing import Parsed

INS = "Name three trees that keep their leaves in winter, and say how each one does it."
ANS = "Pine, holly and ivy. Their leaves hold wax, and the wax holds the water in."
CRITIQUE = "The instruction is vague. The answer is right but thin.\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    kind: Literal["instruction", "response"]
    reply: str
    expected: Parsed
    finish_reason: str | None = "stop"
    example_texts: tuple[str, ...] = ("Tell me about trees.", "", "Trees are plants.")


def pair(instruction: str = INS, output: str = ANS, *, boilerplate: bool = False) -> Parsed:
    return Parsed(status="ok", instruction=instruction, output=output, boilerplate=boilerplate)


def answer(output: str = ANS, *, boilerplate: bool = False) -> Parsed:
    return Parsed(status="ok", output=output, boilerplate=boilerplate)


def unparsed(reason: str) -> Parsed:
    return Parsed(status="unparsed", reason=reason)


def refused(reason: str = "a refusal") -> Parsed:
    return Parsed(status="refused", reason=reason)


CUT = Parsed(status="truncated", reason="cut at the token limit")


def ins(name: str, reply: str, expected: Parsed, **rest: object) -> Case:
    return Case(name=name, kind="instruction", reply=reply, expected=expected, **rest)  # type: ignore[arg-type]


def res(name: str, reply: str, expected: Parsed, **rest: object) -> Case:
    return Case(name=name, kind="response", reply=reply, expected=expected, **rest)  # type: ignore[arg-type]


WHOLE = f"{CRITIQUE}[New Instruction]\n{INS}\n[End]\n\n[New Answer]\n{ANS}\n[End]"
BETTER = f"{CRITIQUE}[Better Answer]\n{ANS}\n[End]"
CODE = "```python\ndef last(a, end):\n    return a[end]\n```"
LIST = "1. Pine\n2. Holly\n3. Ivy"

WHOLE_CASES = [
    ins("as asked", WHOLE, pair()),
    res("as asked, response", BETTER, answer()),
    ins(
        "all on one line",
        f"Too easy. [New Instruction] {INS} [End] [New Answer] {ANS} [End]",
        pair(),
    ),
    ins(
        "all on one line, with colons",
        f"New Instruction: {INS} [End] New Answer: {ANS} [End]",
        pair(),
    ),
    ins(
        "nothing but the parts", f"[New Instruction] {INS} [End]\n[New Answer] {ANS} [End]", pair()
    ),
    ins("windows line ends", WHOLE.replace("\n", "\r\n"), pair()),
    ins("byte order mark", "\ufeff" + WHOLE, pair()),
    ins("no finish reason known", WHOLE, pair(), finish_reason=None),
    ins(
        "the other order",
        f"[New Answer] {ANS} [End]\n[New Instruction] {INS} [End]",
        pair(),
    ),
    ins("text after the last end", WHOLE + "\n\nI hope this pair is harder.", pair()),
    res(
        "text after the end, same line",
        f"[Better Answer] {ANS} [End] I hope this helps!",
        answer(),
    ),
    ins(
        "several paragraphs",
        f"[New Instruction]\n{INS}\n\nUse a list.\n[End]\n[New Answer]\n{LIST}\n\n{ANS}\n[End]",
        pair(f"{INS}\n\nUse a list.", f"{LIST}\n\n{ANS}"),
    ),
    res("a list from 1 stays", f"[Better Answer]\n{LIST}\n[End]", answer(LIST)),
    res(
        "an answer with a colon opening", "[Better Answer] Pine: tall. [End]", answer("Pine: tall.")
    ),
    res("an answer of one number", "[Better Answer]\n4.\n[End]", answer("4.")),
    res("a result line", "[Better Answer]\nThe sum is:\n4.\n[End]", answer("The sum is:\n4.")),
    res(
        "a letter that says sorry",
        "[Better Answer] I'm sorry for the delay of your order. It will arrive on Monday. [End]",
        answer("I'm sorry for the delay of your order. It will arrive on Monday."),
    ),
    res(
        "a poem that cannot help",
        "[Better Answer] I cannot help the way I feel about the sea. [End]",
        answer("I cannot help the way I feel about the sea."),
    ),
    res(
        "a paraphrase of not being able",
        "[Better Answer] I can't do this. [End]",
        answer("I can't do this."),
    ),
    res("code keeps its fence", f"[Better Answer]\n{CODE}\n[End]", answer(CODE)),
    res(
        "code with [end] as an index",
        "[Better Answer]\nUse a[:end] or\n\n    x = a[end]\n    y = a[end]\n\nas you like.\n[End]",
        answer("Use a[:end] or\n\n    x = a[end]\n    y = a[end]\n\nas you like."),
    ),
    res(
        "code and prose with bare fences",
        "[Better Answer]\n```\na = 1\n```\nthen\n```\nb = 2\n```\n[End]",
        answer("```\na = 1\n```\nthen\n```\nb = 2\n```"),
    ),
    res(
        "indentation of the first line",
        "[Better Answer]\n    x = 1\ny = 2\n[End]",
        answer("    x = 1\ny = 2"),
    ),
    res(
        "dunder is no bold",
        "[Better Answer] __init__ [End]",
        answer("__init__"),
    ),
]

MARKER_CASES = [
    ins(
        "colon for brackets",
        f"{CRITIQUE}New Instruction: {INS}\n\nNew Answer: {ANS}",
        pair(),
    ),
    ins(
        "colon for brackets, with ends",
        f"{CRITIQUE}New Instruction:\n{INS}\n[End]\nNew Answer:\n{ANS}\n[End]",
        pair(),
    ),
    ins("bold labels", f"**New Instruction:** {INS}\n\n**New Answer:** {ANS}", pair()),
    ins(
        "bold labels, colon outside", f"**New Instruction**: {INS}\n**New Answer**:\n{ANS}", pair()
    ),
    ins("headings", f"### New Instruction\n{INS}\n\n### New Answer\n{ANS}", pair()),
    ins("bold headings", f"## **New Instruction**\n{INS}\n\n## **New Answer**\n{ANS}", pair()),
    res("heading", f"{CRITIQUE}### Better Answer\n\n{ANS}\n\n[End]", answer()),
    res("the better answer, lower case label", f"the better answer: {ANS}", answer()),
    res("bold brackets", f"{CRITIQUE}**[Better Answer]**\n{ANS}\n**[End]**", answer()),
    res("bold brackets, colon", f"**[Better Answer]**: {ANS} **[End]**", answer()),
    res("bold brackets, colon inside", f"**[Better Answer]:** {ANS} [End]", answer()),
    res("colon inside the brackets", f"[Better Answer:] {ANS} [End]", answer()),
    res("italic brackets", f"*[Better Answer]*\n{ANS}\n*[End]*", answer()),
    res("underscores", f"__[Better Answer]__ {ANS} __[End]__", answer()),
    res("code quotes", f"`[Better Answer]`\n{ANS}\n`[End]`", answer()),
    res("bold around marker and part", f"**[Better Answer] {ANS}**\n[End]", answer()),
    res("bold part", f"[Better Answer]\n**{ANS}**\n[End]", answer()),
    res(
        "a part that opens bold",
        "[Better Answer] **Pine** is green. [End]",
        answer("**Pine** is green."),
    ),
    ins("upper case", f"[NEW INSTRUCTION] {INS} [END]\n[NEW ANSWER] {ANS} [END]", pair()),
    ins("lower case", f"[new instruction] {INS} [end]\n[new answer] {ANS} [end]", pair()),
    ins(
        "spaces in brackets",
        f"[ New  Instruction ]\n{INS}\n[ End ]\n[ New Answer ]\n{ANS}\n[ End ]",
        pair(),
    ),
    ins("underscore names", f"[NEW_INSTRUCTION] {INS} [End]\n[New_Answer] {ANS} [End]", pair()),
    ins(
        "double brackets",
        f"[[New Instruction]] {INS} [[End]]\n[[New Answer]] {ANS} [[End]]",
        pair(),
    ),
    ins(
        "quoted block",
        f"> [New Instruction]\n> {INS}\n>\n> Use a list.\n> [End]\n\n> [New Answer] {ANS} [End]",
        pair(f"{INS}\n\nUse a list."),
    ),
    ins("bullets", f"- [New Instruction] {INS} [End]\n- [New Answer] {ANS} [End]", pair()),
    ins(
        "bullets with indented parts",
        f"- [New Instruction]\n  {INS}\n  A list.\n  [End]\n* **[New Answer]**\n  {ANS}\n  [End]",
        pair(f"{INS}\nA list."),
    ),
    ins("list numbers", f"4. [New Instruction] {INS} [End]\n5. [New Answer] {ANS} [End]", pair()),
    ins("list numbers, no end", f"4. [New Instruction]\n{INS}\n\n5. [New Answer]\n{ANS}", pair()),
    ins(
        "numbers and bold labels",
        f"4) **New Instruction:** {INS}\n5) **New Answer:** {ANS}",
        pair(),
    ),
    ins(
        "bold around numbers",
        f"**4. [New Instruction]**\n{INS}\n**5. [New Answer]**\n{ANS}",
        pair(),
    ),
    ins(
        "steps", f"Step 4: [New Instruction] {INS} [End]\nStep 5: [New Answer] {ANS} [End]", pair()
    ),
    ins(
        "a number on its own line",
        f"4.\n[New Instruction]\n{INS}\n\n5.\n[New Answer]\n{ANS}\n[End]",
        pair(),
    ),
    ins(
        "a number before each part",
        f"[New Instruction] 4. {INS} [End]\n[New Answer]\n5. {ANS} [End]",
        pair(),
    ),
    res(
        "a list that goes on stays",
        "[Better Answer]\n3. Pine\n4. Holly\n[End]",
        answer("3. Pine\n4. Holly"),
    ),
    res("a countdown stays", "[Better Answer]\n3.\n2.\n1.\n[End]", answer("3.\n2.\n1.")),
    ins("first end missing", f"[New Instruction]\n{INS}\n\n[New Answer]\n{ANS}\n[End]", pair()),
    ins("inline, first end missing", f"[New Instruction] {INS} [New Answer] {ANS} [End]", pair()),
    ins("last end missing", f"[New Instruction]\n{INS}\n[End]\n[New Answer]\n{ANS}", pair()),
    res("end missing", f"[Better Answer]\n{ANS}", answer()),
    res("slash end", f"[Better Answer]\n{ANS}\n[/End]", answer()),
    res("end of answer", f"[Better Answer]\n{ANS}\n[End of Answer]", answer()),
    ins(
        "named ends",
        f"[New Instruction] {INS} [End New Instruction]\n[New Answer] {ANS} [End of New Answer]",
        pair(),
    ),
    ins(
        "closing tags",
        f"[New Instruction]{INS}[/New Instruction]\n[New Answer]{ANS}[/New Answer]",
        pair(),
    ),
    res("end glued to the text", f"[Better Answer]{ANS}[End]", answer()),
    res("end twice", f"[Better Answer]\n{ANS}\n[End]\n[End]", answer()),
    res("bold end without brackets", f"**Better Answer:**\n{ANS}\n**End**", answer()),
    ins(
        "a ruled line between",
        f"**New Instruction:**\n{INS}\n\n---\n\n**New Answer:**\n{ANS}\n",
        pair(),
    ),
    ins(
        "ends with full stops",
        f"[New Instruction] {INS} [End]. [New Answer] {ANS} [End].",
        pair(),
    ),
    res("marker repeated", f"[Better Answer]\n[Better Answer]\n{ANS}\n[End]", answer()),
    res("label and marker", f"**Better Answer:**\n\n[Better Answer]\n{ANS}\n[End]", answer()),
    res(
        "same part twice", f"[Better Answer] {ANS} [End]\n\n[Better Answer]\n{ANS}\n[End]", answer()
    ),
    res(
        "the form first, then the part",
        f"[Better Answer] your better answer [End]\n\n[Better Answer] {ANS} [End]",
        answer(),
    ),
    res("fenced part", f"[Better Answer]\n```\n{ANS}\n```\n[End]", answer()),
    res(
        "markdown fence",
        f"[Better Answer]\n```markdown\n# Trees\n{ANS}\n```\n[End]",
        answer(f"# Trees\n{ANS}"),
    ),
    res("fence with the end in it", f"[Better Answer]\n```\n{ANS}\n[End]\n```", answer()),
    res("fence around the reply", f"```\n[Better Answer]\n{ANS}\n```", answer()),
    ins(
        "critique speaks of the markers",
        "I give a [New Instruction] and a [New Answer], each closed by [End].\n\n" + WHOLE,
        pair(),
    ),
    ins(
        "critique quotes a marker",
        f'The text after "[New Instruction]" must be harder.\n{WHOLE}',
        pair(),
    ),
]

BOILERPLATE_CASES = [
    res(f"opening {i}", f"[Better Answer]\n{opening}{ANS}\n[End]", answer(boilerplate=True))
    for i, opening in enumerate(
        [
            "Here is a new and complete answer to the instruction:\n\n",
            "Here is a new and complete answer with more details:\n\n",
            "Here is a new and complete answer to the instruction: ",
            "Here's a new and complete answer\n\n",
            "Here’s an improved answer that addresses the issues mentioned above:\n",  # noqa: RUF001
            "Sure! Here's the improved response:\n\n",
            "Certainly! Here's a more detailed and complete answer that addresses the issues:\n",
            "New and improved answer: ",
            "**Improved Answer:**\n\n",
            "### Revised Response\n\n",
            "**Here is a better answer:**\n",
            "Below is a revised version of the answer:\n",
            "Sure, here is a rewritten answer to your question:\n\nBetter answer:\n",
        ]
    )
] + [
    res(f"no opening {i}", f"[Better Answer]\n{text}\n[End]", answer(text))
    for i, text in enumerate(
        [
            "Here is a response to the email:\n\nDear Ann, thank you.",
            "Here is a detailed response to the customer:\n\nDear Bo, we will pay.",
            "Here is a recipe for bread:\n\nMix flour and water.",
            "Sure! Here's a detailed recipe:\n\nMix flour and water.",
            "Here is an improved version of the program:\n\nprint(1)",
            "The answer is: 42.",
            "Answer: 42.",
            "A better answer is hard to find, so think again: what is it?",
        ]
    )
]

FAILURE_CASES = [
    ins("cut", WHOLE[:-20], CUT, finish_reason="length"),
    ins("cut, though it looks whole", WHOLE, CUT, finish_reason="length"),
    res("cut before anything", "", CUT, finish_reason="length"),
    res("empty", "", unparsed("empty reply")),
    res("blank", " \n\t\n", unparsed("empty reply")),
    res("no markers", CRITIQUE + "One could add a list.", unparsed("no markers")),
    res("only an end", CRITIQUE + "[End]", unparsed("no markers")),
    res(
        "a label without a colon",
        "New answer would be longer than this one.",
        unparsed("no markers"),
    ),
    res(
        "within a line of small letters",
        "crit [Better Answer] better 1 [End]",
        Parsed(status="ok", output="better 1"),
    ),
    res(
        "only spoken of",
        "I don't think a [Better Answer] is needed here. [End]",
        unparsed("no markers"),
    ),
    ins("no answer", f"[New Instruction] {INS} [End]", unparsed("no new answer")),
    ins("no instruction", f"[New Answer] {ANS} [End]", unparsed("no new instruction")),
    res("the wrong part", f"[New Answer] {ANS} [End]", unparsed("no markers")),
    ins(
        "empty answer",
        f"[New Instruction] {INS} [End] [New Answer] [End]",
        unparsed("empty new answer"),
    ),
    res("empty at the end", "[Better Answer]", unparsed("empty better answer")),
    res(
        "nothing but boilerplate",
        "[Better Answer]\nHere is a new and complete answer:\n[End]",
        unparsed("empty better answer"),
    ),
    ins(
        "placeholders",
        "[New Instruction] your instruction [End] [New Answer] your answer [End]",
        unparsed("placeholder as the new instruction"),
    ),
    ins(
        "placeholder for the answer",
        f"[New Instruction] {INS} [End] [New Answer] <your new answer> [End]",
        unparsed("placeholder as the new answer"),
    ),
    *(
        res(
            f"placeholder {text}",
            f"[Better Answer]\n{text}\n[End]",
            unparsed("placeholder as the better answer"),
        )
        for text in (
            "N/A",
            "...",
            "…",
            "[your better answer]",
            '"Your answer."',
            "(insert answer here)",
            "**n/a**",
        )
    ),
    res(
        "two answers",
        f"[Better Answer] {ANS} [End]\nOr rather:\n[Better Answer] Pine. [End]",
        unparsed("more than one better answer"),
    ),
    res(
        "two answers, no ends",
        f"[Better Answer] {ANS}\n[Better Answer] Pine.",
        unparsed("more than one better answer"),
    ),
    res(
        "two answers in two forms",
        f"Better Answer: {ANS}\n[Better Answer] Pine. [End]",
        unparsed("more than one better answer"),
    ),
    res(
        "two answers on one line",
        f"[Better Answer] {ANS} No: [Better Answer] Pine. [End]",
        unparsed("a marker inside the better answer"),
    ),
    res(
        "two ends",
        f"[Better Answer] {ANS} [End]\nAlso pine.\n[End]",
        unparsed("more than one [End] after the better answer"),
    ),
    res(
        "another part in the part",
        f"[Better Answer] {ANS}\n[New Answer] Pine. [End]",
        unparsed("a marker inside the better answer"),
    ),
    res(
        "is it code or the end",
        "[Better Answer]\nx = a[end]",
        unparsed("[end] directly behind a word at the end of the better answer"),
    ),
]

REFUSAL_CASES = [
    *(
        res(f"refusal {i}", text, refused())
        for i, text in enumerate(
            [
                "I'm sorry, but I can't help with that request.",
                "I’m sorry, but I can’t assist with that.",  # noqa: RUF001
                "I cannot assist with this request as it asks for harm.",
                "As an AI language model, I can't have opinions on trees.",
                "Sorry, but as an AI language model, I am unable to provide that.",
                "I apologize, but I'm not able to fulfill this request.",
                "Unfortunately, I cannot provide an answer to this question.",
            ]
        )
    ),
    res("a critique that cannot", "I cannot find a fault in the answer.", unparsed("no markers")),
    res(
        "a refusal as the part",
        "[Better Answer] I'm sorry, but I can't help with that. [End]",
        refused("a refusal as the better answer"),
    ),
    ins(
        "a refusal as the answer",
        f"[New Instruction] {INS} [End]\n[New Answer] I cannot assist with this request. [End]",
        refused("a refusal as the new answer"),
    ),
]

THOUGHT_CASES = [
    res("thought", f"<think>\nHm. [Better Answer] no [End]\n</think>\n\n{BETTER}", answer()),
    res(
        "thought without an opening", f"Hm, [Better Answer] is asked.\n</think>\n{BETTER}", answer()
    ),
    res("empty thought", f"<think>\n\n</think>\n\n{BETTER}", answer()),
    res("thinking", f"<thinking>Hm.</thinking>{BETTER}", answer()),
    res("unclosed thought", f"<think>\nHm.\n{BETTER}", unparsed("reasoning without a reply")),
    res("nothing but thought", "<think>Hm.</think>\n", unparsed("reasoning without a reply")),
    res("a refusal after thought", "<think>Hm.</think>\nI can't help with that.", refused()),
    res("cut in thought", "<think>Hm.", CUT, finish_reason="length"),
    res(
        "an answer about the tags",
        "[Better Answer] Write <think> before and </think> after the thought. [End]",
        answer("Write <think> before and </think> after the thought."),
    ),
    res(
        "an answer about the closing tag",
        "[Better Answer] The tag </think> closes a thought. [End]",
        answer("The tag </think> closes a thought."),
    ),
    res(
        "an answer that shows a thought",
        "[Better Answer]\n<think>\nHm.\n</think>\nYes.\n[End]",
        answer("<think>\nHm.\n</think>\nYes."),
    ),
    res(
        "thought or answer",
        "[Better Answer] Hm.\n</think>\nYes. [End]",
        unparsed("a stray </think> among the markers"),
    ),
]

FOLLOWED_CASES = [
    *(
        res(
            f"what follows a part without an end: {name}",
            f"Thin.\n{opener} {ANS}\n\n{more}",
            unparsed("no [End] after the better answer, and more follows"),
        )
        for name, opener, more in (
            ("a turn", "[Better Answer]", "User: Thanks!\nAssistant: You are welcome."),
            ("an instruction", "[Better Answer]", "### Instruction:\nTell a joke."),
            ("a turn's token", "[Better Answer]", "<|im_start|>user\nThanks!"),
            ("a remark", "[Better Answer]", "[Explanation] It has more detail."),
            ("a bold label", "**Better Answer:**", "**Why it is better:** it has more detail."),
            ("a heading", "### Better Answer\n", "### Why\nIt has more detail."),
            ("the next step", "5. Better Answer:", "6. Conclusion: it has more detail."),
        )
    ),
    res("labels of its own", f"[Better Answer]\n**Pine:** tall.\n\n{LIST}", answer(
        f"**Pine:** tall.\n\n{LIST}")),
    res("a list beyond its number", "2. Better Answer:\n1. Pine\n2. Holly\n3. Ivy", answer(LIST)),
    res("headings below its own", f"## Better Answer\n\n### Trees\n{ANS}", answer(
        f"### Trees\n{ANS}")),
    res("what follows its end", f"**Better Answer:** {ANS} [End]\n**Why:** more.", answer()),
    res("end tokens for an end", f"[Better Answer] {ANS}</s>\n<|im_end|>", answer()),
]  # fmt: skip
ENDED_CASES = [
    res("a token limit by another name", BETTER, CUT, finish_reason="MAX_TOKENS"),
    res(
        "a filter",
        BETTER,
        refused("stopped by the server's filter: content_filter"),
        finish_reason="content_filter",
    ),
    res(
        "broken off",
        BETTER,
        Parsed(status="failed", reason="broken off by the server: network_error"),
        finish_reason="network_error",
    ),
]

ABOUT_END = ("What does [End] do?", "", "It stops.")
ABOUT_ANSWER = ("Fill in the [New Answer] field.", "", "Done.")
FORM = ("Fill in this form.", "Name:\nNew Answer: ____", "Ann")
OWN_CASES = [
    res(
        "the record's end within a line",
        "[Better Answer]\nThe word [End] stops it. Write [End] once.\n[End]",
        answer("The word [End] stops it. Write [End] once."),
        example_texts=ABOUT_END,
    ),
    res(
        "the record's end opens a line",
        "[Better Answer]\n[End] stops it.\n[End]",
        answer("[End] stops it."),
        example_texts=ABOUT_END,
    ),
    ins(
        "the record's end, all on one line",
        "[New Instruction] Say what [End] is for. [End] [New Answer] It stops. [End]",
        pair("Say what [End] is for.", "It stops."),
        example_texts=ABOUT_END,
    ),
    res(
        "whose end is it",
        "[Better Answer] Write [End] to stop.",
        unparsed("[End] within a line, and the record's own text contains it"),
        example_texts=ABOUT_END,
    ),
    res(
        "the record's end on lines of its own",
        "[Better Answer]\nWrite:\n[End]\nand it stops.\n[End]",
        unparsed("more than one [End] after the better answer"),
        example_texts=ABOUT_END,
    ),
    res(
        "not the record's: the same text cannot be told",
        "[Better Answer]\nThe word [End] stops it.\n[End]",
        unparsed("more than one [End] after the better answer"),
    ),
    ins(
        "the record's marker within the parts",
        "The [New Answer] field is vague.\n"
        "[New Instruction] Fill the [New Answer] field twice. [End]\n"
        "[New Answer] The [New Answer] field holds 1 and 2. [End]",
        pair("Fill the [New Answer] field twice.", "The [New Answer] field holds 1 and 2."),
        example_texts=ABOUT_ANSWER,
    ),
    ins(
        "the record's marker, no part",
        "[New Instruction] Fill the field. [End]\nAs for the field, [New Answer] It holds 1. [End]",
        unparsed("more than one [End] after the new instruction"),
        example_texts=ABOUT_ANSWER,
    ),
    ins(
        "the record's marker opens a line of the instruction, and there is no answer",
        "[New Instruction] Fill this in:\n[New Answer] ____ please.\n[End]",
        unparsed("no [End] after the new instruction, and the record has markers of its own"),
        example_texts=ABOUT_ANSWER,
    ),
    ins(
        "the critique quotes the record, and there is no answer",
        "It says:\n[New Answer] is a field.\n[New Instruction] Fill it in. [End]",
        unparsed("no [End] after the new answer, and the record has markers of its own"),
        example_texts=ABOUT_ANSWER,
    ),
    ins(
        "the record's marker on a line of its own",
        "[New Instruction] Fill this in:\n[New Answer] ____\n[End]\n[New Answer] It holds 1. [End]",
        unparsed("no [End] after the new instruction, and the record has markers of its own"),
        example_texts=ABOUT_ANSWER,
    ),
    res(
        "the record's marker is not asked for",
        "[Better Answer] Fill in:\n[New Answer] 1\nand send it. [End]",
        answer("Fill in:\n[New Answer] 1\nand send it."),
        example_texts=ABOUT_ANSWER,
    ),
    ins(
        "the record's label",
        "[New Instruction]\nFill in this form.\nName:\nNew Answer: ____\n[End]\n"
        "[New Answer]\nAnn\n[End]",
        pair("Fill in this form.\nName:\nNew Answer: ____", "Ann"),
        example_texts=FORM,
    ),
    ins(
        "shielded markers come back",
        "[New Instruction] Fill the [\u2060New Answer] field. [End]\n"
        "[New Answer] It ends in [\u2060End]. [End]",
        pair("Fill the [New Answer] field.", "It ends in [End]."),
    ),
]

CASES: list[Case] = [
    *WHOLE_CASES,
    *MARKER_CASES,
    *BOILERPLATE_CASES,
    *FAILURE_CASES,
    *REFUSAL_CASES,
    *THOUGHT_CASES,
    *FOLLOWED_CASES,
    *ENDED_CASES,
    *OWN_CASES,
]
