"""The step ``synthesize``: dialogues and sentences are spoken, a sound file a turn.

A dialogue has one user voice, drawn from a list by the seed and its id, and every dialogue of a
language the same assistant; a sentence has a reader, drawn by the readers' shares. What a person
has recorded is not spoken again. A sound lies in ``speech/`` under a hash of what it was made
from, so that equal sentences share one and nothing is made twice. What fails a gate is spoken once
more, a little slower, then the dialogue ends before that turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_prep import gates
from data_prep.held_out import held_out, write_splits
from data_prep.runner.run import (
    Made,
    Progress,
    Reject,
    Row,
    RunConfig,
    StepReport,
    quiet,
    rows_of,
    run_step,
)
from data_prep.sources.dialogues import Dialogue, Sentence, Turn
from data_prep.steps import synthesize
from data_prep.steps.say_turn import Said, Speaking, Tally, say
from data_prep.steps.speakers import (
    ASSISTANT_RATE,
    SIDES,
    Speaker,
    SynthesizeConfig,
    cast,
    check,
    drawn,
    options_of,
    settings,
    speakers_of,
)
from data_prep.steps.synthesize import Request
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError, FoError
from fo_core.io import audio
from fo_core.normalize import speakable

__all__ = ["Speaker", "SynthesizeConfig", "run"]
GREETING = {"zh": "你好。", "ja": "こんにちは。", "ko": "안녕하세요.", "de": "Hallo."}
OPEN: list[Speaking] = []  # of a worker process
ROWS = 4  # dialogues that a worker takes at a time


@dataclass(frozen=True)
class Speak:
    """The work on some dialogues; :func:`data_prep.runner.run.run_step` sends it to the processes.

    A sound is treated and written while the engine speaks the next turn: engines that run as a
    command or a service leave this process idle meanwhile.
    """

    cfg: SynthesizeConfig
    sounds: Path
    sides: tuple[str, ...] = SIDES  # lists of voices that are opened

    def start(self) -> None:
        """Open the engines and the judge, and let every voice say a word.

        Raises:
            EngineError: An engine, a voice or the judge cannot work here.
        """
        OPEN[:] = [_open(self.cfg, self.sounds, self.sides)]

    def __call__(self, rows: list[dict[str, Any]]) -> list[Made | Reject]:
        """The turns of each dialogue as cuts, or why there are none.

        Raises:
            StopRun: A service is down, or the judge cannot work.
        """
        now = OPEN[0]
        plans = [_plan(self.cfg, row) for row in rows]
        jobs = [
            (plan, number)
            for plan in plans
            if isinstance(plan, _Plan)
            for number in range(len(plan.turns))
        ]

        def one(job: tuple[_Plan, int]) -> None:
            plan, number = job
            wanted = plan.turns[number]
            if number > plan.last:
                return
            said: Said | Item | str = "no answer"
            if isinstance(wanted, Request):
                said = say(wanted, now, plan.tally)
            elif wanted is not None:
                said = _recorded(wanted)
            plan.said[number] = said
            if isinstance(said, str):
                plan.last = min(plan.last, number)

        with ThreadPoolExecutor(now.threads) as pool:
            try:
                list(pool.map(one, jobs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [_made(plan) if isinstance(plan, _Plan) else plan for plan in plans]


def _open(cfg: SynthesizeConfig, sounds: Path, sides: Sequence[str]) -> Speaking:
    now = Speaking(cfg, sounds, gates.open_judge(cfg.judge))
    for speaker in speakers_of(cfg, sides):
        word = GREETING.get(gates.short(speaker.language), "Hello.")
        now.engine(speaker.engine, options_of(speaker)).synthesize(word, speaker.voice)
        speakable("1", speaker.language)
    return now


def try_voices(cfg: SynthesizeConfig, sides: Sequence[str] = SIDES) -> None:
    """Let every voice of these lists say a word, and forget it.

    Raises:
        ConfigError: The voices cannot be drawn from.
        EngineError: An engine, a voice or the judge cannot work here.
    """
    check(cfg, sides)
    _open(cfg, Path(), sides)
    synthesize.close_engines()


@dataclass
class _Plan:
    """A dialogue or a sentence on its way."""

    script: Dialogue | Sentence
    turns: list[Request | Row | None]  # to speak, the cut of a recording, or no answer
    last: int  # turns after this one are not needed any more
    said: dict[int, Said | Item | str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def _plan(cfg: SynthesizeConfig, row: dict[str, Any]) -> _Plan | Reject:
    try:
        if "text" in row and "turns" not in row:
            sentence = Sentence.from_dict(row)
            reader = drawn(cfg, cfg.readers, sentence.id, sentence.language, ASSISTANT_RATE)
            return _Plan(sentence, [replace(reader, text=sentence.text)], 0)
        dialogue = Dialogue.from_dict(row)
        user, assistant = cast(cfg, dialogue)
    except Reject as error:
        return error
    except DataError as error:
        return Reject(str(error))
    turns: list[Request | Row | None] = []
    for turn in dialogue.turns:
        turns.append(turn.sound or replace(user, text=turn.user))
        answer = turn.assistant
        turns.append(None if answer is None else replace(assistant, text=answer))
    return _Plan(dialogue, turns, len(turns) - 1)


def _recorded(cut: Row) -> Item | str:
    """A recording of the user's; why it cannot be used, if its file cannot."""
    try:
        item = manifest.from_cut(cut)
        audio.info(item.audio)
    except FoError as error:
        return str(error)
    return item


def _made(plan: _Plan) -> Made | Reject:
    """The cuts up to the first turn that could not be spoken."""
    items: list[Item] = []
    fault: dict[str, Any] | None = None
    for number in range(len(plan.turns)):
        said = plan.said[number]
        if isinstance(said, str):
            request = plan.turns[number]
            fault = {"turn": number, "reason": said}
            if isinstance(request, Request):
                fault["voice"] = f"{request.engine}/{request.voice}"
            break
        items.append(_item(plan.script, number, said))
    if isinstance(plan.script, Dialogue):
        items = items[: len(items) // 2 * 2]  # a question without an answer is of no use
    if fault is not None and not items:
        return Reject(fault.pop("reason"), **fault)
    what = "dialogues" if isinstance(plan.script, Dialogue) else "sentences"
    plan.tally.add(f"{what} of {items[0].speaker}")
    plan.tally.add("audio_seconds", sum(item.duration for item in items))
    rejects = [{"id": plan.script.id, **fault}] if fault else []
    cuts = [manifest.to_cut(item) for item in items]
    for cut in cuts:
        cut["custom"] |= plan.script.extra
    return Made(cuts, rejects, dict(plan.tally.counts))


def run(
    cfg: SynthesizeConfig,
    source: Path,
    out: Path,
    how: RunConfig | None = None,
    progress: Progress = quiet,
    sides: Sequence[str] = SIDES,
    held: tuple[float, int] = (0.0, 0),
) -> StepReport:
    """Speak the dialogues or sentences of a manifest.

    ``out`` takes manifest.jsonl with every turn, and train.jsonl and val.jsonl with what the
    assistant or a reader says: what a codec and a speech decoder are trained on.

    Args:
        cfg: Voices, treatment, gates.
        source: Rows of :mod:`data_prep.sources.dialogues`; dialogues with an answer to every turn.
        out: The step's folder; sounds lie in ``out/speech``.
        how: Workers, engine, limit.
        progress: Called with ("synthesize", dialogues done, dialogues).
        sides: Lists of voices that the rows need.
        held: Share of the dialogues for val.jsonl, and the seed that draws them.

    Raises:
        ConfigError: The voices cannot be drawn from.
        FoError: An engine cannot work here, a service is down, or nothing at all was spoken.
    """
    check(cfg, sides)
    out = Path(out).resolve()
    report = run_step(
        "synthesize",
        source,
        Speak(cfg, out / "speech", tuple(sides)),
        out,
        how=how,
        settings=settings(cfg),
        progress=progress,
        batch=ROWS,
    )
    rows = (row for row in rows_of(out / "manifest.jsonl") if isinstance(row, dict))
    write_splits(out, held_out(rows, *held), lambda row: row["custom"].get("role") != "user")
    return report


def _item(script: Dialogue | Sentence, number: int, said: Said | Item) -> Item:
    """The cut of a spoken or recorded turn."""
    made = said if isinstance(said, Item) else _sound(said)
    if isinstance(script, Sentence):
        return replace(made, id=script.id, text=script.text, language=script.language,
                       extra=_with(made, source=script.source))  # fmt: skip
    turn = script.turns[number // 2]
    question = number % 2 == 0
    return replace(
        made,
        id=f"{script.id}-{number:02d}",
        text=turn.user if question else turn.assistant or "",
        language=script.language,
        role="user" if question else "assistant",
        dialogue=script.id,
        turn=number,
        kind="question" if question else "answer",
        answer=turn.assistant or "",
        messages=_before(script.turns[: number // 2], turn, question),
        extra=_with(made, category=script.category, source=script.source),
    )


def _before(earlier: Sequence[Turn], turn: Turn, question: bool) -> tuple[dict[str, str], ...]:
    """What was said before a question, or before the answer to it."""
    written = [
        {"role": role, "content": text}
        for each in earlier
        for role, text in (("user", each.user), ("assistant", each.assistant or ""))
    ]
    return tuple(written if question else [*written, {"role": "user", "content": turn.user}])


def _with(made: Item, **more: str) -> dict[str, Any]:
    return {**made.extra, **{name: value for name, value in more.items() if value}}


def _sound(said: Said) -> Item:
    """What an engine said."""
    request = said.request
    extra: dict[str, Any] = {"spoken": said.text, "speed": request.speed}
    extra |= {"pitch": request.pitch} if request.pitch else {}
    extra |= {"cer": said.cer} if said.cer is not None else {}
    extra |= {"tries": said.tries} if said.tries > 1 else {}
    return Item(
        id="",
        audio=str(said.path),
        rate=request.rate,
        num_samples=said.samples,
        speaker=f"{request.engine}/{request.voice}",
        extra=extra,
    )
