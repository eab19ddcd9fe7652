"""What a dry run says, by hand."""

from curate.pipeline.config import ModelConfig
from curate.pipeline.llm.protocol import Reply
from curate.pipeline.records import Candidate, CandidateKind
from curate.pipeline.stages.reflection.forecast import forecast, forecast_text, projected
from curate.pipeline.templates import TeacherPrompts

PROMPTS = TeacherPrompts(
    reflect_instruction="I {instruction} {response}", reflect_response="R {instruction} {response}"
)


def original(id: str) -> Candidate:
    return Candidate(id=id, candidate="original", instruction="a" * 37, input="", output="b" * 40)


def nothing(kind: CandidateKind, pair: Candidate) -> None:
    return None


def test_a_record_is_three_calls_of_four_letters_a_token() -> None:
    total = forecast([original("x")], PROMPTS, nothing, selective=False)
    assert (total.records, total.calls, total.paid) == (1, 3, 0)
    assert total.prompt == 3 * (80 // 4)
    assert total.completion == 150 + 115 // 4 + 2 * (150 + 60 // 4)


def test_the_selective_schedule_makes_two_calls_a_record() -> None:
    assert forecast([original("x")], PROMPTS, nothing, selective=True).calls == 2


def test_what_is_held_is_not_called_and_tells_its_seconds() -> None:
    def find(kind: CandidateKind, pair: Candidate) -> tuple[Reply, Candidate] | None:
        if kind != "instruction":
            return None
        reply = Reply(text="", finish_reason="stop", max_tokens=9, seconds=float(pair.id))
        valid = pair.id == "2"
        return reply, Candidate(
            id=pair.id, candidate=kind, status="ok" if valid else "unparsed",
            instruction="" if valid else None, output="" if valid else None,
        )  # fmt: skip

    total = forecast([original("2"), original("4")], PROMPTS, find, selective=False)
    assert (total.calls, total.paid, total.seconds) == (3, 2, 3.0)  # no `both` without a pair
    said = forecast_text(total, ModelConfig(concurrency=3, rpm=600), "about 1.23 USD")
    assert said.split("\n")[1:] == [
        "2 replies are in the journal already and are not paid for again",
        "time: about 3 s at 3 at once and 3.0 s a reply, as measured",
    ]
    assert ", about 1.23 USD\n" in said


def test_the_time_is_what_the_rates_allow_where_nothing_was_measured() -> None:
    total = forecast(map(original, "abcd"), PROMPTS, nothing, selective=False)
    assert forecast_text(total, ModelConfig(rpm=1), "unknown").endswith(
        "at least 12 min 0 s at --rpm 1"
    )
    assert forecast_text(total, ModelConfig(tpm=1), "unknown").endswith("min at --tpm 1")
    assert forecast_text(total, ModelConfig(), "unknown").endswith(
        "not known before the first replies"
    )


def test_a_projection_goes_by_this_runs_replies() -> None:
    assert projected(500, 100, answered=4, left=10) == 1500
    assert projected(500, 500, answered=0, left=10) is None
