"""Freezing: what globs select, which modules stay in eval mode, fingerprints of the rest."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import Tensor, nn

from fo_core.errors import StageError
from fo_core.io.checkpoint import fingerprint


def select(model: nn.Module, globs: Sequence[str]) -> dict[str, nn.Parameter]:
    """Parameters by name that any of the globs matches, in the model's order.

    Args:
        model: The model.
        globs: Over names of parameters; one that begins with "!" leaves out what it matches.

    Raises:
        StageError: A glob matches no parameter ("!" may leave out nothing).
    """
    named = dict(model.named_parameters())
    out = [glob[1:] for glob in globs if glob.startswith("!")]
    globs = [glob for glob in globs if not glob.startswith("!")]
    for glob in globs:
        if not fnmatch.filter(named, glob):
            raise StageError(
                f"{glob!r} matches no parameter of the model",
                possible=", ".join(f"{name}.*" for name in sorted(_top_level(named))),
            )

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return {n: p for n, p in named.items() if matches(n, globs) and not matches(n, out)}


def freeze_all_but(
    model: nn.Module, trainable: dict[str, nn.Parameter], active: Sequence[str] = ()
) -> None:
    """Let only ``trainable`` take gradients, and put every other part in eval mode.

    A module is in training mode when every parameter in it is trained; one that holds both kinds,
    or none trained, is in eval mode (no dropout, no batch-norm update), and its children are looked
    at in turn. Modules without parameters follow the module that holds them. The modules named in
    ``active`` are in training mode themselves even if they hold both kinds.
    """
    chosen = {id(p) for p in trainable.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    for module in model.modules():
        if getattr(module, "left_out", False) and any(p.requires_grad for p in module.parameters()):
            module.left_out = False  # type: ignore[assignment]
    _set_mode(model, chosen)
    for name in active:
        module = model.get_submodule(name)
        module.training = True
        for child in module.children():
            if not list(child.parameters()):
                child.train()


def _set_mode(module: nn.Module, chosen: set[int]) -> None:
    parameters = list(module.parameters())
    trained = bool(parameters) and all(id(p) in chosen for p in parameters)
    module.train(trained)
    if not trained:
        for child in module.children():
            _set_mode(child, chosen)


def trained_state(model: nn.Module, trainable: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """What training may change: trained parameters, buffers of modules in training mode."""
    return {name: p.detach() for name, p in trainable.items()} | _buffers(model, training=True)


def fingerprints(model: nn.Module, trainable: dict[str, nn.Parameter]) -> dict[str, dict[str, str]]:
    """For every top-level part, the fingerprint of its frozen and of its trained tensors.

    Returns:
        ``{"llm": {"frozen": "sha256:..."}, "speech_encoder": {"trained": "sha256:..."}}``.
    """
    trained = trained_state(model, trainable)
    frozen = {n: p.detach() for n, p in model.named_parameters() if n not in trained}
    frozen |= _buffers(model, training=False)
    prints: dict[str, dict[str, str]] = {}
    for kind, tensors in (("frozen", frozen), ("trained", trained)):
        for part in sorted(_top_level(tensors)):
            inside = {n: t for n, t in tensors.items() if n.split(".")[0] == part}
            prints.setdefault(part, {})[kind] = fingerprint(inside)
    return prints


def _buffers(model: nn.Module, training: bool) -> dict[str, Tensor]:
    """Persistent buffers of the modules that are (not) in training mode."""
    persistent = model.state_dict(keep_vars=True)
    found = {}
    for prefix, module in model.named_modules():
        if module.training != training:
            continue
        for name, buffer in module.named_buffers(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if full in persistent:
                found[full] = buffer.detach()
    return found


def _top_level(names: Sequence[str] | dict) -> set[str]:
    return {name.split(".")[0] for name in names}
