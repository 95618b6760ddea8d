"""Registries: a folder of files, one entry a file, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType

from fo_core.errors import EngineError


def did_you_mean(name: str, names: list[str]) -> str:
    """The names to offer for a wrong one, the closest first."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names)
    return f"{listed} (did you mean {close[0]!r}?)" if close else listed


class Registry:
    """Entries are the modules of a package; the file stem, ``-`` for ``_``, is the name.

    Adding an entry is adding a file. A module whose optional dependency is missing breaks only
    its own entry; the module's constant ``EXTRA`` says what to install.

    Args:
        kind: What an entry is, for messages ("text-to-speech engine").
        package: Dotted name of the package that holds the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package

    def names(self) -> list[str]:
        """All entries by name; nothing is imported but the (empty) package."""
        spec = importlib.util.find_spec(self.package)
        where = list(spec.submodule_search_locations or []) if spec else []
        stems = (m.name for m in pkgutil.iter_modules(where) if not m.name.startswith("_"))
        return sorted(stem.replace("_", "-") for stem in stems)

    def load(self, name: str) -> ModuleType:
        """Import one entry.

        Raises:
            EngineError: The name is unknown, or an optional dependency of it is missing.
        """
        names = self.names()
        if name not in names:
            raise EngineError(f"unknown {self.kind} {name!r}", possible=did_you_mean(name, names))
        try:
            return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in {"fo_core", "data_prep", "eval"}:
                raise
            raise EngineError(
                f"{self.kind} {name!r} needs the package {error.name!r}",
                possible="any of " + ", ".join(n for n in names if n != name),
                do=f"pip install {error.name} (or the extra that brings it, see README)",
            ) from error
