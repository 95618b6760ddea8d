"""The items of a conversation as the protocol shows them, in order, with their turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fo_core.server.messages import Refused, new_id

MAX_ITEMS = 10_000  # of one session; older ones are forgotten, the model's own context is shorter


Kind = Literal["message", "function_call", "function_call_output"]
Status = Literal["in_progress", "completed", "incomplete"]


@dataclass
class Item:
    """A message, a function call or what came back for one."""

    id: str
    role: Literal["user", "assistant"]
    turn: int | None = None  # of the talk; None = not yet, or of no turn
    text: str = ""  # typed, transcribed or spoken words; arguments of a call; output of a function
    spoken: bool = True  # audio with a transcript instead of text
    status: Status = "completed"
    milliseconds: int = 0  # of an answer's audio, as it was made
    previous: str | None = None  # id of the item before it
    kind: Kind = "message"
    call_id: str = ""  # of a function call
    name: str = ""  # of its function

    def to_dict(self) -> dict[str, Any]:
        """As the protocol shows it; audio itself is not kept."""
        common = {
            "id": self.id,
            "object": "realtime.item",
            "type": self.kind,
            "status": self.status,
        }
        if self.kind == "function_call":
            return {**common, "name": self.name, "call_id": self.call_id, "arguments": self.text}
        if self.kind == "function_call_output":
            return {**common, "call_id": self.call_id, "output": self.text}
        side = "input" if self.role == "user" else "output"
        content: list[dict[str, Any]] = []
        if self.spoken:
            content = [{"type": f"{side}_audio", "transcript": self.text}]
        elif self.text or self.status != "in_progress":
            content = [{"type": f"{side}_text", "text": self.text}]
        if self.status == "in_progress" and not self.text:
            content = []
        return {**common, "role": self.role, "content": content}


@dataclass
class Conversation:
    """All items of a session."""

    items: dict[str, Item] = field(default_factory=dict)

    @property
    def last(self) -> str | None:
        """Id of the newest item."""
        return next(reversed(self.items), None)

    def add(self, item: Item) -> None:
        """Put an item at the end."""
        item.previous = self.last
        self.items[item.id] = item
        if len(self.items) > MAX_ITEMS:
            del self.items[next(iter(self.items))]

    def get(self, id: str, code: str = "item_not_found", param: str = "item_id") -> Item:  # noqa: A002 the protocol's word
        """An item.

        Raises:
            Refused: There is none of this id.
        """
        if id not in self.items:
            raise Refused(f"no item {id[:64]!r} in this conversation", param, code)
        return self.items[id]

    def of(self, turn: int, role: str) -> Item | None:
        """The newest message of a turn."""
        for item in reversed(self.items.values()):
            if item.turn == turn and item.role == role and item.kind == "message":
                return item
        return None

    def fresh_id(self, wanted: str | None) -> str:
        """The id that a client wants for a new item, or one of ours.

        Raises:
            Refused: It is taken, or too long.
        """
        if wanted is None:
            return new_id("item")
        if wanted in self.items:
            raise Refused(f"there is an item {wanted[:64]!r} already", "item.id", "item_exists")
        if not 0 < len(wanted) <= 64:
            raise Refused("an id has 1 to 64 characters", "item.id")
        return wanted
