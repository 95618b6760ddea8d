"""What :class:`fo_core.Model` has in common with other models of Hugging Face's hub.

A repository of the hub is a model folder, and the model's LLM a reference. What is saved and pushed
is the folder that the model was loaded from, to the bit; the weights in memory are packed.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelHubMixin

from fo_core import hub
from fo_core.errors import CheckpointError


class HubModel(ModelHubMixin, ABC, library_name="freeze-omni"):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of a model with a folder.

    Attributes:
        folder: Where it was loaded from.
    """

    folder: Path | None

    @classmethod
    @abstractmethod
    def from_folder(cls, folder: Path, weights: str, device: str, settings: Sequence[str]) -> Self:
        """Load a model folder."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        cache_dir: str | Path | None = None,
        weights: str = "auto",
        device: str = "auto",
        settings: Sequence[str] = (),
    ) -> Self:
        """A model of the hub, or of a folder.

        Args:
            name: ``user/repo``, ``user/repo@revision``, or a folder.
            revision: Branch, tag or commit, where the name has none.
            token: Of the hub; None: the one of ``hf auth login`` or ``HF_TOKEN``.
            local_files_only: Take what the cache has, never ask the hub.
            force_download: Fetch even what the cache has.
            cache_dir: Another cache than the hub's own.
            weights: As of :func:`fo_core.load`.
            device: As of :func:`fo_core.load`.
            settings: As of :func:`fo_core.load`.

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
        return cls.from_folder(folder, weights, device, settings)

    def save_pretrained(self, save_directory: str | Path, **more: Any) -> str | None:
        """Copy the model's folder; ``push_to_hub=True`` and ``repo_id`` push it, too.

        Raises:
            CheckpointError: The model was not loaded from a folder, or this is that folder.
        """
        if Path(save_directory).resolve() == self._source().resolve():
            raise CheckpointError(f"{save_directory} is the model's own folder", do="name another")
        return super().save_pretrained(save_directory, **more)

    def _source(self) -> Path:
        if self.folder is None:
            raise CheckpointError("this model was not loaded from a folder")
        return self.folder

    def _save_pretrained(self, save_directory: Path) -> None:
        for path in hub.files_of(self._source()):
            shutil.copyfile(path, save_directory / path.name)

    def push_to_hub(  # type: ignore[override]
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
        config: Any = None,
        model_card_kwargs: Any = None,
    ) -> str:
        """Put the model on the hub; see :func:`fo_core.hub.push`. Returns the commit's URL.

        ``config`` and ``model_card_kwargs`` are what ``save_pretrained(push_to_hub=True)`` hands
        on: the folder's own are taken.

        Raises:
            CheckpointError: The hub refuses, or others could not load the model.
        """
        done = hub.push(
            self._source(),
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
