"""Step ``label-states`` of spoken dialogues: recordings with a state for every 160 ms.

From every spoken user turn comes a recording of its own (label_states.py says how it is composed):
the turn, in some cases with a pause at a dip of its energy, or with a hesitation there ("um", in
the speaker's voice), and the state changes to 1 behind its end. Beside it, in the shares of the
config, come what is no question, in the voice and after the dialogue of the same user:

incomplete   the turn, cut off at an inner dip: the state stays 0
backchannel  "mm hmm": state 2 behind its end
aside        a sentence meant for somebody else: state 2
noise        a cough, a knock, a hum ...: state 2
background   another voice, quieter and from across the room: state 2 while it still speaks

A back-channel and its like may come as own recordings (own_recordings.py), and at half of the time
while the answer is still spoken. So that the state head doesn't learn that whatever follows an
answer wants none, a share of the first turns is put behind another's question and answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import gates
from data_prep.held_out import held_out, split_of, write_splits
from data_prep.runner.cuts import cuts_of, file_stem, manifests, named
from data_prep.runner.run import (
    Made,
    Progress,
    Reject,
    Row,
    RunConfig,
    StepReport,
    run_step,
)
from data_prep.sources import noises
from data_prep.sources.domain import ASIDES, BACKCHANNELS, NOISES
from data_prep.sources.room import power_of
from data_prep.steps import label_states, own_recordings, synthesize
from data_prep.steps.label_states import RATE, StatesConfig
from data_prep.steps.own_recordings import OwnRecordings
from data_prep.steps.speakers import Speaker, options_of
from data_prep.steps.state_shares import state_shares
from data_prep.steps.synthesize import Request, SpeechConfig
from fo_core.config import config, to_dict
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.engines.tts import TTS
from fo_core.errors import DataError, FoError
from fo_core.io import audio
from fo_core.io.files import mark_of, read_json, write_json

VERSION = 3  # of the treatment below: a change of it makes new recordings
Texts = Mapping[str, tuple[str, ...]]


def _backchannels() -> Texts:
    return {"en": BACKCHANNELS, "zh": ("嗯。", "好的。", "对。", "是的。", "哦。", "明白了。")}


def _asides() -> Texts:
    return {
        "en": ASIDES,
        "zh": ("妈,等我一下。", "把它放在桌上。", "我在打电话呢。", "等等,有人敲门。"),
    }


def _fillers() -> Texts:
    return {"en": ("um", "uh", "er", "well", "let me see"), "zh": ("嗯", "呃", "那个")}


@config
class TurnStatesConfig:
    """Which recordings are made of the user's turns, in which shares, and how they are composed."""

    seed: int = 0  # another seed composes other recordings
    compose: StatesConfig = StatesConfig()  # silence, noise, inner pauses, when states change
    hesitation: float = 0.1  # share of the turns that hesitate inside
    incomplete: float = 0.1  # recordings a turn that break off
    backchannel: float = 0.15  # recordings a turn with a back-channel
    aside: float = 0.08  # recordings a turn with something meant for somebody else
    noise: float = 0.12  # recordings a turn with a noise
    background: float = 0.08  # recordings a turn with a voice from elsewhere in the room
    behind: float = 0.08  # share of the turns with such a voice behind the user's
    follows: float = 0.4  # share of the first turns that come after another's question and answer
    interrupts: float = 0.5  # share of what comes after an answer that comes in the middle of it
    # kind (backchannel, aside, noise, background) -> manifests of own recordings of it
    recorded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recorded_share: float = 0.5  # of a kind that is recorded; the rest is made
    fillers: Texts = field(default_factory=_fillers)  # by language; without any none is made
    backchannels: Texts = field(default_factory=_backchannels)  # by language
    asides: Texts = field(default_factory=_asides)  # by language
    longest: float = 30.0  # s of a recording; longer turns are skipped
    val: float = 0.02  # share of the dialogues that are held out
    speech: SpeechConfig = SpeechConfig()  # of what is spoken here
    # options of the users' engines, where they need some; beside a real recording one of them says
    # back-channels and asides
    speakers: tuple[Speaker, ...] = ()


def run(
    cfg: TurnStatesConfig,
    source: Path | Sequence[Path],
    out: Path,
    how: RunConfig,
    progress: Progress,
) -> StepReport:
    """Compose recordings of the user turns of ``source``: cuts of users, or of nobody's role.

    ``out`` takes manifest.jsonl, train.jsonl, val.jsonl (and other splits that the cuts name), the
    recordings, and report.json, whose ``states`` says what was built in which share.

    Raises:
        DataError: There is no turn of a user.
        FoError: As :func:`data_prep.runner.run.run_step`.
    """
    out = Path(out).resolve()
    others = own_recordings.exchanges(_users(source)) if cfg.follows else {}
    work = Labelling(cfg, out, own_recordings.read(cfg.recorded), others)
    said = to_dict(changed(cfg, val=0.0, speakers=()))
    voices = [(each.engine, each.voice) for each in cfg.speakers]
    total = sum(map(_of_a_user, cuts_of(source)))
    if not total:
        raise DataError(f"{named(source)} holds no turn of a user",
                        do="label-states takes recordings of users")  # fmt: skip
    turns = filter(_of_a_user, cuts_of(source))
    recorded = mark_of(manifests([path for paths in cfg.recorded.values() for path in paths]))
    settings = {"version": VERSION, **said, "voices": voices, "own": recorded}
    report = run_step("label-states", turns, work, out, how=how, progress=progress, total=total,
                      settings=settings)  # fmt: skip
    write_splits(out, held_out(_users(source), cfg.val, cfg.seed))
    asked = {name: getattr(cfg, name) for name in (*EXTRAS, "hesitation", "behind")}
    counts = state_shares(out / "manifest.jsonl", {**asked, "pause": cfg.compose.pause_share})
    write_json(out / "report.json", {**read_json(out / "report.json"), "states": counts})
    return report


def _of_a_user(row: Row | str) -> bool:
    """Whether a row is a user's or nobody's in particular; a broken one is, to be listed."""
    custom = row.get("custom") if isinstance(row, dict) else None
    return not isinstance(custom, dict) or custom.get("role", "user") in ("user", "")


def _users(source: Any) -> Iterator[Row]:
    return (row for row in cuts_of(source) if isinstance(row, dict) and _of_a_user(row))


EXTRAS = ("incomplete", "backchannel", "aside", "noise", "background")
SAID = ("speaker", "language", "role", "dialogue", "turn", "fact", "answer", "answers", "messages")
KEPT = ("category", "speed", "pitch", "split", "wording")  # of a turn's custom


def phrases(texts: Sequence[str], split: str) -> Sequence[str]:
    """Those of a list that a split may use: a quarter is kept for splits named ``heldout...``."""
    if not split or len(texts) < 4:
        return texts
    apart = texts[::4]
    return apart if split.startswith("heldout") else [text for text in texts if text not in apart]


def _split(turn: Item) -> str:
    return split_of(manifest.to_cut(turn))


def _exchange(text: str, answer: str) -> tuple[dict[str, str], ...]:
    return {"role": "user", "content": text}, {"role": "assistant", "content": answer}


@dataclass(frozen=True)
class Labelling:
    """The work on one user turn: its recordings.

    Args:
        cfg: How.
        out: Folder of the recordings.
        own: Own recordings of what is said beside questions.
        others: Split -> questions with their answers, to come before first turns.
    """

    cfg: TurnStatesConfig
    out: Path
    own: OwnRecordings = field(default_factory=lambda: OwnRecordings({}))
    others: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)

    def __call__(self, row: Row) -> Made:
        """The recording of the turn, and those that its draw adds.

        Raises:
            Reject: Its sound cannot be used.
        """
        turn = manifest.from_cut(row)
        speech = turn.load_audio(RATE, self.cfg.longest)
        draw = np.random.default_rng(self._seed(turn.id, "draw"))
        rows, rejects = [], []
        hesitates = draw.random() < self.cfg.hesitation and not self._recorded(turn)
        wanted = [name for name in EXTRAS if draw.random() < getattr(self.cfg, name)]
        filler = self._filler(turn, draw) if hesitates else ""
        rows.append(self._question(self._following(turn), speech, filler, draw))
        for kind in wanted:
            try:
                extra = self._extra(kind, turn, speech, draw)
            except FoError as error:
                rejects.append({"id": f"{turn.id}-{kind}", "reason": str(error)})
                continue
            rows += [extra] if extra else []
        return Made([manifest.to_cut(item) for item in rows], rejects,
                    {"audio_seconds": sum(item.duration for item in rows)})  # fmt: skip

    def _seed(self, name: str, what: str) -> int:
        said = f"{self.cfg.seed}/{name}/{what}"
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6], "big")

    def _question(
        self, turn: Item, speech: np.ndarray, filler: str, draw: np.random.Generator
    ) -> Item:
        more: Row = {}
        if filler:
            longer = self._hesitate(turn, speech, filler, draw)
            if longer is not None:
                speech, more = longer, {"hesitation": filler}
        behind = None
        if np.random.default_rng(self._seed(turn.id, "behind")).random() < self.cfg.behind:
            other = self._other(f"{turn.id}-behind", "background", turn)
            if other is not None:
                behind, more = other[0], {**more, "behind": other[1].speaker}
        return self._record(turn, turn.id, "question", speech, turn.text, more, behind=behind)

    def _following(self, turn: Item) -> Item:
        """The turn, in some cases behind another's question and answer, where it is the first."""
        pairs = self.others.get(_split(turn), ())
        draw = np.random.default_rng(self._seed(turn.id, "follows"))
        if turn.messages or not pairs or draw.random() >= self.cfg.follows:
            return turn
        text, answer = pairs[int(draw.integers(len(pairs)))]
        if text == turn.text:
            return turn
        return changed(turn, messages=_exchange(text, self._heard(answer, draw)))

    def _heard(self, answer: str, draw: np.random.Generator) -> str:
        """What of an answer is spoken when something comes in between: often not all of it."""
        words = answer.split()
        if len(words) < 2 or draw.random() >= self.cfg.interrupts:
            return answer
        return " ".join(words[: int(draw.integers(1, len(words)))])

    def _filler(self, turn: Item, draw: np.random.Generator) -> str:
        texts = self.cfg.fillers.get(gates.short(turn.language), ())
        return texts[int(draw.integers(len(texts)))] if texts else ""

    def _hesitate(
        self, turn: Item, speech: np.ndarray, filler: str, draw: np.random.Generator
    ) -> np.ndarray | None:
        """The turn with a filler between two short silences at an inner dip, if it has one."""
        points = label_states.pause_points(speech, self.cfg.compose.pause_margin)
        if not points:
            return None
        try:
            said = self._say(turn, filler)
        except FoError:
            return None
        first, last = audio.speech_bounds(said, RATE)
        at = int(points[draw.integers(len(points))])
        lengths = [round(RATE * draw.uniform(0.1, 0.4)) for _ in range(2)]
        before, after = label_states.apart(speech, at)
        silence = [np.zeros(length, np.float32) for length in lengths]
        return np.concatenate([before, silence[0], said[first:last], silence[1], after])

    def _extra(
        self, kind: str, turn: Item, speech: np.ndarray, draw: np.random.Generator
    ) -> Item | None:
        """A recording that is no question; None where the turn or its language gives none."""
        name = f"{turn.id}-{kind}"
        if kind == "incomplete":
            points = label_states.pause_points(speech, self.cfg.compose.pause_margin)
            if not points:
                return None
            at = int(points[draw.integers(len(points))])
            share = round(at / len(speech), 3)
            before, _ = label_states.apart(speech, at)
            item = changed(self._following(turn), answer="")
            more = {"cut_at": share, "whole_text": turn.text}  # which words are left is not known
            return self._record(item, name, kind, before, "", more)
        other = self._other(name, kind, turn)
        if other is None:
            return None
        wave, said, more = other
        place = self._after(turn, np.random.default_rng(self._seed(name, "heard")))
        item = changed(place, speaker=said.speaker)
        power = power_of(speech) if kind == "background" else None
        return self._record(item, name, kind, wave, said.text, more, power)

    def _other(self, name: str, kind: str, turn: Item) -> tuple[np.ndarray, Item, Row] | None:
        """What is said or heard beside questions: the sound, who says what, and what to note."""
        draw = np.random.default_rng(self._seed(name, "other"))
        if draw.random() < self.cfg.recorded_share:
            found = self.own.pick(kind, turn, _split(turn), draw)
            if found is not None:
                wave = audio.normalise(found.load_audio(RATE, self.cfg.longest), RATE)
                return wave, found, {"recorded": found.id}
        if kind == "noise":
            sound = NOISES[int(draw.integers(len(NOISES)))]
            wave = noises.make(sound, self._seed(name, "noise"), RATE)
            return wave, changed(turn, text="", speaker="noise"), {"noise": sound}
        listed = self.cfg.backchannels if kind == "backchannel" else self.cfg.asides
        texts = phrases(listed.get(gates.short(turn.language), ()), _split(turn))
        if not texts:
            return None
        said = changed(turn, text=texts[int(draw.integers(len(texts)))])
        if kind == "background" or self._recorded(turn):
            voices = [v for v in self.cfg.speakers
                      if gates.short(v.language) == gates.short(turn.language)
                      and f"{v.engine}/{v.voice}" != turn.speaker]  # fmt: skip
            if not voices:
                return None
            voice = voices[int(draw.integers(len(voices)))]
            said = changed(said, speaker=f"{voice.engine}/{voice.voice}")
        return self._say(said, said.text), said, {}

    @staticmethod
    def _recorded(turn: Item) -> bool:
        """Whether a person speaks: nothing else can be said in that voice."""
        return turn.speaker.partition("/")[0] not in TTS.names()

    def _after(self, turn: Item, draw: np.random.Generator) -> Item:
        """The place behind the turn's answer, or in the middle of it: the rest was said before."""
        said: tuple[dict[str, str], ...] = ()
        if turn.answer:  # a turn that nobody answered is no dialogue
            said = _exchange(turn.text, self._heard(turn.answer, draw))
        return changed(turn, answer="", fact="", answers=(), messages=(*turn.messages, *said))

    def _say(self, turn: Item, text: str) -> np.ndarray:
        """A few words in the voice of the turn: float32 [S] at 16 kHz.

        Raises:
            FoError: The engine cannot say them.
        """
        engine, _, voice = turn.speaker.partition("/")
        options = next((options_of(s) for s in self.cfg.speakers
                        if (s.engine, s.voice) == (engine, voice)), "")  # fmt: skip
        request = Request(text, engine, voice, 1.0, RATE, gates.short(turn.language),
                          float(turn.extra.get("pitch", 0.0)), options)  # fmt: skip
        path = request.path(self.out / "speech", self.cfg.speech)
        if not path.exists():
            audio.write(path, synthesize.speak(request, self.cfg.speech), RATE)
        return audio.read(path, RATE, min_seconds=0)

    def _record(
        self, turn: Item, name: str, kind: str, speech: np.ndarray, text: str, more: Row,
        power: float | None = None, behind: np.ndarray | None = None,
    ) -> Item:  # fmt: skip
        made = label_states.compose(speech, kind, self.cfg.compose, self._seed(name, "compose"),
                                    power, behind)  # fmt: skip
        if len(made.wave) > self.cfg.longest * RATE:
            raise Reject(f"too long ({len(made.wave) / RATE:.0f} s)")
        folder = hashlib.sha256(turn.dialogue.encode()).hexdigest()[:2]
        path = self.out / "recordings" / folder / f"{file_stem(name)}.flac"
        audio.write(path, made.wave, RATE)
        kept = {k: v for k, v in turn.extra.items() if k in KEPT}
        said = {name: getattr(turn, name) for name in SAID}
        pauses = {"pauses": [list(p) for p in made.pauses]} if made.pauses else {}
        return Item(
            id=name,
            audio=str(path),
            rate=RATE,
            num_samples=len(made.wave),
            text=text,
            kind=kind,
            states=made.states,
            speech_start=round(made.speech_start, 4),
            speech_end=round(made.speech_end, 4),
            extra={**kept, **pauses, **more},
            **{"role": "user", **{name: value for name, value in said.items() if value}},
        )
