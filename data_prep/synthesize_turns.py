"""The step ``synthesize``: both sides of written dialogues are spoken, a sound file a turn.

A dialogue has one user voice, drawn from a list by the seed and its id, and every dialogue of a
language the same assistant. A sound lies in ``speech/`` under a hash of what it was made from, so
that equal sentences share one and nothing is made twice. What fails a gate is spoken once more, a
little slower, then the dialogue ends before that turn.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_prep import gates, synthesize
from data_prep.dialogues import Dialogue
from data_prep.normalize import speakable
from data_prep.runner import Made, Progress, Reject, RunConfig, StepReport, quiet, run_step
from data_prep.say_turn import Said, Speaking, Tally, say
from data_prep.speakers import Speaker, SynthesizeConfig, cast, check, options_of, settings
from data_prep.synthesize import Request
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError

__all__ = ["Speaker", "SynthesizeConfig", "run"]
GREETING = {"zh": "你好。", "ja": "こんにちは。", "ko": "안녕하세요.", "de": "Hallo."}
OPEN: list[Speaking] = []  # of a worker process
ROWS = 4  # dialogues that a worker takes at a time


@dataclass(frozen=True)
class Speak:
    """The work on some dialogues; :func:`data_prep.runner.run_step` sends it to the processes.

    A sound is treated and written while the engine speaks the next turn: engines that run as a
    command or a service leave this process idle meanwhile.
    """

    cfg: SynthesizeConfig
    sounds: Path

    def start(self) -> None:
        """Open the engines and the judge, and let every voice say a word.

        Raises:
            EngineError: An engine, a voice or the judge cannot work here.
        """
        OPEN[:] = [_open(self.cfg, self.sounds)]

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
            request = plan.turns[number]
            if number > plan.last:
                return
            said = say(request, now, plan.tally) if request is not None else "no answer"
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


def _open(cfg: SynthesizeConfig, sounds: Path) -> Speaking:
    now = Speaking(cfg, sounds, gates.open_judge(cfg.judge))
    for speaker in (*cfg.users, *cfg.assistants):
        word = GREETING.get(gates.short(speaker.language), "Hello.")
        now.engine(speaker.engine, options_of(speaker)).synthesize(word, speaker.voice)
        speakable("1", speaker.language)
    return now


def try_voices(cfg: SynthesizeConfig) -> None:
    """Let every voice say a word, and forget it.

    Raises:
        ConfigError: The voices cannot be drawn from.
        EngineError: An engine, a voice or the judge cannot work here.
    """
    check(cfg)
    _open(cfg, Path())
    synthesize.close_engines()


@dataclass
class _Plan:
    """A dialogue on its way."""

    dialogue: Dialogue
    turns: list[Request | None]  # in order; None = an answer that there is not
    last: int  # turns after this one are not needed any more
    said: dict[int, Said | str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def _plan(cfg: SynthesizeConfig, row: dict[str, Any]) -> _Plan | Reject:
    try:
        dialogue = Dialogue.from_dict(row)
        user, assistant = cast(cfg, dialogue)
    except Reject as error:
        return error
    except DataError as error:
        return Reject(str(error))
    turns: list[Request | None] = []
    for turn in dialogue.turns:
        turns.append(replace(user, text=turn.user))
        answer = turn.assistant
        turns.append(None if answer is None else replace(assistant, text=answer))
    return _Plan(dialogue, turns, len(turns) - 1)


def _made(plan: _Plan) -> Made | Reject:
    """The cuts up to the first turn that could not be spoken."""
    items: list[Item] = []
    fault: dict[str, Any] | None = None
    for number in range(len(plan.turns)):
        said = plan.said[number]
        if isinstance(said, str):
            request = plan.turns[number]
            fault = {"turn": number, "reason": said}
            fault |= {"voice": f"{request.engine}/{request.voice}"} if request else {}
            break
        items.append(_item(plan.dialogue, number, said))
    items = items[: len(items) // 2 * 2]  # a question without an answer is of no use
    if fault is not None and not items:
        return Reject(fault.pop("reason"), **fault)
    plan.tally.add(f"dialogues of {items[0].speaker}")
    plan.tally.add("audio_seconds", sum(item.duration for item in items))
    rejects = [{"id": plan.dialogue.id, **fault}] if fault else []
    return Made([manifest.to_cut(item) for item in items], rejects, dict(plan.tally.counts))


def run(
    cfg: SynthesizeConfig,
    source: Path,
    out: Path,
    how: RunConfig | None = None,
    progress: Progress = quiet,
) -> StepReport:
    """Speak the dialogues of a manifest.

    Args:
        cfg: Voices, treatment, gates.
        source: Rows of :mod:`data_prep.dialogues` with an answer to every turn.
        out: The step's folder; sounds lie in ``out/speech``.
        how: Workers, engine, limit.
        progress: Called with ("synthesize", dialogues done, dialogues).

    Raises:
        ConfigError: The voices cannot be drawn from.
        FoError: An engine cannot work here, a service is down, or nothing at all was spoken.
    """
    check(cfg)
    out = Path(out).resolve()
    work = Speak(cfg, out / "speech")
    return run_step(
        "synthesize",
        source,
        work,
        out,
        how=how,
        settings=settings(cfg),
        progress=progress,
        batch=ROWS,
    )


def _item(dialogue: Dialogue, number: int, said: Said) -> Item:
    """The cut of a spoken turn."""
    turn = dialogue.turns[number // 2]
    written = [
        {"role": role, "content": text}
        for earlier in dialogue.turns[: number // 2]
        for role, text in (("user", earlier.user), ("assistant", earlier.assistant or ""))
    ]
    question = number % 2 == 0
    if not question:
        written.append({"role": "user", "content": turn.user})
    extra: dict[str, Any] = {"spoken": said.text, "speed": said.request.speed}
    extra |= {"pitch": said.request.pitch} if said.request.pitch else {}
    extra |= {"cer": said.cer} if said.cer is not None else {}
    extra |= {"tries": said.tries} if said.tries > 1 else {}
    extra |= {"category": dialogue.category} if dialogue.category else {}
    extra |= {"source": dialogue.source} if dialogue.source else {}
    return Item(
        id=f"{dialogue.id}-{number:02d}",
        audio=str(said.path),
        rate=said.request.rate,
        num_samples=said.samples,
        text=turn.user if question else turn.assistant or "",
        speaker=f"{said.request.engine}/{said.request.voice}",
        language=dialogue.language,
        role="user" if question else "assistant",
        dialogue=dialogue.id,
        turn=number,
        kind="question" if question else "answer",
        answer=turn.assistant or "",
        messages=tuple(written),
        extra=extra,
    )
