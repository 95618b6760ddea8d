import pytest

from data_prep.domain import CATEGORIES
from data_prep.questions import USER_VOICES, QuestionsConfig, Recording, plan, vocabulary

PLAN = plan(QuestionsConfig(), USER_VOICES)


def of(split: str, kind: str = "question", recordings: list[Recording] = PLAN) -> list[Recording]:
    return [r for r in recordings if r.split == split and r.kind == kind]


def test_the_domain_is_closed_and_large_enough() -> None:
    assert len(CATEGORIES) >= 8 and sum(len(c.facts) for c in CATEGORIES) >= 110
    for category in CATEGORIES:
        assert len(category.templates) >= 8, category.name
        assert len({f.subject for f in category.facts}) == len(category.facts)
        assert all(t.count("{x}") == 1 for t in category.templates)
        assert all(f.answers and all(f.answers) for f in category.facts)
    assert len(vocabulary(PLAN)) <= 350


def test_set_a_is_seen_facts_in_wordings_that_training_never_has() -> None:
    train = of("train") + of("val")
    facts = {r.fact for r in train}
    wordings = {(r.fact.split("/")[0], r.wording) for r in train}
    held = of("heldout_a")
    assert len(held) == 120
    for r in held:
        assert r.fact in facts
        assert (r.fact.split("/")[0], r.wording) not in wordings
    assert not {r.text for r in held} & {r.text for r in train}


@pytest.mark.parametrize("seed", range(8))
def test_words_of_set_a_are_training_words(seed: int) -> None:
    recordings = plan(QuestionsConfig(seed=seed), USER_VOICES)
    assert not vocabulary(of("heldout_a", recordings=recordings)) - vocabulary(
        of("train", recordings=recordings)
    )


def test_set_b_is_facts_that_are_nowhere_else() -> None:
    others = [r for r in PLAN if r.split != "heldout_b"]
    facts = {r.fact for r in of("heldout_b")}
    assert len(facts) >= 15 and {f.split("/")[0] for f in facts} == {c.name for c in CATEGORIES}
    assert not facts & {r.fact for r in others}
    assert not {r.text for r in of("heldout_b")} & {r.text for r in others}


def test_validation_sentences_are_not_training_sentences() -> None:
    assert len(of("val")) == 60
    assert not {r.text for r in of("val")} & {r.text for r in of("train")}


@pytest.mark.parametrize("kind", ["backchannel", "aside"])
def test_set_b_has_phrases_of_its_own(kind: str) -> None:
    train = {r.text for r in of("train", kind)}
    assert train and not {r.text for r in of("heldout_b", kind)} & train


def test_no_recording_is_in_two_splits() -> None:
    places: dict[tuple[str, ...], set[str]] = {}
    for r in PLAN:
        if r.kind == "question":
            place = (r.text, r.engine, r.voice, str(r.speed))
        elif r.kind == "noise":
            place = (r.text, str(r.seed))
        else:
            continue
        places.setdefault(place, set()).add(r.split)
    assert all(len(splits) == 1 for splits in places.values())


def test_the_plan_is_a_function_of_the_seed() -> None:
    assert plan(QuestionsConfig(), USER_VOICES) == PLAN
    assert plan(QuestionsConfig(seed=1), USER_VOICES) != PLAN
    assert len({r.id for r in PLAN}) == len(PLAN)


def test_counts_voices_and_round_trip() -> None:
    assert len(of("train")) == 1200
    share = {v.voice: sum(r.voice == v.voice for r in of("train")) / 1200 for v in USER_VOICES}
    assert all(abs(s - 1 / len(USER_VOICES)) < 0.08 for s in share.values())
    assert all(Recording.from_dict(r.to_dict()) == r for r in PLAN[:50])


def test_fewer_wordings_and_categories_can_be_asked_for() -> None:
    cfg = QuestionsConfig(categories=("capital", "opposite"), wordings_per_fact=3, recordings=50)
    small = plan(cfg, USER_VOICES)
    asked = {(r.fact, r.wording) for r in small if r.kind == "question" and r.split == "train"}
    assert {f.split("/")[0] for f, _ in asked} == {"capital", "opposite"} and len(asked) == 50
    facts = {f for f, _ in asked}
    assert all(sum(f == fact for f, _ in asked) <= 3 for fact in facts)


def test_incomplete_questions_break_off() -> None:
    for r in of("train", "incomplete"):
        assert not r.text.endswith(("?", ".")) and len(r.text.split()) >= 1
