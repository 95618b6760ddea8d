"""A reply that is begun in the user's pause and held back until the turn is known to be over.

When state 1 becomes likely in a pause, long before its probability decides the turn, the answer is
begun on a branch of the conversation: question read to its end, first piece of text, first piece of
audio. It is the reply job that would run after the decision, begun earlier. If the turn ends and
nothing more was heard in it, the branch becomes the conversation and what was made is let go; a
voice, a command or another question drops it, and it leaves no trace. Hearing comes first, a reply
that is being heard second, this last: it takes the time in which nobody waits for the model.

An adapter that hands on words gives nothing for silence: what the branch has read is then, to the
bit, what the question is at the decision, and so is all that follows. One that gives vectors for
silence has heard more of it by then: such a reply is begun if ``speculate.how`` is "any", and
marked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import WINDOW_MS
from fo_core.dialogue.conversation import Conversation
from fo_core.dialogue.reply import ReplyJob
from fo_core.dialogue.settings import SpeculateConfig
from fo_core.dialogue.states import StateProbabilities
from fo_core.dialogue.task_scheduler import Task, TaskScheduler
from fo_core.dialogue.turn_taking import TurnTaking
from fo_core.models.llm.state import LLMState
from fo_core.models.steps import Steps

log = logging.getLogger(__name__)
QUIET_SHARE = 0.4  # of the silence that ends a turn by itself, after which a reply is begun


@dataclass
class _Trial:
    """A reply on its way that nobody waits for."""

    source: Conversation  # that the user goes on talking to
    state: LLMState  # its own: another one if the history was read again
    job: ReplyJob
    task: Task
    status: ev.Status | None = None  # how the reply ended, if it is made whole
    committed: bool = False


class Speculation:
    """Begins the replies of one dialogue before they are asked for.

    Args:
        tasks: Runs them when there is nothing else to do.
        turns: Who speaks, and how turns end.
        emit: Takes what happens.
        make: Makes the reply job of a conversation with its output held back, and no more LLM
            tokens than a number before it is released.
        end: Is told how a reply ended that was let go.
    """

    def __init__(
        self,
        tasks: TaskScheduler,
        turns: TurnTaking,
        emit: Callable[[ev.DuplexEvent], None],
        make: Callable[[Conversation, int], ReplyJob],
        end: Callable[[ev.Status], None],
    ) -> None:
        self._tasks, self._turns, self._emit = tasks, turns, emit
        self._make, self._end = make, end
        self._trial: _Trial | None = None
        self._begun: tuple[int, int] = (-1, 0)  # newest turn, and how often its reply was begun

    def heard(
        self, cfg: SpeculateConfig, active: Conversation, voiced: bool, p: StateProbabilities
    ) -> None:
        """A chunk of the user's turn was heard.

        Args:
            cfg: When and how often a reply is begun.
            active: Who heard it.
            voiced: The chunk holds voice.
            p: What the state head says of it.
        """
        tasks, turn = self._tasks, active.turns[-1].number
        if voiced:
            self.drop("voice")
        if tasks.eager or tasks.spare is not None or self._trial is not None:
            return
        if self._begun == (turn, cfg.per_turn) or not self._may_end(cfg, p):
            return
        possible = cfg.how == "any" or (cfg.how == "exact" and active.skips_silence)
        if possible and not active.crowded and active.was_heard():
            tasks.start_spare(self._steps(active, cfg.max_tokens), self._due)

    def _may_end(self, cfg: SpeculateConfig, p: StateProbabilities) -> bool:
        """Whether this is a pause that may be the turn's end."""
        taking, quiet = self._turns.cfg, self._turns.audio.voice.quiet
        if taking.detect == "server":
            return quiet * WINDOW_MS >= QUIET_SHARE * taking.silence_ms
        return taking.detect == "semantic" and quiet > 0 and p.respond > cfg.threshold

    def _due(self) -> bool:
        """Whether a reply that was begun, or is to be, has something to do."""
        return self._trial is None or not self._trial.job.enough

    def _steps(self, source: Conversation, tokens: int) -> Steps[None]:
        task = self._tasks.spare
        assert task is not None, "it runs as the spare task"
        twin = source.fork()
        twin.turns[-1].open = False
        self._trial = trial = _Trial(source, source.cache, self._make(twin, tokens), task)
        del source  # of no use once the reply is let go
        number = trial.job.number
        count = self._begun[1] if self._begun[0] == number else 0
        self._begun = number, count + 1
        self._emit(ev.SpeculationBegun(number))
        trial.status = yield from trial.job.steps()
        if trial.committed:
            self._end(trial.status)

    def commit(self, active: Conversation) -> ReplyJob | None:
        """The reply to a turn that has just ended, if what was begun is what is asked for."""
        trial = self._trial
        if trial is None:
            return None
        exact, twin = active.skips_silence, trial.job.conversation
        same = active is trial.source and active.cache is trial.state and _alike(active, twin)
        if not same or (exact and not _end_alike(active, twin)):
            return None
        self._tell(trial, "committed", "turn_ended")
        trial.committed = True
        _catch_up(twin, active)
        trial.job.speculated = "exact" if exact else "early"
        return trial.job

    def hand_over(self) -> None:
        """The user may hear the reply of :meth:`commit`, which goes on."""
        trial, self._trial = self._trial, None
        assert trial is not None and trial.committed, "there is a reply to hand over"
        self._tasks.promote_spare()
        trial.source = trial.job.conversation
        trial.job.release()
        if trial.status is not None:
            self._end(trial.status)

    def failed(self, error: Exception) -> None:
        """A step of it failed; if the reply is asked for, that says so itself."""
        log.warning("a reply that was begun in a pause failed: %s", error)
        self.drop("failed")

    def drop(self, why: ev.Why) -> None:
        """Give up what was begun, if anything was."""
        trial, self._trial = self._trial, None
        self._tasks.cancel_spare()
        if trial is not None:
            self._tell(trial, "dropped", why)

    def _tell(self, trial: _Trial, outcome: ev.Outcome, why: ev.Why) -> None:
        made = trial.job.usage()
        counts = made.output_text, made.output_audio, 1000 * trial.task.seconds
        self._emit(ev.SpeculationEnded(trial.job.number, outcome, why, *counts))


def _alike(one: Conversation, other: Conversation) -> bool:
    """Whether two conversations are answered under the same terms."""
    return (one.parts, one.tools, one.voice) == (other.parts, other.tools, other.voice)


def _end_alike(active: Conversation, twin: Conversation) -> bool:
    """Whether a fork that has read the newest turn's end has read what would be read now."""
    mine, its = active.turns[-1], twin.turns[-1]
    if mine.last_voice != its.last_voice:
        return False
    heard = [*mine.heard, active.listener.partial()]
    return torch.equal(torch.cat(heard, dim=1), torch.cat(its.heard, dim=1))


def _catch_up(twin: Conversation, active: Conversation) -> None:
    """Let a fork know what was heard of the newest turn since: silence."""
    mine, its = twin.turns[-1], active.turns[-1]
    mine.chunks, mine.voiced, mine.classes = its.chunks, its.voiced, its.classes
    twin.listener = active.listener
    twin.listener.flush()
