"""One client of the Realtime protocol (OpenAI's names of its general availability).

What a client says becomes commands of its ``Talk``, what happens there becomes events; see
docs/serving.md for what is left out of the protocol. Over WebSocket the audio is in the events,
over WebRTC it has tracks of its own and only the events pass here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.server.beta import from_beta, to_beta
from fo_core.server.client import Client, ConnectionContext
from fo_core.server.items import Item
from fo_core.server.messages import Refused, new_id, read_event
from fo_core.server.responses import Event, Wanted
from fo_core.server.settings import MAX_TOKENS, short, speaks, tokens, wire_format
from fo_core.server.tools import read_tools
from fo_core.server.translate import Asked
from fo_core.server.voices import wanted_voice
from fo_core.server.wire import MAX_AUDIO, SPEECH_RATE, Resampler, WireFormat, from_base64
from fo_core.streaming import SAMPLE_RATE

ROUNDING_MS = 50  # by which a client may think that an answer is longer than it is


class Realtime(Client):
    """One connection.

    Args:
        context: Of the connection.
        beta: Send events by the names of the protocol's beta.
    """

    def __init__(self, context: ConnectionContext, beta: bool = False) -> None:
        super().__init__(context)
        self._beta = beta

    async def hello(self) -> None:
        """The first events of a connection, and the talk's first settings."""
        if self.settings.first is not None:
            self.talk.send(self.settings.changes(self.settings.first))
        session = self.settings.to_dict(self.id, self._expires_at)
        conversation = {"id": self._out.id, "object": "realtime.conversation"}
        await self._emit(
            [
                {"type": "session.created", "session": session},
                {"type": "conversation.created", "conversation": conversation},
            ]
        )

    async def report(self) -> None:
        """Send what became of the audio buffer, where the audio has a track of its own."""
        async with self._lock:
            await self._emit(() if self._media is None else self._media.changes())

    def _told(self, event: ev.DuplexEvent) -> Iterable[Event]:
        yield from self._out.translate(event)
        if self._media is not None:
            if isinstance(event, ev.ReplyStarted):
                self._media.responses[event.turn] = self._out.newest
            yield from self._media.changes()

    def _shown(self, event: Event) -> Event | None:
        told = to_beta(event) if self._beta else event
        return None if told is None else {"event_id": new_id("event"), **told}

    def _obey(self, data: dict[str, Any]) -> Iterable[Event]:
        if data["type"] == "session.update":
            return self._update(data)
        if isinstance(data.get("response"), dict):
            data = {**data, "response": from_beta(data["response"], "response")}
        event = read_event(data)
        return self._handlers[event.type](self, event)

    def _update(self, data: dict[str, Any]) -> Iterable[Event]:
        session = data.get("session")
        if not isinstance(session, dict):
            raise Refused("session is missing", "session", "missing_required_parameter")
        old = self.settings
        try:
            new = old.updated(session)
        except Refused as wrong:
            what = f"{wrong}; nothing of this update was applied"
            raise Refused(what, wrong.param, wrong.code) from wrong
        self.settings = new
        if self._media is None and new.audio_in != old.audio_in:
            self._resampler = Resampler(new.audio_in.rate, SAMPLE_RATE)
        self.talk.send(new.changes(old))
        yield {"type": "session.updated", "session": new.to_dict(self.id, self._expires_at)}

    def _append(self, event: Any) -> Iterable[Event]:
        if self._media is not None:
            what = "over WebRTC sound comes by the audio track"
            raise Refused(what, "type", "unsupported")
        wave = self.settings.audio_in.decode(from_base64(event.audio, MAX_AUDIO))
        if len(wave):
            self._push(self._resampler, wave)
        return ()

    def _commit(self, event: Any) -> Iterable[Event]:
        self._push_rest()
        # without turn detection the client asks for the response itself
        id = self._out.ask(Asked(event.event_id))  # noqa: A001 the protocol's word
        self.talk.send(do.Commit(self.settings.turn.answer, id=id))
        return ()

    def _clear(self, event: Any) -> Iterable[Event]:
        self._resampler.flush()
        self.talk.send(do.Clear())
        return ()

    def _create_item(self, event: Any) -> Iterable[Event]:
        asked = event.item
        last = self._out.conversation.last
        if event.previous_item_id not in (None, last or "root"):
            what = "items can only be put at the end of the conversation"
            raise Refused(what, "previous_item_id", "unsupported")
        if asked.type == "function_call_output":
            return self._create_result(asked, event.event_id)
        role = getattr(asked, "role", None)
        if asked.type != "message" or role not in ("user", "assistant"):
            what = f"no items of type {asked.type} and role {role} here"
            raise Refused(
                what + " (a system message is session.instructions)", "item", "unsupported"
            )
        id = self._out.conversation.fresh_id(asked.id)  # noqa: A001 the protocol's word
        kinds = [part.type for part in asked.content]
        if role == "user" and kinds == ["input_audio"]:
            return self._create_audio(id, asked.content[0].audio, event.event_id)
        wanted = "input_text" if role == "user" else "output_text"
        if not kinds or set(kinds) != {wanted}:
            raise Refused(f"content is {wanted}, or one input_audio of a user", "item.content")
        text = short(" ".join(part.text or "" for part in asked.content).strip(), "item.content")
        if not text:
            raise Refused("the message has no text", "item.content")
        item = Item(id, role, None, text, spoken=False)
        command = self._out.ask(Asked(event.event_id, item=item))
        if role == "user":
            self.talk.send(do.HearText(text, answer=False, id=command))
        else:
            self.talk.send(do.SayText(text, id=command))
        return self._out.user(item)

    def _create_result(self, asked: Any, event_id: str | None) -> Iterable[Event]:
        calls = self._out.conversation.items.values()
        if not any(i.kind == "function_call" and i.call_id == asked.call_id for i in calls):
            what = f"no function was called as {asked.call_id[:64]!r}"
            raise Refused(what, "item.call_id", "item_not_found")
        id = self._out.conversation.fresh_id(asked.id)  # noqa: A001 the protocol's word
        output = short(asked.output, "item.output")
        item = Item(id, "user", None, output, spoken=False, kind="function_call_output")
        item.call_id = asked.call_id
        command = self._out.ask(Asked(event_id, item=item))
        self.talk.send(do.HearResult(asked.call_id, output, id=command))
        return self._out.user(item)

    def _create_audio(
        self,
        id: str,  # noqa: A002 the protocol's word
        audio: str | None,
        event_id: str | None,
    ) -> Iterable[Event]:
        if self.settings.detection is not None:
            what = "an audio item needs turn_detection null; append to the input buffer instead"
            raise Refused(what, "item.content", "unsupported")
        fmt: WireFormat = self.settings.audio_in
        wave = fmt.decode(from_base64(audio or "", MAX_AUDIO))
        if not len(wave):
            raise Refused("the audio is empty", "item.content.0.audio")
        resampler = Resampler(fmt.rate, SAMPLE_RATE)
        self._push(resampler, wave)
        self.talk.push(resampler.flush(), checked=True)
        item = Item(id, "user")
        command = self._out.ask(Asked(event_id, item=item))
        self.talk.send(do.Commit(answer=False, id=command))
        return self._out.user(item)

    def _retrieve(self, event: Any) -> Iterable[Event]:
        item = self._out.conversation.get(event.item_id, "item_retrieve_invalid_item_id")
        yield {"type": "conversation.item.retrieved", "item": item.to_dict()}

    def _truncate(self, event: Any) -> Iterable[Event]:
        item = self._out.conversation.get(event.item_id, "item_truncate_invalid_item_id")
        if item.role != "assistant" or not item.spoken or item.turn is None:
            raise Refused("only spoken answers can be truncated", "item_id")
        if event.content_index != 0:
            raise Refused("an answer has one content part, 0", "content_index")
        if not 0 <= event.audio_end_ms <= item.milliseconds + ROUNDING_MS:
            what = f"the audio has {item.milliseconds} ms, {event.audio_end_ms} is beyond"
            raise Refused(what, "audio_end_ms")
        command = self._out.ask(Asked(event.event_id, audio_end_ms=event.audio_end_ms))
        samples = event.audio_end_ms * SPEECH_RATE // 1000
        self.talk.send(do.Truncate(item.turn, samples, id=command))
        return ()

    def _delete(self, event: Any) -> Iterable[Event]:
        item = self._out.conversation.get(event.item_id, "item_delete_invalid_item_id")
        if item.turn is None:
            raise Refused("this item cannot be deleted", "item_id", "unsupported")
        command = self._out.ask(Asked(event.event_id, delete=item))
        self.talk.send(do.Delete(item.turn, item.role, id=command))
        return ()

    def _respond(self, event: Any) -> Iterable[Event]:
        now = self.settings
        if now.kind == "transcription":
            what = "a transcription session answers nothing"
            raise Refused(what, "response", "unsupported")
        wanted = Wanted(now.speak, now.max_tokens)
        system = tools = messages = voice = None
        asked = event.response
        if asked is not None:
            for name in ("prompt", "reasoning"):
                if getattr(asked, name) is not None:
                    what = f"this server has no {name}"
                    raise Refused(what, f"response.{name}", "unsupported")
            if asked.conversation not in (None, "auto", "none"):
                raise Refused("conversation is auto or none", "response.conversation")
            wanted.apart = asked.conversation == "none"
            if asked.input is not None:
                messages = self._messages(asked.input)
                if not wanted.apart:
                    what = "input is for a response of no conversation (conversation: none)"
                    raise Refused(what, "response.input", "unsupported")
            if asked.output_modalities is not None:
                wanted.speak = speaks(asked.output_modalities, "response.output_modalities")
            if asked.max_output_tokens is not None:
                where = "response.max_output_tokens"
                wanted.max_tokens = tokens(asked.max_output_tokens, where)
            if asked.instructions is not None:
                system = short(asked.instructions, "response.instructions")
            fmt = asked.audio and asked.audio.output and asked.audio.output.format
            if fmt is not None:
                where = "response.audio.output.format"
                wanted.audio_out = wire_format(fmt.to_dict(), where)
            given = asked.to_dict()
            named = ((given.get("audio") or {}).get("output") or {}).get("voice")
            where = "response.audio.output.voice"
            voice = wanted_voice(named, now.voices, now.voice, now.heard, where)
            if {"tools", "tool_choice", "parallel_tool_calls"} & set(given):
                tools = read_tools(given, now.tools, "response")
            wanted.metadata = dict(asked.metadata or {})
        wanted.tools = bool((tools or now.tools).offered)
        command = self._out.ask(Asked(event.event_id, wanted=wanted))
        if voice not in (None, now.voice):  # a session has one voice: this is it from now on
            now.voice = voice
            self.talk.send(do.Configure(voice=voice))
        limit, apart = wanted.max_tokens or MAX_TOKENS, wanted.apart
        self.talk.send(
            do.Respond(wanted.speak, limit, system, tools, apart, messages, voice, id=command)
        )
        return ()

    def _messages(self, items: list[Any]) -> list[tuple[Literal["user", "assistant"], str]]:
        """The messages that a response is to answer in place of the conversation."""
        found: list[tuple[Literal["user", "assistant"], str]] = []
        for number, item in enumerate(items):
            where = f"response.input.{number}"
            role, parts = getattr(item, "role", None), getattr(item, "content", None) or []
            texts = [part.text for part in parts if part.type in ("input_text", "output_text")]
            if role not in ("user", "assistant") or len(texts) < len(parts) or not any(texts):
                raise Refused("typed messages of user and assistant only", where, "unsupported")
            found.append((role, short(" ".join(filter(None, texts)).strip(), where)))
        return found

    def _cancel(self, event: Any) -> Iterable[Event]:
        reply = self._out.reply
        if event.response_id is not None and (reply is None or reply.id != event.response_id):
            what = f"response {event.response_id[:64]!r} is not being made"
            raise Refused(what, "response_id", "response_cancel_not_active")
        self.talk.send(do.Interrupt(id=self._out.ask(Asked(event.event_id))))
        return ()

    def _silence(self, event: Any) -> Iterable[Event]:
        if self._out.speaking:
            self.talk.send(do.Interrupt())
        if self._media is None or not self._media.cut():  # which it tells itself
            yield {"type": "output_audio_buffer.cleared", "response_id": self._out.newest}

    _handlers: dict[str, Callable[[Realtime, Any], Iterable[Event]]] = {
        "input_audio_buffer.append": _append,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
        "output_audio_buffer.clear": _silence,
        "conversation.item.create": _create_item,
        "conversation.item.retrieve": _retrieve,
        "conversation.item.truncate": _truncate,
        "conversation.item.delete": _delete,
        "response.create": _respond,
        "response.cancel": _cancel,
    }
