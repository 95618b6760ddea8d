import pytest

from data_prep.sources.dialogues import Dialogue
from data_prep.sources.domain import ASIDES, BACKCHANNELS, CATEGORIES
from data_prep.sources.domain_questions import DomainConfig, plan
from data_prep.steps.label_turns import phrases

PLAN = list(plan(DomainConfig()))


def of(split: str, planned: list[Dialogue] = PLAN) -> list[Dialogue]:
    return [d for d in planned if d.extra["split"] == split]


def texts(planned: list[Dialogue]) -> set[str]:
    return {d.turns[0].user for d in planned}


def facts(planned: list[Dialogue]) -> set[str]:
    return {d.extra["fact"] for d in planned}


def vocabulary(planned: list[Dialogue]) -> set[str]:
    said = texts(planned)
    return {word.strip(".,?!'").lower() for text in said for word in text.split()} - {""}


def test_the_domain_is_closed_and_large_enough() -> None:
    assert len(CATEGORIES) >= 8 and sum(len(c.facts) for c in CATEGORIES) >= 110
    for category in CATEGORIES:
        assert len(category.templates) >= 8, category.name
        assert len({f.subject for f in category.facts}) == len(category.facts)
        assert all(t.count("{x}") == 1 for t in category.templates)
        assert all(f.answers and all(f.answers) for f in category.facts)
    assert len(vocabulary(PLAN)) <= 350


def test_set_a_is_seen_facts_in_wordings_that_training_never_has() -> None:
    train, held = of("train") + of("val"), of("heldout_a")
    wordings = {(d.category, d.extra["wording"]) for d in train}
    assert len(held) == 120 and facts(held) <= facts(train)
    assert not {(d.category, d.extra["wording"]) for d in held} & wordings
    assert not texts(held) & texts(train)


@pytest.mark.parametrize("seed", range(8))
def test_words_of_set_a_are_training_words(seed: int) -> None:
    planned = list(plan(DomainConfig(seed=seed)))
    assert not vocabulary(of("heldout_a", planned)) - vocabulary(of("train", planned))


def test_set_b_is_facts_that_are_nowhere_else() -> None:
    held, others = of("heldout_b"), [d for d in PLAN if d.extra["split"] != "heldout_b"]
    assert len(facts(held)) >= 15 and {d.category for d in held} == {c.name for c in CATEGORIES}
    assert not facts(held) & facts(others) and not texts(held) & texts(others)


def test_validation_sentences_are_not_training_sentences() -> None:
    assert len(of("val")) == 60 and len(of("train")) == 1200
    assert not texts(of("val")) & texts(of("train"))


@pytest.mark.parametrize("listed", [BACKCHANNELS, ASIDES])
def test_held_out_sets_have_phrases_of_their_own(listed: tuple[str, ...]) -> None:
    train, held = set(phrases(listed, "train")), set(phrases(listed, "heldout_b"))
    assert train and held and not train & held and train | held == set(listed)
    assert set(phrases(listed, "")) == set(listed)


def test_the_plan_is_a_function_of_the_seed() -> None:
    assert list(plan(DomainConfig())) == PLAN != list(plan(DomainConfig(seed=1)))
    assert len({d.id for d in PLAN}) == len(PLAN)
    assert all(Dialogue.from_dict(d.to_dict()) == d for d in PLAN[:50])


def test_fewer_wordings_and_categories_can_be_asked_for() -> None:
    cfg = DomainConfig(categories=("capital", "opposite"), wordings_per_fact=3, recordings=50)
    asked = {(d.extra["fact"], d.extra["wording"]) for d in of("train", list(plan(cfg)))}
    assert {f.split("/")[0] for f, _ in asked} == {"capital", "opposite"} and len(asked) == 50
    for fact in {f for f, _ in asked}:
        assert sum(f == fact for f, _ in asked) <= 3
