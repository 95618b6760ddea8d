"""What the model has in common with others of Hugging Face's hub: load, save, push.

A repository of the hub is a model folder, and the model's LLM a reference. The names and arguments
are those of ``huggingface_hub.ModelHubMixin``; the class itself is not a base, since all of its
methods would be replaced and importing it costs a quarter of a second of every cold start.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch

from fo_core import hub


class HubModel:
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of a model with a folder.

    Attributes:
        folder: Where it was loaded from; None: it was built.
        trained: Names of the parts that hold trained weights.
    """

    folder: Path | None
    trained: set[str]

    def save(self, folder: str | Path) -> None:
        """Write the config and the trained parts."""
        raise NotImplementedError

    @classmethod
    def from_folder(
        cls, folder: Path, device: str | torch.device, overrides: Sequence[str]
    ) -> Self:
        """Load a model folder."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        cache_dir: str | Path | None = None,
        device: str | torch.device = "cpu",
        overrides: Sequence[str] = (),
    ) -> Self:
        """A model of the hub, or of a folder.

        Args:
            name: A folder, ``user/repo`` or ``user/repo@revision``.
            revision: Branch, tag or commit, where the name has none.
            token: Of the hub; None: the one of ``hf auth login`` or ``HF_TOKEN``.
            local_files_only: Take what the cache has, never ask the hub.
            force_download: Fetch even what the cache has.
            cache_dir: Another cache than the hub's own.
            device: Where the model goes.
            overrides: Values of its config, ``a.b=c``.

        Raises:
            CheckpointError: There is no such model, or it is damaged, or its LLM is another one.
        """
        folder = Path(name)
        if not folder.is_dir():
            folder = hub.pull(
                f"{name}@{revision}" if revision else str(name),
                token=token,
                local_files_only=local_files_only,
                force_download=force_download,
                cache_dir=cache_dir,
            )
        return cls.from_folder(folder, device, overrides)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model folder, with what its own folder says beside the weights."""
        place = Path(save_directory)
        self.save(place)
        for name in (*hub.SETTINGS, hub.CARD):
            source = self.folder / name if self.folder else None
            if source and source.is_file() and not (place / name).exists():
                shutil.copyfile(source, place / name)
        card = place / hub.CARD
        if not card.exists():
            parts = ", ".join(sorted(self.trained))
            card.write_text(f"# A Freeze-Omni model\n\nTrained: {parts}.\n")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        token: str | bool | None = None,
        branch: str | None = None,
        licence: str | None = None,
        datasets: Sequence[str] = (),
        llm: str | None = None,
        commit_message: str = "Push a Freeze-Omni model",
    ) -> str:
        """Put the model on the hub; see :func:`fo_core.hub.push`. Returns the commit's URL.

        Raises:
            CheckpointError: The hub refuses, or others could not load the model.
        """
        with tempfile.TemporaryDirectory() as place:
            self.save_pretrained(place)
            done = hub.push(
                place,
                repo_id,
                private=private,
                token=token,
                branch=branch,
                licence=licence,
                datasets=datasets,
                llm=llm,
                message=commit_message,
            )
        return str(done.url)
