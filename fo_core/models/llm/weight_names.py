"""Names of tensors in an LLM's checkpoint against those of our own layers: all must match."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from fo_core.errors import CheckpointError
from fo_core.layers.kv_cache import LlamaConfig
from fo_core.models.llm.families import Family

COMPUTED = re.compile(r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$")  # old files hold them


def own_name(key: str) -> str:
    """Our name of a checkpoint's tensor."""
    name = key.removeprefix("model.")
    return f"stack.{name}" if name.startswith("layers.") else name


def parted(
    name: str, tensor: Tensor, family: Family, shape: LlamaConfig
) -> Iterator[tuple[str, Tensor]]:
    """A tensor, or those that a joined one [rows, D] holds, by our names."""
    inner, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    cuts = {
        "self_attn.qkv_proj": (("q_proj", inner), ("k_proj", kv), ("v_proj", kv)),
        "mlp.gate_up_proj": (("gate_proj", shape.ffn), ("up_proj", shape.ffn)),
    }
    for joined, parts in cuts.items() if family.joined else ():
        if joined in name and tensor.shape[0] == sum(rows for _, rows in parts):
            place = joined.partition(".")[2]
            for (part, _), rows in zip(parts, tensor.split([n for _, n in parts]), strict=True):
                yield name.replace(place, part), rows
            return
    yield name, tensor


class Keys:
    """What of a checkpoint was taken, and what is wrong with it."""

    def __init__(self, folder: Path, wanted: set[str]) -> None:
        self.folder, self.missing = folder, wanted
        self.known = frozenset(wanted)
        self.unknown: list[str] = []
        self.shapes: list[str] = []

    def take(self, key: str, name: str) -> bool:
        """Whether this tensor is wanted; a second one of a name, and an unknown one, is not."""
        if name in self.missing:
            self.missing.discard(name)
            return True
        if name not in self.known and not COMPUTED.search(key):
            self.unknown.append(key)
        return False

    def misshapen(self, key: str, found: Tensor, own: Tensor) -> None:
        """Note a tensor of another shape."""
        self.shapes.append(f"{key} has shape {list(found.shape)}, not {list(own.shape)}")

    def check(self) -> None:
        """Refuse a checkpoint that is not exactly this LLM's.

        Raises:
            CheckpointError: Tensors are missing, unknown or misshapen; the first few are named.
        """
        refuse(self.folder, self.missing, self.unknown, self.shapes)


def refuse(
    folder: Path, missing: Iterable[str], unknown: Iterable[str], shapes: Iterable[str]
) -> None:
    """Raise an error that names what is wrong with a checkpoint, if anything is.

    Args:
        folder: Of the checkpoint.
        missing: Names that it lacks.
        unknown: Names in it that the LLM has not.
        shapes: What is said of tensors of another shape.

    Raises:
        CheckpointError: There is any.
    """
    lacks, foreign, shapes = sorted(missing), sorted(unknown), sorted(shapes)
    faults = list(shapes[:3])
    if lacks:
        faults.append(f"lacks {len(lacks)} tensors, such as {lacks[0]}")
    if foreign:
        faults.append(f"holds {len(foreign)} unknown tensors, such as {foreign[0]}")
    if not faults:
        return
    do = "fetch the model anew"
    prefix = _prefix(lacks, foreign)
    if prefix:
        do = f"strip {prefix!r} from the names in its files: it comes from how it was saved"
    elif any("lora_" in key for key in foreign):
        do = "merge the LoRA weights into its base model first (peft: merge_and_unload)"
    raise CheckpointError(f"{folder} {'; '.join(faults)}", do=do)


def _prefix(missing: list[str], unknown: list[str]) -> str:
    """What stands before every unknown name, where it hides the names that are missing."""
    names = [name.removeprefix("stack.") for name in missing]
    for key in unknown:
        hidden = [name for name in names if key.endswith(name)]
        if hidden:
            prefix = key.removesuffix(max(hidden, key=len)).removesuffix("model.")
            return prefix if all(other.startswith(prefix) for other in unknown) else ""
    return ""
