"""Cuts the LLM's growing answer into pieces to speak, token by token.

A piece ends at sentence punctuation; the first one may also end at a comma, so that the voice
starts sooner (paper, section 2.3.2). Every piece knows which generated tokens it covers: their
hidden states are the prefix of the speech decoder. Where the decoder can read a sentence by chunks,
a piece is handed out in chunks of a few tokens: the first ones small, so that the voice starts
after a few words, each later one larger, so that what is spoken lasts while the next is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from fo_core.config import check_ranges, config
from fo_core.sampling import Compat
from fo_core.text import has_words, speakable
from fo_core.text_chunks import may_cut, open_text

_UNKNOWN = "\ufffd"  # what an incomplete or invalid UTF-8 sequence decodes to
_CLOSERS = " \t\"'”’»)]}*_"  # may follow the punctuation that ends a sentence
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e"})


class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    def decode(self, token_ids: list[int], /, skip_special_tokens: bool = ...) -> str: ...
    def encode(self, text: str, /, add_special_tokens: bool = ...) -> list[int]: ...


@config
class SegmenterConfig:
    """Where a piece of the answer may end. The defaults are ours."""

    stops: str = "。：？！.?!\n"  # characters that end a piece
    early_stops: str = ",，:"  # ... only in the first piece, or in one of >= early_after tokens
    early_after: int = 20  # generated tokens
    min_tokens: int = 4  # a piece has at least so many generated tokens (the last may be shorter)
    max_piece: int = 80  # from so many tokens on any blank ends a piece; 0 = no limit
    max_tokens: int = 500  # generated tokens after which the answer counts as full
    careful: bool = True  # "3.14", "1,000", "Dr.", closing quotes; no piece without words
    # generated tokens of an answer's first chunk, which is spoken before its sentence ends; 0 =
    # whole pieces (a speech decoder of type attention has to have learned it: stage.chunks)
    chunk: int = 0
    chunk_growth: float = 2.0  # tokens of a chunk over those of the chunk before it
    chunk_ahead: int = 1  # tokens behind a chunk that are written before it is spoken
    join_first: bool = False  # the first token is looked at together with the second
    # half a UTF-8 character: hold it back until it is complete or cannot be completed any more |
    # hand out U+FFFD at once | as "resolve", but an invalid one ends the answer's text
    incomplete: Literal["resolve", "emit", "wait"] = "resolve"
    compat: Compat = "none"  # clean-up of the text, see fo_core.text

    def __post_init__(self) -> None:
        some = ("early_after", "min_tokens", "max_piece", "chunk")
        check_ranges(self, "segmenter", **dict.fromkeys(some, (0, None)))
        more = ("max_tokens", "chunk_ahead", "chunk_growth")
        check_ranges(self, "segmenter", **dict.fromkeys(more, (1, None)))


# What the published engine does with a file, and in its server.
OFFICIAL_OFFLINE = SegmenterConfig(
    early_stops="", min_tokens=1, max_piece=0, max_tokens=129, careful=False, join_first=True,
    incomplete="emit", compat="official",
)  # fmt: skip
OFFICIAL_SERVER = SegmenterConfig(
    max_piece=0, max_tokens=501, careful=False, incomplete="wait", compat="official"
)


@dataclass(frozen=True)
class Segment:
    """One piece of the answer, or one chunk of a piece."""

    text_raw: str  # as the LLM wrote it
    text: str  # as it is spoken
    token_ids: list[int]  # `text` tokenised anew: the speech decoder's text input
    start: int  # first generated token, and hidden state, of the piece
    stop: int  # one past the last
    joined: bool = False  # it goes on with the piece of the segment before
    more: bool = False  # the piece goes on with the next segment
    ahead: str = ""  # text behind it that is written already, where there is more

    def extended(self, other: Segment) -> Segment:
        """This segment and the one that goes on with its piece, as one."""
        return dataclasses.replace(
            other,
            text_raw=self.text_raw + other.text_raw,
            text=self.text + other.text,
            token_ids=self.token_ids + other.token_ids,
            start=self.start,
            joined=self.joined,
        )


class Detokenizer:
    """Text of a growing list of tokens, decoding only a short tail of it at each step."""

    CONTEXT = 4  # tokens kept in front, for tokenizers whose pieces depend on the one before
    LIMIT = 16  # tokens in the tail before it is shortened by force

    def __init__(self, decode: Callable[[list[int]], str], incomplete: str = "resolve") -> None:
        self._decode, self._incomplete = decode, incomplete
        self._tail: list[int] = []
        self._shown = 0  # characters of the tail's text that were handed out
        self._stuck = False

    def push(self, token: int) -> str:
        """The text that this token adds; empty while a character is incomplete."""
        if self._stuck:
            return ""
        self._tail.append(token)
        text = self._decode(self._tail)
        new = text[self._shown :]
        if self._incomplete == "wait" and _UNKNOWN in new:
            self._stuck = _UNKNOWN in new[:-1]  # not a character being completed: never resolves
            return ""
        if self._incomplete == "resolve" and new.endswith(_UNKNOWN):
            new = new[:-1]  # the last character may still be completed, those before it not
        self._shown += len(new)
        self._shorten(text)
        return new

    def flush(self) -> str:
        """What was held back."""
        if self._incomplete != "resolve":
            return ""
        text = self._decode(self._tail)
        new, self._shown = text[self._shown :], max(self._shown, len(text))
        return new

    def _shorten(self, text: str) -> None:
        """Forget tokens whose text is out, where that changes nothing for what follows."""
        if text.endswith(_UNKNOWN) and len(self._tail) < self.LIMIT:
            return
        keep = self._tail[-self.CONTEXT :]
        short = self._decode(keep)
        if not text.endswith(_UNKNOWN) or text.endswith(short):
            self._shown = len(short) - (len(text) - self._shown)
            self._tail = keep


class Segmenter:
    """Streaming segmenter: push generated tokens (without the end-of-turn), then finish.

    Args:
        tokenizer: The LLM's.
        cfg: Rules.
        clean: Text as the LLM wrote it → as it is spoken; default :func:`fo_core.text.speakable`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        cfg: SegmenterConfig | None = None,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        self.cfg = cfg = cfg or SegmenterConfig()
        self._tokenizer = tokenizer
        self._clean = clean or (lambda text: speakable(text, cfg.compat))
        self._detokenizer = Detokenizer(
            lambda ids: tokenizer.decode(ids, skip_special_tokens=True), cfg.incomplete
        )
        self._piece = ""  # text of the open piece
        self._joined = ""  # join_first: text of the first token until the second comes
        self._before = ""  # last character before the newest text
        self._start = 0
        self._sentence = 0  # first token of the open piece, of which chunks may be out
        self._cuts: list[tuple[int, int]] = []  # chunks may end after so many tokens, characters
        self._spoken = 0  # segments handed out
        self._undecided = False  # the open piece ends here if a blank follows
        self.count = 0  # tokens pushed
        self.text = ""  # all text so far

    def fresh(self) -> Segmenter:
        """Another one of the same kind, for an answer that begins anew."""
        return Segmenter(self._tokenizer, self.cfg, self._clean)

    @property
    def full(self) -> bool:
        """Whether the answer has reached its greatest length and generation has to stop."""
        return self.count >= self.cfg.max_tokens

    def push(self, token_id: int) -> list[Segment]:
        """Take one generated token; returns the pieces that it completes (0, 1, rarely 2)."""
        self.count += 1
        new = self._detokenizer.push(token_id)
        if self.cfg.join_first and self.count == 1:
            self._joined = new
            return []
        new, self._joined = self._joined + new, ""
        if not new:
            return []
        done: list[Segment] = []
        if self._undecided and new[0].isspace() and self._long_enough(self.count - 1):
            done += self._cut(self.count - 1)
        self._undecided = False
        before, self._before = self._before, new[-1]
        if self.cfg.chunk and may_cut(self._piece, new):
            self._cuts.append((self.count - 1, len(self._piece)))
        self._piece += new
        self.text += new
        if self._ends(new, before):
            return done + self._cut(self.count)
        return done + self._chunk()

    def finish(self) -> list[Segment]:
        """The rest of the answer."""
        return self.cut()

    def cut(self) -> list[Segment]:
        """End the open piece here, whatever it ends with."""
        rest = self._joined + self._detokenizer.flush()
        self._piece += rest
        self.text += rest
        self._joined = ""
        return self._cut(self.count)

    def skip(self, count: int) -> list[Segment]:
        """Count tokens that are not spoken; the open piece, if there is one, ends before them."""
        found = self.cut()
        self.count += count
        self._start = self._sentence = self.count
        self._piece = ""
        return found

    def run(self, token_ids: Iterable[int]) -> list[Segment]:
        """All pieces of a finished answer, from a fresh segmenter."""
        return [s for token in token_ids for s in self.push(token)] + self.finish()

    def _long_enough(self, stop: int) -> bool:
        enough = stop - self._sentence >= self.cfg.min_tokens
        return enough and (not self.cfg.careful or has_words(self._piece))

    def _ends(self, new: str, before: str) -> bool:
        """Whether the open piece ends with its newest text ``new``."""
        cfg, size = self.cfg, self.count - self._sentence
        early = (not self._spoken and not cfg.chunk) or size >= cfg.early_after
        stops = cfg.stops + (cfg.early_stops if early else "")
        if not cfg.careful:
            number = new.endswith(".") and before.isdigit()
            return new[-1] in stops and not number and self._long_enough(self.count)
        self._undecided = bool(cfg.max_piece) and size >= cfg.max_piece
        body = self._piece.rstrip(_CLOSERS)
        if not body or len(self._piece) - len(body) >= len(new) or body[-1] not in stops:
            return False
        last, word = body[-1], body[:-1]
        if last in ".,:" and word[-1:].isdigit() and len(body) == len(self._piece):
            self._undecided = True  # 3.14, 1,000, 10:30 or the end: the next token tells
            return False
        if last == "." and _is_title(word):
            return False
        return self._long_enough(self.count)

    def _chunk(self) -> list[Segment]:
        """The next chunk of the open piece, if enough of it is written."""
        cfg = self.cfg
        ready = [cut for cut in self._cuts if cut[0] + cfg.chunk_ahead <= self.count]
        if not ready:
            return []
        stop, size = ready[-1]
        if stop - self._start < cfg.chunk * cfg.chunk_growth ** min(self._spoken, 99):
            return []
        raw, ahead = self._piece[:size], self._piece[size:]
        text = open_text(raw, self._clean)
        if not text:
            return []
        found = self._segment(raw, text, stop, more=True, ahead=ahead)
        self._piece, self._start, self._cuts = ahead, stop, []
        return [found]

    def _cut(self, stop: int) -> list[Segment]:
        text_raw, joined = self._piece, self._start > self._sentence
        if not joined and (not text_raw or (self.cfg.careful and not has_words(text_raw))):
            return []
        text = self._clean(text_raw) if text_raw else ""
        found = self._segment(text_raw, text, stop)
        self._piece, self._start, self._sentence, self._cuts = "", stop, stop, []
        return [found] if found.token_ids or joined else []

    def _segment(
        self, raw: str, text: str, stop: int, more: bool = False, ahead: str = ""
    ) -> Segment:
        joined = self._start > self._sentence
        if joined and raw[:1].isspace() and text:
            text = " " + text
        ids = self._tokenizer.encode(text, add_special_tokens=False) if text else []
        self._spoken += bool(ids)
        return Segment(raw, text, list(ids), self._start, stop, joined, more, ahead)


def _is_title(text: str) -> bool:
    """Whether a full stop after ``text`` abbreviates its last word: "Dr", "e.g", an initial."""
    word = text.split()[-1] if text.split() else ""
    return word.lower() in _TITLES or (len(word) == 1 and word.isalpha() and word.isupper())
