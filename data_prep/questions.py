"""The demo's spoken questions: a closed everyday domain, split before anything is synthesised.

Facts (subject, accepted answers) by category, and several wordings a category. Two held-out sets:
(a) facts of the training set in wordings that no training question of the category has, and
(b) facts that are never seen in any form: neither their questions nor their answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data_prep.domain import ASIDES, BACKCHANNELS, CATEGORIES, NOISES, Category, Fact
from fo_core.config import config

SPLITS = ("train", "val", "heldout_a", "heldout_b")
NO_ANSWER = ("backchannel", "aside", "noise")  # kinds that end in state 2


@config
class VoiceConfig:
    """One voice of one text-to-speech engine."""

    engine: str = "flite"  # name in fo_core.engines.tts
    voice: str = "slt"  # name in the engine's voices()
    speeds: tuple[float, ...] = (1.0,)  # speeds to draw from, 1 = the voice's own


USER_VOICES = (
    VoiceConfig("flite", "slt", (0.9, 1.0, 1.1)),
    VoiceConfig("flite", "rms", (0.9, 1.0, 1.1)),
    VoiceConfig("flite", "awb", (0.9, 1.0)),
)


@config
class QuestionsConfig:
    """How many recordings of what, and what is held out."""

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
    backchannel: float = 0.15  # recordings of "mm hmm", "okay" ... a question recording
    aside: float = 0.06  # ... of speech meant for somebody else
    noise: float = 0.10  # ... of coughs, knocks, hums, hiss
    incomplete: float = 0.08  # ... of questions that break off


@dataclass(frozen=True)
class Recording:
    """One thing to be recorded: what is said by whom; nothing is synthesised yet."""

    id: str
    split: str
    kind: str  # question | incomplete | backchannel | aside | noise
    text: str  # what is said; the name of the sound for a noise
    engine: str = ""
    voice: str = ""
    speed: float = 1.0
    fact: str = ""  # "category/subject"
    wording: int = -1  # index of the category's template
    answers: tuple[str, ...] = field(default_factory=tuple)  # accepted right answers
    seed: int = 0  # of its noise, silences and pauses

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Recording:
        """From the JSON form."""
        return cls(**{**row, "answers": tuple(row.get("answers", ()))})


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


def plan(cfg: QuestionsConfig, voices: Sequence[VoiceConfig]) -> list[Recording]:
    """Every recording of every split, in a fixed order for a seed.

    Args:
        cfg: Counts, shares and the seed.
        voices: User voices to draw from.

    Returns:
        Recordings with ids "train-q0001" and the like; no (text, engine, voice, speed) of a
        held-out or validation question is in the training split.
    """
    chosen = [c for c in CATEGORIES if not cfg.categories or c.name in cfg.categories]
    train: list[tuple[Category, Fact, int]] = []
    set_a: list[tuple[Category, Fact, int]] = []
    set_b: list[tuple[Category, Fact, int]] = []
    for category in chosen:
        seen, unseen = split_facts(category, cfg.unseen_facts, cfg.seed)
        open_wordings, held = split_wordings(category, cfg.heldout_wordings, cfg.seed)
        draw = random.Random(f"heldout/{category.name}/{cfg.seed}")
        used = cfg.wordings_per_fact or len(open_wordings)
        for fact in seen:
            train += [(category, fact, w) for w in _take(draw, open_wordings, used)]
        for fact in seen:
            set_a += [(category, fact, w) for w in _take(draw, held, cfg.per_fact_a)]
        every = list(range(len(category.templates)))
        for fact in unseen:
            set_b += [(category, fact, w) for w in _take(draw, every, cfg.per_fact_b)]
    draw = random.Random(f"order/{cfg.seed}")
    for pool in (train, set_a, set_b):
        draw.shuffle(pool)
    val, train = train[: cfg.val], train[cfg.val :]
    counts = {"train": cfg.recordings, "val": cfg.val}
    pools = {"train": train, "val": val, "heldout_a": set_a[: cfg.max_a]}
    pools["heldout_b"] = set_b[: cfg.max_b]
    made: list[Recording] = []
    for split in SPLITS:
        pool = pools[split]
        number = counts.get(split, len(pool))
        made += _questions(split, pool, number, voices, cfg.seed)
        made += _others(split, number, pool, voices, cfg)
    return made


def _take(draw: random.Random, options: Sequence[int], count: int) -> list[int]:
    return draw.sample(list(options), min(count, len(options)))


def _questions(
    split: str,
    pool: Sequence[tuple[Category, Fact, int]],
    number: int,
    voices: Sequence[VoiceConfig],
    seed: int,
) -> Iterator[Recording]:
    """``number`` recordings: the pool again and again, each round in other voices."""
    draw = random.Random(f"voices/{split}/{seed}")
    turn = [draw.randrange(len(voices)) for _ in pool]
    for i in range(number if pool else 0):
        at, again = i % len(pool), i // len(pool)
        category, fact, wording = pool[at]
        voice = voices[(turn[at] + again) % len(voices)]
        yield Recording(
            id=f"{split}-q{i:04d}",
            split=split,
            kind="question",
            text=question_text(category.templates[wording], fact),
            engine=voice.engine,
            voice=voice.voice,
            speed=draw.choice(voice.speeds),
            fact=f"{category.name}/{fact.subject}",
            wording=wording,
            answers=fact.answers,
            seed=draw.getrandbits(31),
        )


def _others(
    split: str,
    number: int,
    pool: Sequence[tuple[Category, Fact, int]],
    voices: Sequence[VoiceConfig],
    cfg: QuestionsConfig,
) -> Iterator[Recording]:
    """What wants no answer, and questions that break off, in their shares of ``number``.

    Set (b) has the phrases that no other split has; the others share theirs, in recordings of
    their own.
    """
    draw = random.Random(f"others/{split}/{cfg.seed}")
    phrases: dict[str, Sequence[str]] = {"noise": NOISES}
    for kind, listed in (("backchannel", BACKCHANNELS), ("aside", ASIDES)):
        shuffled = sorted(listed)
        random.Random(f"{kind}/{cfg.seed}").shuffle(shuffled)
        held = max(1, len(shuffled) // 4)
        phrases[kind] = shuffled[:held] if split == "heldout_b" else shuffled[held:]
    shares = {"backchannel": cfg.backchannel, "aside": cfg.aside, "noise": cfg.noise}
    for kind, share in {**shares, "incomplete": cfg.incomplete}.items():
        for i in range(round(share * number)):
            voice = draw.choice(list(voices))
            fact = ""
            if kind == "incomplete":
                category, about, wording = draw.choice(list(pool))
                words = question_text(category.templates[wording], about).rstrip(".?").split()
                text = " ".join(words[: draw.randint(2, max(2, len(words) - 1))])
                fact = f"{category.name}/{about.subject}"
            else:
                text = phrases[kind][i % len(phrases[kind])]
            yield Recording(
                id=f"{split}-{kind[0]}{i:04d}",
                split=split,
                kind=kind,
                text=text,
                engine="" if kind == "noise" else voice.engine,
                voice="" if kind == "noise" else voice.voice,
                speed=1.0 if kind == "noise" else round(draw.uniform(0.85, 1.15), 2),
                fact=fact,
                seed=draw.getrandbits(31),
            )


def vocabulary(recordings: Sequence[Recording]) -> set[str]:
    """Lower-case words of what is said."""
    said = (r.text for r in recordings if r.kind != "noise")
    return {word.strip(".,?!'").lower() for text in said for word in text.split()} - {""}
