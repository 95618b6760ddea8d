"""Source ``domain``: spoken questions of a closed everyday domain, split before anything is made.

Facts (subject, accepted answers) by category, and several wordings a category. Two held-out sets:
(a) facts of the training set in wordings that no training question of the category has, and
(b) facts that are never seen in any form: neither their questions nor, where the LLM answers as it
should, their answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.runner.run import Progress, Row, RunConfig, StepReport, run_step
from data_prep.sources.dialogues import Dialogue, Turn
from data_prep.sources.domain import CATEGORIES, Category, Fact
from fo_core.config import config, to_dict

SPLITS = ("train", "val", "heldout_a", "heldout_b")


@config
class DomainConfig:
    """How many questions of what, and what is held out."""

    seed: int = 0  # seed of every draw
    categories: tuple[str, ...] = ()  # names of the categories to use; () = all
    recordings: int = 1200  # training questions (a wording of a fact in a voice each)
    wordings_per_fact: int = 0  # training wordings of each fact that are used; 0 = all
    val: int = 60  # validation questions
    per_fact_a: int = 1  # recordings of each seen fact in held-out set (a)
    per_fact_b: int = 2  # recordings of each unseen fact in held-out set (b)
    max_a: int = 120  # most questions in (a)
    max_b: int = 60  # most questions in (b)
    unseen_facts: float = 0.15  # share of each category's facts that only (b) has
    heldout_wordings: int = 2  # wordings of each category that only (a) (and half of (b)) has


Asked = tuple[Category, Fact, int]  # a fact in a wording


def question_text(template: str, fact: Fact) -> str:
    """The sentence of a wording about a fact: first letter upper case."""
    text = template.format(x=fact.subject)
    return text[0].upper() + text[1:]


def split_facts(category: Category, share: float, seed: int) -> tuple[list[Fact], list[Fact]]:
    """(seen, unseen) facts of a category."""
    facts = sorted(category.facts, key=lambda fact: fact.subject)
    random.Random(f"facts/{category.name}/{seed}").shuffle(facts)
    unseen = max(1, round(share * len(facts))) if share > 0 else 0
    return facts[unseen:], facts[:unseen]


def split_wordings(category: Category, heldout: int, seed: int) -> tuple[list[int], list[int]]:
    """(training, held-out) template indices of a category; template 0 is always for training."""
    order = list(range(1, len(category.templates)))
    random.Random(f"wordings/{category.name}/{seed}").shuffle(order)
    held = sorted(order[:heldout])
    return [i for i in range(len(category.templates)) if i not in held], held


def plan(cfg: DomainConfig) -> Iterator[Dialogue]:
    """The questions of every split, in a fixed order for a seed.

    A training question comes again and again until there are as many as wanted; the step
    ``synthesize`` draws another voice each time. No question of another split is in the training
    split.
    """
    chosen = [c for c in CATEGORIES if not cfg.categories or c.name in cfg.categories]
    pools: dict[str, list[Asked]] = {name: [] for name in SPLITS}
    for category in chosen:
        seen, unseen = split_facts(category, cfg.unseen_facts, cfg.seed)
        free, held = split_wordings(category, cfg.heldout_wordings, cfg.seed)
        draw = random.Random(f"heldout/{category.name}/{cfg.seed}")
        used = cfg.wordings_per_fact or len(free)
        every = list(range(len(category.templates)))
        for name, facts, wordings, count in (
            ("train", seen, free, used),
            ("heldout_a", seen, held, cfg.per_fact_a),
            ("heldout_b", unseen, every, cfg.per_fact_b),
        ):
            for fact in facts:
                picked = draw.sample(wordings, min(count, len(wordings)))
                pools[name] += [(category, fact, wording) for wording in picked]
    draw = random.Random(f"order/{cfg.seed}")
    for name in ("train", "heldout_a", "heldout_b"):
        draw.shuffle(pools[name])
    pools["val"], pools["train"] = pools["train"][: cfg.val], pools["train"][cfg.val :]
    counts = {"train": cfg.recordings, "heldout_a": min(cfg.max_a, len(pools["heldout_a"]))}
    counts |= {"val": cfg.val, "heldout_b": min(cfg.max_b, len(pools["heldout_b"]))}
    for name in SPLITS:
        yield from _questions(name, pools[name], counts[name])


def _questions(split: str, pool: Sequence[Asked], number: int) -> Iterator[Dialogue]:
    for i in range(number if pool else 0):
        category, fact, wording = pool[i % len(pool)]
        extra = {"split": split, "fact": f"{category.name}/{fact.subject}", "wording": wording,
                 "answers": list(fact.answers)}  # fmt: skip
        text = question_text(category.templates[wording], fact)
        yield Dialogue(f"{split}-{i:04d}", (Turn(text),), "en", category.name, "", extra)


def run(cfg: DomainConfig, out: Path, how: RunConfig, progress: Progress) -> StepReport:
    """Step ``sample`` of this source.

    Raises:
        FoError: As :func:`data_prep.runner.run.run_step`.
    """
    rows = [dialogue.to_dict() for dialogue in plan(cfg)]
    return run_step("sample", rows, _as_it_is, out, how=RunConfig(1, "local", how.limit),
                    settings=to_dict(cfg), progress=progress)  # fmt: skip


def _as_it_is(row: Row) -> Row:
    return row
