"""Scores of spoken questions by hand, accuracy on a hand-checked sample, answers that are odd."""

import pytest

from eval.harness import Evaluation, Pass, run
from eval.judges import JudgeSpec, LLMJudge
from eval.metrics.contains import contains
from eval.metrics.spoken_answers import score
from eval.report.qa_page import QA_METRICS, qa_page
from eval.sets import Question
from eval.spoken_qa import as_rows, passes
from eval.systems.talker import system_text
from eval.voices import Voice
from fo_core.models.model_config import LLMConfig

ROW = {
    "id": "q1",
    "question": "Who was the first president of the United States?",
    "answers": ["George Washington"],
    "text_answer": "The first president was George Washington.",
    "answer": "It was George Washington.",
    "answer_finished": True,
    "ended_by": "answer",
    "reply_wav": "replies/q1.flac",
    "reply_seconds": 2.0,
    "speech_endless": False,
    "heard": "it was George washing ton",
    "heard_question": "who was the first president of the United States",
}


def test_one_row_by_hand():
    found = score(ROW)
    assert found["text_accuracy"] == found["answer_accuracy"] == (1, 1)
    assert found["speech_accuracy"] == (0, 1) and found["speech_ratio"] == (0, 1)
    assert found["answer_ratio"] == (1, 1)
    assert found["speech_wer"] == (2, 4)  # washington: substituted, and a word inserted
    assert found["speech_cer"] == (0, 21)
    assert found["judge_wer"] == (0, 9)
    assert found["answer_words"] == (4, 1) and found["reply_seconds"] == (2.0, 1)
    assert set(found) <= {metric.key for metric in QA_METRICS}


def test_an_answer_is_graded_once_whatever_else_is_measured_of_it(tmp_path, monkeypatch):
    """Grades cost money: another measure of the sound, or a second judge, asks for no new ones."""
    graded = []
    monkeypatch.setattr(LLMJudge, "grade", lambda self, a: graded.extend(a) or [True] * len(a))
    voice, judge = Voice("recordings"), JudgeSpec()
    reader = passes(None, {}, voice, judge, LLMJudge("m"), tmp_path, ["text"])[-1]
    item = {"id": "q1", "question": "Who?", "answers": ["Ann"], "text_answer": "Ann."}
    for version in (1, 2):
        sound = Pass("sound", {"v": version}, lambda v=version: lambda rows: [{"dnsmos": v}])
        task = Evaluation("x", [sound, reader], lambda row: {"grade": (row["grade_text"], 1)})
        assert run(task, [item], tmp_path)["metrics"]["grade"]["value"] == 1
    assert graded == [("Who?", ["Ann"], "Ann.")]


def test_a_question_that_the_text_llm_gets_wrong_is_no_part_of_the_ratio():
    found = score(ROW | {"text_answer": "It was Abraham Lincoln."})
    assert found["answer_ratio"] == (1, 0)


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"answer": "", "heard": "", "reply_wav": ""}, {"empty_answers"}),
        ({"answer_finished": False}, {"cut_answers"}),
        ({"reply_wav": "", "heard": ""}, {"mute_replies"}),
        ({"speech_endless": True}, {"endless_replies"}),
        ({"heard": "it was it was it was it was"}, {"looping_replies"}),
        ({"ended_by": "dismiss"}, {"dismissed_questions"}),
    ],
)
def test_odd_answers_are_counted(change, counted):
    odd = {
        "empty_answers", "cut_answers", "mute_replies", "endless_replies", "looping_replies",
        "dismissed_questions",
    }  # fmt: skip
    found = score(ROW | change)
    assert {name for name in odd if found[name][0]} == counted


def test_an_llm_judge_stands_beside_and_never_in_place():
    found = score(ROW | {"grade_text": True, "grade_answer": True, "grade_speech": True})
    assert found["speech_accuracy"] == (0, 1) and found["llm_judge_speech_accuracy"] == (1, 1)
    found = score(ROW | {"grade_text": True, "grade_answer": None, "grade_speech": True})
    assert found["llm_judge_undecided"] == (1, 3) and "llm_judge_text_accuracy" not in found


# Replies of SmolLM2-135M to LLaMA Questions, judged by a reader by the rule of the tables.
HAND_CHECKED = [
    ("The capital of France is Paris.", "Paris", True),
    ("The longest river in South America is the Amazon River.", "Amazon", True),
    ("The highest mountain peak in North America is Mount Everest.", "Denali", False),
    ("The first president of the United States was John F. Kennedy.", "George Washington", False),
    ("The city of Ashkelon is located at the intersection.", "Baghdad", False),
    ("The largest planet in our solar system is Neptune.", "Jupiter", False),
    ("It was determined by the United States and Mexico.", "United States", True),
    ("The leader of the Soviet Union was Joseph Stalin.", "Joseph Stalin", True),
    ("The currency used in Japan is the Japanese yen (JPY).", "Yen", True),
    ("The capital of Australia is Canberra, a vibrant city.", "Canberra", True),
    ("There are seven continents.", "7", True),
    ("It has 206 bones.", "two hundred and six", True),
    ("Leonardo DiCaprio painted it.", "Leonardo da Vinci", False),
    ("It is the Pacific, of course.", "The Pacific Ocean", False),
    ("Tokyo's", "Tokyo", True),
]


def test_accuracy_equals_a_hand_checked_sample():
    for reply, answer, right in HAND_CHECKED:
        assert contains(reply, [answer]) is right, (reply, answer)


def test_what_cannot_be_asked_is_left_out():
    asked = [
        Question("a", "Q?", ("x",), "a.wav"),
        Question("b", "Q?", (), "b.wav"),
        Question("c", "Q?", ("y",)),
    ]
    rows, left = as_rows(asked, recorded=True, limit=None)
    assert [row["id"] for row in rows] == ["a"]
    assert left == {"b": "no accepted answer", "c": "no recording"}
    rows, left = as_rows(asked, recorded=False, limit=1)
    assert [row["id"] for row in rows] == ["a"] and left == {"b": "no accepted answer"}


def test_the_text_llm_gets_the_system_text_of_the_spoken_questions():
    assert system_text(LLMConfig(system="Be brief.")) == "Be brief."
    template = "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n<audio><|im_end|>\n"
    assert system_text(LLMConfig(template=template)) == "You help."


def test_the_papers_rows_stand_beside_ours(tmp_path):
    overview = {"items": 1, "metrics": {"speech_accuracy": {"value": 0.5}}, "about": {}}
    overview["metrics"]["speech_accuracy"] |= {"low": None, "high": None, "items": 1}
    page = qa_page(overview, [], tmp_path, "Web Questions", "Web Q.")
    rows = dict(page.sections[-1].tables[0].rows)
    assert rows["Freeze-Omni 7B"] == "44.7 %" and rows["this run"] == "50.0 %"
    assert len(qa_page(overview, [], tmp_path, "Mine", "").sections) == 2
