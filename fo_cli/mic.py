"""``fo chat mic``: talk to a model, interrupt it, see what it does and how quick it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fo_cli import options, render
from fo_core.errors import FoError

if TYPE_CHECKING:
    import numpy as np

    from fo_core.devices.echo import EchoCanceller
    from fo_core.dialogue.drivers.live import Live, LiveTurn

BLOCK = 320  # samples at 16 kHz: 20 ms
TAIL_SECONDS = 30.0  # longest wait for the answer after the end of a file
BARS = " ▁▂▃▄▅▆▇█"
RECORDED = ("user.wav", "bot.wav", "talk.json")  # both sides and a log


def mic(
    model: options.Model = options.DEFAULT_MODEL,
    recording: Annotated[
        Path | None,
        typer.Option("--input", help="Sound file instead of the microphone.", metavar="FILE"),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read the file as fast as possible, not in real time.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Microphone: number or name; 'list' shows all devices."),
    ] = None,
    loudspeaker: Annotated[
        str | None, typer.Option("--output-device", help="Loudspeaker: number or name.")
    ] = None,
    headphones: Annotated[
        bool, typer.Option("--headphones", help="No echo to cancel: you wear headphones.")
    ] = False,
    channel: options.Channel = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record", help="Write both sides and a log of the talk (talk.json).", metavar="DIR"
        ),
    ] = None,
    interrupt: Annotated[
        Literal["yield", "state", "voice", "never"] | None,
        typer.Option(
            help="What your voice does while the bot speaks: yield: it pauses, and continues "
            "unless you wanted an answer; state: only a finished question stops it; voice: "
            "any voice stops it for good; never: nothing."
        ),
    ] = None,
    detect: Annotated[
        Literal["semantic", "server"] | None,
        typer.Option(help="What ends your turn: the model's state head, or silence."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="System prompt instead of the model's own.")
    ] = None,
    voice: options.Voice = None,
    sets: options.Sets = None,
    weights: options.Weights = "auto",
    model_device: Annotated[
        str, typer.Option("--model-device", help="Where the model runs: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    json: options.Json = False,
) -> None:
    """Talk with a model: speak, listen to the answer, interrupt. Ctrl-C ends the talk.

    Shows your level, the state of the dialogue, the answer's text as it is spoken, and for every
    turn the time from the end of your voice to the first sound of the answer. --set overrides how
    the model talks (dialogue.json of its folder).
    """
    if device == "list":
        _list_devices(json)
        return
    if fast and recording is None:
        raise FoError("--fast needs a file", do="give --input FILE")
    if recording is not None:
        options.existing_file(recording, "recording")
    if record is not None:
        for name in RECORDED:
            options.writable(record / name, "recording", read=[recording] if recording else ())
    given = _turn(interrupt, detect, sets or [])
    model = options.model_folder(model)
    who = system, options.voice_of(model, voice)
    with _Talking(model, recording, channel, fast, who, given, weights, model_device) as talking:
        if recording is not None:
            talking.read(recording, record, fast, json)
            options.say_channels(recording, channel)
        else:
            talking.listen(device, loudspeaker, headphones, record, json)
    _summary(talking, record, json)


def _turn(interrupt: str | None, detect: str | None, sets: list[str]) -> list[str]:
    """--set items of the options that have a name of their own."""
    found = [f"duplex.turn.interrupt={interrupt}"] if interrupt else []
    return [*sets, *found, *([f"duplex.turn.detect={detect}"] if detect else [])]


def _list_devices(json: bool) -> None:
    from fo_core.devices.sound_card import devices

    rows = devices()
    if json:
        keys = ("number", "name", "inputs", "outputs")
        render.as_json([dict(zip(keys, row, strict=True)) for row in rows])
    elif rows:
        render.table(("number", "name", "inputs", "outputs"), [[str(c) for c in r] for r in rows])
    else:
        render.note("no sound device was found")


class _Talking:
    """One talk in a pool of one, from a microphone or a file."""

    def __init__(
        self,
        folder: Path,
        recording: Path | None,
        channel: int | None,
        fast: bool,
        who: tuple[str | None, str | None],  # system text and voice
        sets: list[str],
        weights: str,
        device: str,
    ) -> None:
        from fo_core.dialogue.drivers.live import Live
        from fo_core.dialogue.sessions.pool import Pool, PoolConfig
        from fo_core.dialogue.settings import read_dialogue
        from fo_core.io import audio

        dialogue = read_dialogue(folder, sets)
        self.wave = (
            None if recording is None else audio.read(recording, 16000, 3600.0, channel=channel)
        )
        model = options.ready_model(folder, dialogue, weights, device)
        clock: Literal["wall", "sound"] = "sound" if fast else "wall"
        self.pool = Pool(model, dialogue, PoolConfig(max_sessions=1, clock=clock))
        self.talk = self.pool.open(*who)
        self.live: Live = Live(self.talk, self.pool.sample_rate)
        self.errors: list[str] = []

    def __enter__(self) -> _Talking:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def read(self, recording: Path, record: Path | None, fast: bool, json: bool) -> None:
        """Talk with a file: its sound is heard, then silence until all is answered."""
        import numpy as np

        assert self.wave is not None
        self._drain()  # the system text is read
        began, step = time.monotonic(), BLOCK / 16000
        self.live.clock = BLOCK  # what is played with a block sounds when it is over
        with _recorder(record, self.pool.sample_rate) as keep, _Screen(self.live, json) as screen:
            for number in range(int((self.wave.size / 16000 + TAIL_SECONDS) / step)):
                block = self.wave[number * BLOCK : (number + 1) * BLOCK]
                if not block.size and self._quiet():
                    break
                block = np.pad(block, (0, BLOCK - block.size))
                self.talk.push(block)
                if fast:
                    self._drain()
                else:
                    time.sleep(max(0.0, began + (number + 1) * step - time.monotonic()))
                self._see()
                played = self.live.play(round(step * self.pool.sample_rate))
                keep(block, played)
                screen.show(block)

    def listen(
        self,
        device: str | None,
        loudspeaker: str | None,
        headphones: bool,
        record: Path | None,
        json: bool,
    ) -> None:
        """Talk with a microphone until Ctrl-C."""
        import queue

        from fo_core.devices.echo import EchoCanceller
        from fo_core.devices.sound_card import SoundCard

        rate = self.pool.sample_rate
        echo: EchoCanceller | None = None if headphones else EchoCanceller(rate)
        heard: list[np.ndarray] = []  # what was played since the last block, for the recording

        def play(count: int) -> np.ndarray:
            block = self.live.play(count)
            if echo is not None:
                echo.played(block)
            heard.append(block)
            return block

        card = SoundCard(play, rate, _device(device), _device(loudspeaker))
        self._drain()  # the system text is read
        render.note("speak; Ctrl-C ends the talk")
        with contextlib.suppress(KeyboardInterrupt), card:
            with _recorder(record, rate) as keep, _Screen(self.live, json) as screen:
                while self.talk.closed is None:
                    with contextlib.suppress(queue.Empty):
                        block = card.blocks.get(timeout=0.1)
                        block = echo.clean(block) if echo is not None else block
                        self.talk.push(block)
                        while heard:
                            keep(None, heard.pop(0))
                        keep(block, None)
                        screen.show(block)
                    self._see()
        if card.lost:
            self.errors.append(f"the sound card dropped something {card.lost} times")

    def _see(self) -> None:
        """Take what happened."""
        from fo_core.dialogue import events as ev

        while (event := self.talk.get(timeout=0)) is not None:
            self.live.see(event)
            if isinstance(event, ev.Error):
                self.errors.append(event.message)
            if isinstance(event, ev.Closed):
                if event.reason != "client":
                    raise FoError(f"the talk ended: {event.reason} {' '.join(self.errors)}")
                return

    def _drain(self) -> None:
        """Wait until there is nothing to do."""
        while self.pool.working(self.talk):
            time.sleep(0.0005)

    def _quiet(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.live.state == "idle" and not self.live.playing


def _device(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.isdigit() else name


@contextlib.contextmanager
def _recorder(folder: Path | None, rate: int) -> Iterator[Any]:
    """Gives a function that keeps a block of the user and a block of the bot."""
    if folder is None:
        yield lambda user, bot: None
        return
    import soundfile

    from fo_core.io.audio import to_int16

    folder.mkdir(parents=True, exist_ok=True)
    with (
        soundfile.SoundFile(folder / RECORDED[0], "w", 16000, 1, "PCM_16") as ours,
        soundfile.SoundFile(folder / RECORDED[1], "w", rate, 1, "PCM_16") as theirs,
    ):

        def keep(user: np.ndarray | None, bot: np.ndarray | None) -> None:
            if user is not None:
                ours.write(to_int16(user))
            if bot is not None:
                theirs.write(to_int16(bot))

        yield keep


class _Screen:
    """A line with level and state on a terminal; text and latencies as they come, everywhere."""

    def __init__(self, live: Live, json: bool) -> None:
        self._live, self._json = live, json
        self._view: Any = None
        self._told: set[int] = set()
        self._stopped: set[int] = set()

    def __enter__(self) -> _Screen:
        if render.is_terminal() and not self._json:
            from rich.console import Console
            from rich.live import Live as View

            self._view = View(console=Console(stderr=True), refresh_per_second=12)
            self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._view is not None:
            self._view.stop()
        self._tell()

    def show(self, block: np.ndarray) -> None:
        """A block of the user was heard."""
        self._tell()
        if self._view is not None:
            level = float((block**2).mean()) ** 0.5 if block.size else 0.0
            bars = min(int(level * 40), 8)
            state = "paused" if self._live.yielded == "pause" else self._live.state
            line = f"{BARS[bars] * 3} {state:9}"
            done = [turn for turn in self._live.turns if turn.first_audio is not None]
            if done:
                line += f"  first audio {done[-1].latencies()['response_ms']:.0f} ms"
            self._view.update(line)

    def _tell(self) -> None:
        if self._json:
            self._live.spoken.clear()
            return
        for turn in self._live.turns:
            if turn.number not in self._told:
                self._told.add(turn.number)
                render.result(f"you: {turn.question or '(no words)'}")
        while self._live.spoken:
            render.result(f"bot: {self._live.spoken.popleft().strip()}")
        for turn in self._live.turns:
            if turn.heard is not None and turn.number not in self._stopped:
                self._stopped.add(turn.number)
                render.result(f"     (interrupted; heard: {turn.heard.strip()!r})")


def _rows(turns: list[LiveTurn]) -> list[dict[str, Any]]:
    return [
        {
            "turn": turn.number,
            "ended_by": turn.how,
            "question": turn.question,
            "answer": turn.answer,
            "kept": turn.answer if turn.heard is None else turn.heard,
            "interrupted": turn.heard is not None,
            "gave_way": len(turn.gave_way),
            "resumed": sum(way.resumed is not None for way in turn.gave_way),
            "speculated": turn.speculated,
            "played_samples": turn.played,
            "made_samples": turn.made,
            **turn.latencies(),
        }
        for turn in turns
    ]


def _summary(talking: _Talking, record: Path | None, json: bool) -> None:
    from fo_core.io.files import write_json

    live = talking.live
    found = {"turns": _rows(live.turns), "dismissed": live.dismissed, "errors": talking.errors}
    if record is not None:
        write_json(record / RECORDED[2], found)
    if json:
        render.as_json(found)
        return
    for message in talking.errors:
        render.note(f"error: {message}")
    head = ("turn", "decision", "first audio", "total", "gave way", "stop", "stop after decision")
    keys = (
        *("decision_ms", "first_audio_ms", "response_ms"),
        *("give_way_ms", "stop_ms", "stop_after_decision_ms"),
    )
    if live.turns:
        cells = [
            [str(row["turn"]), *("" if row[k] is None else f"{row[k]:.0f} ms" for k in keys)]
            for row in _rows(live.turns)
        ]
        render.table(head, cells)
    render.note(f"{len(live.turns)} answered, {live.dismissed} needed no answer")
