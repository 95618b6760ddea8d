"""How many users a pool carries: scripted users in real time, every reply checked sample by sample.

All users speak the same script, a question in every slot, started one after the other. A run alone,
as fast as can be, says what every reply must be; under load the same samples must come, in order,
and the numbers are how long they took: from the arrival of the last sample that the decision needed
to the first audio (the pool's share of the latency; the decision itself comes 1-2 chunks after the
user's last word).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fo_core.dialogue import events as ev
from fo_core.dialogue.sessions.pool import Overflow, Pool, PoolConfig, PoolFull, PoolStats, Talk
from fo_core.dialogue.settings import DialogueConfig
from fo_core.errors import FoError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import SAMPLE_RATE

BLOCK = 640  # samples a user sends at a time: 40 ms
TURN_SECONDS = 60.0  # longest wait for a reply after the script's end


@dataclass
class Reply:
    """What came of one turn; of its audio only what comparing it takes, however long a run is."""

    pieces: list[bytes] = field(default_factory=list)  # digest of each piece of audio, in order
    samples: int = 0  # in them
    text: str = ""
    status: str = ""
    in_order: bool = True
    played: bool = False  # to its end
    overrun: bool = False  # the next question began before that: what is heard of it then varies
    decided: int = 0  # user sample at which the turn ended
    first_audio: float = 0.0  # time.monotonic()
    started: float = 0.0  # of the decision
    speculated: bool = False  # it was begun before that

    def add(self, audio: np.ndarray) -> None:
        """The next piece."""
        self.pieces.append(hashlib.sha256(audio.tobytes()).digest())
        self.samples += audio.size

    def like(self, right: Reply) -> bool:
        """Whether it is the reply wanted, sample by sample; as far as it came, if it was cut."""
        if "cancelled" in (self.status, right.status):
            size = min(len(self.pieces), len(right.pieces))
            return self.pieces[:size] == right.pieces[:size]
        return self.text == right.text and self.pieces == right.pieces


@dataclass
class User:
    """A scripted user and what reached him."""

    script: np.ndarray
    start: float = 0.0  # time.monotonic() at which he began
    sent: int = 0  # samples
    replies: dict[int, Reply] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)  # s, a chunk's arrival to its judgement
    faults: Counter[str] = field(default_factory=Counter)
    talk: Talk | None = None

    def arrived(self, sample: int) -> float:
        """When a sample had been sent: blocks leave on time, whatever the pool does."""
        return self.start + -(-sample // BLOCK) * BLOCK / SAMPLE_RATE

    def see(self, event: ev.DuplexEvent) -> None:
        """Note an event."""
        if isinstance(event, ev.ChunkState):
            self.lags.append(event.time - self.arrived(event.at))
        elif isinstance(event, ev.SpeechStarted):
            for reply in self.replies.values():
                reply.overrun |= not reply.played
        elif isinstance(event, ev.Played):
            self.replies[event.turn].played = True
        elif isinstance(event, ev.TurnEnded):
            self.faults["dismissed"] += event.how in ev.DISMISSED
            self.replies[event.turn] = Reply(decided=event.at, started=event.time)
        elif isinstance(event, ev.ReplyStarted):
            self.replies[event.turn].speculated = event.speculated != "no"
        elif isinstance(event, ev.AudioDelta):
            reply = self.replies[event.turn]
            reply.in_order &= event.position == reply.samples
            reply.first_audio = reply.first_audio or event.time
            reply.add(event.audio)
        elif isinstance(event, ev.ReplyDone):
            reply = self.replies[event.turn]
            reply.text, reply.status = event.text, event.status
            reply.in_order &= event.samples == reply.samples
        elif isinstance(event, ev.Error | ev.Closed):
            self.faults[getattr(event, "code", "closed")] += 1

    @property
    def answered(self) -> list[Reply]:
        """Replies, in order, without the turns that wanted none."""
        return [self.replies[n] for n in sorted(self.replies) if self.replies[n].status]

    def against(self, wanted: Sequence[Reply]) -> tuple[int, int]:
        """Replies that differ from those wanted, and replies whose history is another one.

        When a question begins while a reply is still played, the history keeps what was heard of
        it, which depends on when it came: the replies after it cannot be compared.
        """
        pairs = list(zip(self.answered, wanted, strict=False))
        first = next(
            (n for n, pair in enumerate(pairs) if any(r.overrun for r in pair)), len(pairs)
        )
        return sum(not reply.like(right) for reply, right in pairs[: first + 1]), max(
            0, len(pairs) - first - 1
        )

    def waits(self) -> list[float]:
        """Seconds to first audio, of every reply."""
        return [r.first_audio - self.arrived(r.decided) for r in self.answered if r.first_audio]

    def waits_decided(self, speculated: bool | None = None) -> list[float]:
        """Seconds from the decision to first audio, of every reply or of those begun before it."""
        return [
            reply.first_audio - reply.started
            for reply in self.answered
            if reply.first_audio and speculated in (None, reply.speculated)
        ]


@dataclass
class Load:
    """One measured run."""

    sessions: int
    seconds: float  # of wall time
    replies: int
    speculate: str  # what replies are begun before their decision, as the config says
    first_audio: tuple[float, float, float]  # ms: p50, p95, longest
    after_decision: tuple[float, float, float]  # ms: the same, from the decision on
    after_decision_begun: tuple[float, float, float]  # ms: ... of the replies begun before it
    chunk_lag: tuple[float, float, float]  # ms: the same, a chunk's arrival to its judgement
    differing: int  # replies that are not, sample by sample, those of the run alone
    other_history: int  # replies after one that the next question ran into: they cannot be compared
    out_of_order: int  # replies with a gap or a repeated sample
    missing: int  # replies that never came
    faults: dict[str, int]
    speculations: dict[str, int]  # replies begun in pauses: begun, committed, dropped
    speculation_seconds: dict[str, float]  # computed for them before the decision, by outcome
    discarded_tokens: dict[str, int]  # made for those that were dropped
    memory_mib: list[float]  # resident, at equal steps of the run
    mean_batch: dict[str, float]  # steps of several users that ran together
    busy: float  # seconds of work over seconds of the run, all workers
    cores: float  # processor seconds of this process over seconds of the run


def script(questions: Sequence[np.ndarray], slot: float, seconds: float) -> np.ndarray:
    """A question at the beginning of every slot of ``slot`` seconds, in turn, then silence."""
    size = int(slot * SAMPLE_RATE)
    longest = max(q.size for q in questions)
    if longest > size:
        raise FoError(
            f"a question is {longest / SAMPLE_RATE:.1f} s long, a slot {slot:g} s",
            do="give a longer --slot",
        )
    count = max(1, int(seconds / slot))
    whole = np.zeros(count * size, np.float32)
    for number in range(count):
        question = questions[number % len(questions)]
        whole[number * size : number * size + question.size] = question
    return whole


def alone(model: FreezeOmni, dialogue: DialogueConfig, wave: np.ndarray, batch: int) -> list[Reply]:
    """What the replies have to be: one user, nothing else, no clock."""
    seconds = wave.size / SAMPLE_RATE + 1  # the whole script may wait
    cfg = PoolConfig(max_sessions=2, batch=batch, clock="sound", input_seconds=seconds)
    user = User(wave)
    with Pool(model, dialogue, cfg) as pool:
        user.talk = pool.open()
        user.talk.push(wave)
        while True:
            event = user.talk.get(timeout=0.2)
            if event is not None:
                user.see(event)
            elif not pool.working(user.talk):
                return user.answered


def run(
    model: FreezeOmni,
    dialogue: DialogueConfig,
    wave: np.ndarray,
    sessions: int,
    workers: int,
    batch: int,
    wanted: Sequence[Reply],
    stagger: float = 1.3,
    say: Callable[[str], None] = lambda text: None,
) -> Load:
    """Scripted users in real time.

    Args:
        model: Ready for talking.
        dialogue: How it talks.
        wave: Every user's script.
        sessions: How many users.
        workers: Threads of the pool.
        batch: Steps that run together.
        wanted: From :func:`alone`.
        stagger: Seconds between the beginnings of two users.
        say: Is told how it goes.
    """
    cfg = PoolConfig(workers=workers, max_sessions=max(sessions, 2), batch=batch)
    users = [User(wave) for _ in range(sessions)]
    memory: list[float] = []
    with Pool(model, dialogue, cfg) as pool:
        began, used = time.monotonic(), time.process_time()
        for number, user in enumerate(users):
            user.talk, user.start = _open(pool), began + number * stagger
        end = began + (sessions - 1) * stagger + wave.size / SAMPLE_RATE
        step = (end - began) / 10
        while any(_behind(user, len(wanted)) for user in users):
            now = time.monotonic()
            if now > end + TURN_SECONDS:
                break
            for user in users:
                _send(user, now)
            if now >= began + len(memory) * step:
                memory.append(_memory())
                say(f"{now - began:.0f} s, {sum(len(u.answered) for u in users)} replies")
            time.sleep(max(0.0, 0.01 - (time.monotonic() - now)))
        seconds, stats = time.monotonic() - began, pool.stats()
        used = time.process_time() - used
    how = dialogue.speculate.how
    return _report(users, wanted, seconds, used, memory, stats, how)


def _open(pool: Pool) -> Talk:
    try:
        return pool.open()
    except PoolFull as error:  # cannot be: there is a place for everyone
        raise AssertionError from error


def _behind(user: User, wanted: int) -> bool:
    return user.sent < user.script.size or len(user.answered) < wanted


def _send(user: User, now: float) -> None:
    """Send what is due, take what has come."""
    assert user.talk is not None
    while (now - user.start) * SAMPLE_RATE >= user.sent + BLOCK:
        block = user.script[user.sent : user.sent + BLOCK]
        user.sent += BLOCK
        try:  # after the script's end: silence
            user.talk.push(np.pad(block, (0, BLOCK - block.size)))
        except Overflow:
            user.faults["overflow"] += 1
    while (event := user.talk.get(timeout=0)) is not None:
        user.see(event)
        if isinstance(event, ev.Closed):
            break


def _memory() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Milliseconds: median, 95 %, longest."""
    if not values:
        return (0.0, 0.0, 0.0)
    found = 1000 * np.percentile(np.array(values), [50, 95, 100])
    return float(found[0]), float(found[1]), float(found[2])


def _report(
    users: list[User],
    wanted: Sequence[Reply],
    seconds: float,
    used: float,
    memory: list[float],
    stats: PoolStats,
    how: str,
) -> Load:
    replies = [reply for user in users for reply in user.answered]
    differing, other = map(sum, zip(*(user.against(wanted) for user in users), strict=True))
    faults: Counter[str] = sum((user.faults for user in users), Counter())
    return Load(
        sessions=len(users),
        seconds=seconds,
        replies=len(replies),
        speculate=how,
        after_decision=_spread([wait for user in users for wait in user.waits_decided()]),
        after_decision_begun=_spread(
            [wait for user in users for wait in user.waits_decided(speculated=True)]
        ),
        speculations=dict(stats.speculations),
        speculation_seconds={
            outcome: round(spent, 3) for outcome, spent in stats.speculation_seconds.items()
        },
        discarded_tokens=dict(stats.discarded_tokens),
        first_audio=_spread([wait for user in users for wait in user.waits()]),
        chunk_lag=_spread([lag for user in users for lag in user.lags]),
        differing=differing,
        other_history=other,
        out_of_order=sum(not reply.in_order for reply in replies),
        missing=len(wanted) * len(users) - len(replies),
        faults={code: count for code, count in faults.items() if count},
        memory_mib=[round(value, 1) for value in memory],
        mean_batch={
            kind: round(stats.steps[kind] / stats.batches[kind], 2) for kind in stats.batches
        },
        busy=sum(stats.seconds.values()) / seconds,
        cores=used / seconds,
    )
