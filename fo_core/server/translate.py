"""What happens in a talk, as the Realtime protocol's server events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

from fo_core.dialogue import events as ev
from fo_core.dialogue.recent import Recent
from fo_core.server.items import Conversation, Item
from fo_core.server.messages import new_id
from fo_core.server.responses import Event, Reply, Wanted, item_event
from fo_core.server.settings import SessionSettings
from fo_core.server.wire import SPEECH_RATE
from fo_core.streaming import SAMPLE_RATE

KEPT_TURNS = 64  # whose events may still come
KEPT_COMMANDS = 256  # commands of a client whose events may still come
CODES = {  # of the talk's errors, in the protocol's words
    "empty_commit": "input_audio_buffer_commit_empty",
    "no_such_call": "item_not_found",
    "no_reply": "response_cancel_not_active",
    "reply_active": "conversation_already_has_active_response",
    "no_such_turn": "item_not_found",
}


@dataclass
class Asked:
    """What a client's event asked for, until it is done or refused."""

    event_id: str | None = None  # the client's own
    wanted: Wanted | None = None  # a reply
    item: Item | None = None  # a user item whose turn is not known yet
    audio_end_ms: int = 0  # of a truncation
    delete: Item | None = None  # an item to delete


class Translator:
    """Turns of a talk to items and responses of a conversation.

    With ``semantic_vad`` a voice over the model's own may be a cough: ``speech_started``, at which
    clients stop playing, is held back until the state head has found a turn that wants an answer,
    or the voice has stopped the model for good.

    Args:
        settings: Gives the settings in force now.
        limits: Gives the client's ``rate_limits``.
        states: Also send the dialogue state of every chunk (an extension, for our own page).
        audio: Send the audio of replies as events; False: it goes another way.
    """

    def __init__(
        self,
        settings: Callable[[], SessionSettings],
        states: bool = False,
        limits: Callable[[], list[Event]] = list,
        audio: bool = True,
    ) -> None:
        self._settings, self._states, self._limits = settings, states, limits
        self._audio = audio
        self.id = new_id("conv")
        self.conversation = Conversation()
        self.reply: Reply | None = None  # while it is being made
        self.newest = ""  # id of the newest reply
        self.speaking = False  # a reply is being made or played
        self.asked: Recent[str, Asked] = Recent(KEPT_COMMANDS)  # by the id of the command
        self._ids: Recent[int, str] = Recent(KEPT_TURNS)  # turn -> id of its user item
        self._held: set[int] = set()  # turns whose start is not told yet
        self._open: set[int] = set()  # turns whose speech_started is out, speech_stopped not
        self._starts: Recent[int, int] = Recent(KEPT_TURNS)  # turn -> user sample
        self._cut: dict[int, ev.Interrupted] = {}
        self._ended_at = 0.0  # when the newest turn ended, s
        self._trouble = ""  # the model's last error

    def ask(self, asked: Asked) -> str:
        """Keep what a client's event asks for; the id for its command."""
        id = new_id("cmd")  # noqa: A001 the protocol's word
        self.asked[id] = asked
        return id

    def _asked(self, event: ev.DuplexEvent) -> Asked:
        """What was asked for by the command that caused an event."""
        return self.asked.get(event.cause or "") or Asked()

    def add(self, item: Item) -> Iterator[Event]:
        """Put an item into the conversation and say so."""
        self.conversation.add(item)
        yield item_event("added", item)

    def user(self, item: Item) -> Iterator[Event]:
        """A whole user message, or what a function gave back."""
        yield from self.add(item)
        yield item_event("done", item)

    def _user_id(self, turn: int) -> str:
        if turn not in self._ids:
            self._ids[turn] = new_id("item")
        return self._ids[turn]

    @singledispatchmethod
    def translate(self, event: ev.DuplexEvent) -> Iterator[Event]:
        """The protocol's events for one of the talk's, without their ids."""
        yield from ()

    @translate.register
    def _(self, event: ev.SpeechStarted) -> Iterator[Event]:
        self._starts[event.turn] = event.start
        now = self._settings()
        if now.detection is None:
            return
        by_state = now.turn.detect == "semantic" and now.turn.interrupt == "state"
        if self.speaking and (by_state or now.turn.interrupt == "yield"):
            self._held.add(event.turn)
        else:
            yield self._started(event.turn)

    def _started(self, turn: int) -> Event:
        self._open.add(turn)
        return {
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": self._starts[turn] * 1000 // SAMPLE_RATE,
            "item_id": self._user_id(turn),
        }

    def _stopped(self, turn: int, end: int) -> Iterator[Event]:
        if turn in self._open:
            self._open.discard(turn)
            yield {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": end * 1000 // SAMPLE_RATE,
                "item_id": self._user_id(turn),
            }

    @translate.register
    def _(self, event: ev.SpeechStopped) -> Iterator[Event]:
        if self._settings().detection is not None and self._settings().turn.detect == "server":
            yield from self._stopped(event.turn, event.end)

    @translate.register
    def _(self, event: ev.TurnEnded) -> Iterator[Event]:
        self._ended_at = event.time
        turn, held = event.turn, event.turn in self._held
        self._held.discard(turn)
        asked = self._asked(event)
        typed = asked.item
        if event.how == "text":
            if typed is not None:
                typed.turn = turn
            return
        if event.how in ev.DISMISSED:
            if typed is not None:
                yield self.deleted(typed)
                what = "nothing was heard in the audio"
                yield error(what, CODES["empty_commit"], "item.content", asked.event_id)
            elif turn in self._ids or event.cause:  # its start was told, or it was committed
                yield from self._stopped(turn, event.end)
                yield {"type": "input_audio_buffer.cleared"}
            return
        if held:
            yield self._started(turn)
        yield from self._stopped(turn, event.end)
        if typed is not None:  # audio that came as an item of its own
            typed.turn = turn
            return
        item = Item(self._user_id(turn), "user", turn)
        kind = "input_audio_buffer.committed"
        yield {"type": kind, "item_id": item.id, "previous_item_id": self.conversation.last}
        yield from self.user(item)

    @translate.register
    def _(self, event: ev.Transcript) -> Iterator[Event]:
        item = self.conversation.of(event.turn, "user")
        if item is None or not item.spoken:
            return
        item.text = event.text
        if self._settings().transcribe is None:
            return
        kind = "conversation.item.input_audio_transcription"
        at = {"item_id": item.id, "content_index": 0}
        if event.text:
            yield {"type": f"{kind}.delta", **at, "delta": event.text}
        seconds = (event.at - self._starts.get(event.turn, event.at)) / SAMPLE_RATE
        usage = {"type": "duration", "seconds": round(max(0.0, seconds), 3)}
        yield {"type": f"{kind}.completed", **at, "transcript": event.text, "usage": usage}

    @translate.register
    def _(self, event: ev.ReplyStarted) -> Iterator[Event]:
        now = self._settings()
        wanted = self._asked(event).wanted
        if wanted is None:
            wanted = Wanted(now.speak, now.max_tokens, tools=bool(now.tools.offered))
        self.speaking = True
        fmt = wanted.audio_out or now.audio_out
        into = None if wanted.apart else self.conversation
        self.reply = Reply(event.turn, wanted, fmt, into, self.id)
        self.newest = self.reply.id
        if event.speculated != "no":
            self.reply.metadata["speculated"] = event.speculated
        yield self.reply.created()
        limits = self._limits()
        if limits:
            yield {"type": "rate_limits.updated", "rate_limits": limits}
        yield from self.reply.opened()

    @translate.register
    def _(self, event: ev.TextDelta) -> Iterator[Event]:
        if self.reply is not None and event.text:
            yield from self.reply.text(event.text)

    @translate.register
    def _(self, event: ev.AudioDelta) -> Iterator[Event]:
        if self.reply is None or not self.reply.speak:
            return
        if "first_audio_ms" not in self.reply.metadata and event.time and self._ended_at:
            waited = 1000 * (event.time - self._ended_at)
            self.reply.metadata["first_audio_ms"] = f"{waited:.0f}"
        yield from self.reply.audio(event.audio, told=self._audio)

    @translate.register
    def _(self, event: ev.FunctionCall) -> Iterator[Event]:
        if self.reply is not None:
            yield from self.reply.call(event)

    @translate.register
    def _(self, event: ev.ReplyDone) -> Iterator[Event]:
        reply, self.reply = self.reply, None
        cut = self._cut.pop(event.turn, None)
        if event.status != "completed" or reply is None or not event.samples:
            self.speaking = False
        if reply is None:
            return
        details: Event | None = None
        if event.status == "cancelled":
            by_user = cut is not None and cut.reason == "turn_detected"
            details = {"reason": "turn_detected" if by_user else "client_cancelled"}
        elif event.status == "incomplete":
            details = {"reason": "max_output_tokens"}
        elif event.status == "failed":
            error = {"type": "server_error", "code": "model", "message": self._trouble}
            details = {"error": error}
        yield from reply.closed(event.status, details, event.usage)
        if cut is not None:
            yield from self._shortened(cut)

    @translate.register
    def _(self, event: ev.Interrupted) -> Iterator[Event]:
        self.speaking = False
        if event.reason == "turn_detected":  # by a long voice, whose turn goes on
            for turn in sorted(self._held):
                yield self._started(turn)
            self._held.clear()
        if self.reply is not None and self.reply.turn == event.turn:
            self._cut[event.turn] = event
        else:
            yield from self._shortened(event)

    @translate.register
    def _(self, event: ev.Yielded) -> Iterator[Event]:
        yield from self._playback(
            "yielded", event, by=event.by, audio_start_ms=event.onset * 1000 // SAMPLE_RATE
        )

    @translate.register
    def _(self, event: ev.Resumed) -> Iterator[Event]:
        yield from self._playback("resumed", event)

    def _playback(self, what: str, event: ev.Yielded | ev.Resumed, **more: Any) -> Iterator[Event]:
        """An extension, for clients that pause and duck when they are told to (or want to know)."""
        if not (self._audio or self._states):
            return  # the server plays, and has paused itself
        item = self.conversation.of(event.turn, "assistant")
        yield {
            "type": f"freeze_omni.playback_{what}",
            "item_id": None if item is None else item.id,
            "audio_end_ms": event.played * 1000 // SPEECH_RATE,
            **more,
        }

    def _shortened(self, cut: ev.Interrupted) -> Iterator[Event]:
        """The history holds what was played; the client may know better and truncate again."""
        item = self.conversation.of(cut.turn, "assistant")
        if item is None:
            return
        if "function_call" in {
            i.kind for i in self.conversation.items.values() if i.turn == cut.turn
        }:
            return  # the history keeps an answer that called functions whole
        item.text, item.status = cut.text, "incomplete"
        if item.spoken:
            yield self._truncated(item, cut.played * 1000 // SPEECH_RATE)

    def _truncated(self, item: Item, audio_end_ms: int) -> Event:
        at = {"item_id": item.id, "content_index": 0, "audio_end_ms": audio_end_ms}
        return {"type": "conversation.item.truncated", **at}

    @translate.register
    def _(self, event: ev.Truncated) -> Iterator[Event]:
        item = self.conversation.of(event.turn, "assistant")
        if item is not None:
            item.text = event.text
            yield self._truncated(item, self._asked(event).audio_end_ms)

    @translate.register
    def _(self, event: ev.Deleted) -> Iterator[Event]:
        item = self._asked(event).delete
        if item is not None:
            yield self.deleted(item)

    def deleted(self, item: Item) -> Event:
        """An item is gone."""
        self.conversation.items.pop(item.id, None)
        return {"type": "conversation.item.deleted", "item_id": item.id}

    @translate.register
    def _(self, event: ev.Played) -> Iterator[Event]:
        self.speaking = False
        yield from ()

    @translate.register
    def _(self, event: ev.Cleared) -> Iterator[Event]:
        self._open.clear()
        self._held.clear()
        yield {"type": "input_audio_buffer.cleared"}

    @translate.register
    def _(self, event: ev.IdleTimeout) -> Iterator[Event]:
        now = event.at * 1000 // SAMPLE_RATE
        yield {
            "type": "input_audio_buffer.timeout_triggered",
            "audio_start_ms": max(0, now - self._settings().turn.idle_ms),
            "audio_end_ms": now,
            "item_id": new_id("item"),
        }

    @translate.register
    def _(self, event: ev.ChunkState) -> Iterator[Event]:
        if not self._states:
            return
        names = ("continue", "respond", "dismiss")
        shares = dict(zip(names, (event.continue_, event.respond, event.dismiss), strict=True))
        yield {
            "type": "freeze_omni.dialogue_state",
            "audio_end_ms": event.at * 1000 // SAMPLE_RATE,
            "state": max(shares, key=shares.__getitem__),
            "probabilities": {name: round(value, 4) for name, value in shares.items()},
            "overlap": event.overlap,
        }

    @translate.register
    def _(self, event: ev.ContextDropped) -> Iterator[Event]:
        if self._states:
            yield {"type": "freeze_omni.context_dropped", "turns": event.turns}

    @translate.register
    def _(self, event: ev.Error) -> Iterator[Event]:
        code, asked = event.code, self._asked(event)
        if code == "model":
            self._trouble = event.message
        if asked.item is not None:  # it did not become a turn
            yield self.deleted(asked.item)
        if code == "nothing_to_answer" and asked.wanted is not None:
            # as a response of its own: an error event ends the connection of some clients
            reply = Reply(-1, asked.wanted, self._settings().audio_out, None, self.id)
            yield reply.created()
            wrong = {"type": "invalid_request_error", "code": code, "message": event.message}
            yield from reply.closed("failed", {"error": wrong}, ev.Usage())
            return
        server = code in ("model", "bad_call")
        yield error(event.message, CODES.get(code, code), event_id=asked.event_id, server=server)


def error(
    message: str,
    code: str,
    param: str | None = None,
    event_id: Any = None,
    server: bool = False,
) -> Event:
    """The protocol's error event."""
    known = event_id if isinstance(event_id, str) else None
    kind = "server_error" if server else "invalid_request_error"
    found: dict[str, Any] = {"type": kind, "code": code, "message": message, "param": param}
    return {"type": "error", "error": found | {"event_id": known}}
