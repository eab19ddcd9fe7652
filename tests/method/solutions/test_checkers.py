"""Replies of many forms: no wrong one may pass, every plainly marked right one must."""

import json

import pytest

from curate.pipeline.method.solutions.checkers import BadAnswer, Gold, check, gold_of, options_of

from ...conftest import shared

SHAPES = "Which?\nOptions:\n(A) circle\n(B) a line\n(C) 5\n(D) 5.5\n(E) The robin is first"
YES_NO = "Is it so?\nOptions:\n- Yes\n- No"


def test_the_replies_to_hard_tasks() -> None:
    tasks = json.loads(shared("data/reasoning/bbh_answers.json").read_text("utf-8"))["tasks"]
    passed, missed = [], []
    for task in tasks.values():
        for instance in task["instances"]:
            gold = gold_of(instance["target"], instance["input"], "auto")
            for case in instance["cases"]:
                right = check(case["reply"], gold).verdict == "correct"
                if right and case["correct"] is False:
                    passed.append((instance["target"], case))
                if case["core"] and not right:
                    missed.append((instance["target"], case))
    assert (passed, missed) == ([], [])


def verdict(reply: str, answer: str, question: str) -> str:
    return check(reply, gold_of(answer, question, "auto")).verdict


@pytest.mark.parametrize(
    "reply",
    [
        "So the answer is (C), not (A).",
        "**Answer: C**",
        "**Answer**: C) 5",
        "The answer is 5.",
        "The answer is (C). The answer is not (A).",
        "The answer is (A). Wait, (C) is the correct answer.",
        "Since (A) is not possible, the answer is (C).",
        "The final answer is: $\\boxed{\\text{(C)}}$",
        "# Final answer\n\n(C)",
        "Final Answer: The final answer is $C$. I hope it is correct.",
        "The answer is (C). I hope the answer is clear.",
        "The answer to the question is option C.",
        "answer: c",
        "The answer is\n\n(C)",
        "The answer is (C), I think.",
        "<answer>C</answer>",
        "If the answer is (A), Bob lies. So the answer is (C).",
    ],
)
def test_a_right_letter(reply: str) -> None:
    assert verdict(reply, "(C)", SHAPES) == "correct"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Answer: (C) and (A)", "ambiguous"),
        ("The answer is either (C) or (A).", "ambiguous"),
        ("The answer is (C). Or (A).", "ambiguous"),
        ("The answer is (C) circle.", "ambiguous"),
        ("$\\boxed{C}$ or $\\boxed{A}$", "ambiguous"),
        ("The answer could be (C).", "ambiguous"),
        ("The answer is (C). Hmm, that is wrong.", "ambiguous"),
        ("The answer is 5.5.", "wrong"),
        ("The wrong answer is (C). The right answer is (B).", "wrong"),
        ("The answer is not (C).", "unanswered"),
        ("The answer is (C). Wait, the answer isn't (C).", "unanswered"),
        ("I don't think the answer is (C).", "unanswered"),
        ("If the answer is (C), Bob lies.", "unanswered"),
        ("A common wrong answer is (C).", "unanswered"),
        ("Only one fits, C.", "unanswered"),
        ("The answer is C hristmas.", "unanswered"),
    ],
)
def test_no_letter_that_is_not_plainly_the_answer(reply: str, expected: str) -> None:
    assert verdict(reply, "(C)", SHAPES) == expected


@pytest.mark.parametrize(
    ("answer", "reply", "expected"),
    [
        ("5", "The answer is 8 - 3 = 5.", "correct"),
        ("8", "The answer is 8 apples.", "correct"),
        ("21", "The answer is twenty-one.", "correct"),
        ("1234", "The answer is \\$1{,}234.00.", "correct"),
        ("-8", "The answer is \u22128.", "correct"),
        ("0.5", "\\boxed{\\frac{1}{2}}", "correct"),
        ("5", "It follows.\n#### 5", "correct"),
        ("8", "The answer is 8 - 3 = 5.", "wrong"),
        ("234", "The answer is 1,234.", "wrong"),
        ("8", "The answer is -8.", "wrong"),
        ("8", "The answer is 8.5.", "wrong"),
        ("34", "The answer is 3*4.", "unanswered"),
        ("8", "The answer is 8 - 3.", "unanswered"),
        ("8", "The answer is 8 million.", "unanswered"),
        ("8", "The answer is more than 8.", "unanswered"),
        ("5", "The answer is 5th.", "unanswered"),
        ("8", "The answer is 8 to 9.", "unanswered"),
        ("8", "The answer is 8, and 9 are left.", "ambiguous"),
        ("5", "The answer is 3, no, 5.", "ambiguous"),
    ],
)
def test_numbers(answer: str, reply: str, expected: str) -> None:
    assert verdict(reply, answer, "How many?") == expected


@pytest.mark.parametrize(
    ("answer", "question", "reply", "expected"),
    [
        ("Yes", YES_NO, "The answer is yes, because it rained.", "correct"),
        ("Yes", YES_NO, "The answer is Yes and no.", "ambiguous"),
        ("No", YES_NO, "The answer is No one knows.", "unanswered"),
        ("valid", "", "The answer is not valid.", "unanswered"),
        ("valid", "", "The answer is invalid.", "wrong"),
        ("] )", "", "So the answer is ] ).", "correct"),
        ("> }", "", "So the answer is: `> }`.", "correct"),
        ("] )", "", "So the answer is ] ) }.", "wrong"),
        (">", "", "So the answer is > ).", "wrong"),
        ("apple banana", "", "The answer is apple, banana.", "correct"),
        ("apple banana", "", "The answer is apple banana cherry.", "wrong"),
        ("apple banana", "", "The answer is banana apple.", "wrong"),
        ("Paris", "", "The answer is Paris. The answer is clear.", "correct"),
        ("Paris", "", "The answer is not Paris.", "unanswered"),
        ("Paris", "", "The answer is Paris or Rome.", "ambiguous"),
    ],
)
def test_words_and_texts(answer: str, question: str, reply: str, expected: str) -> None:
    assert verdict(reply, answer, question) == expected


@pytest.mark.parametrize(
    ("answer", "question", "checker", "reason"),
    [
        ("Monsters, Inc", SHAPES, "auto", "no option"),
        ("(Z)", SHAPES, "choice", "no option"),
        ("maybe", YES_NO, "auto", "no option"),
        ("many", "", "number", "no number"),
        (" ", "", "auto", "empty"),
    ],
)
def test_a_given_answer_that_cannot_be_checked(
    answer: str, question: str, checker: str, reason: str
) -> None:
    with pytest.raises(BadAnswer, match=reason):
        gold_of(answer, question, checker)  # type: ignore[arg-type]


def test_options_and_chance() -> None:
    assert options_of("(A) one (B) two") == {"A": "one", "B": "two"}
    assert gold_of("a line", SHAPES, "auto") == Gold("choice", "B", options_of(SHAPES))
    assert gold_of("(B)", SHAPES, "auto").chance == pytest.approx(0.2)
    assert gold_of("True", "", "auto").chance == pytest.approx(0.5)
    assert gold_of("7", "", "auto").chance is None
    assert gold_of("7", "Let (A) be 3 and (B) be 4. Add them.", "auto").kind == "number"


@pytest.mark.parametrize(
    "unit",
    [
        *("the answer is ", "\\boxed{", "\\boxed{a} or ", "answer to ", " ", "**", "(A) ", "\n"),
        *("answer: not ", "is the answer ", "if the answer is "),
    ],
)
def test_work_grows_with_the_length_of_a_reply(unit: str) -> None:
    reply = unit * (100_000 // len(unit))
    for gold in (Gold("choice", "A", options_of(SHAPES)), Gold("number", "5"), Gold("text", "x")):
        assert check(reply, gold).verdict != "correct"
    options_of(reply)
