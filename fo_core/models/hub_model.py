"""What the model has in common with others of Hugging Face's hub: load, save, push.

A repository of the hub is a model folder, and the model's LLM a reference.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin

from fo_core import hub


class HubModel(ModelHubMixin, library_name="freeze-omni"):
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
    def from_pretrained(  # type: ignore[override]
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

    def _save_pretrained(self, save_directory: Path) -> None:
        """The model folder, with what its own folder says beside the weights."""
        self.save(save_directory)
        for name in (*hub.SETTINGS, hub.CARD):
            source = self.folder / name if self.folder else None
            if source and source.is_file() and not (save_directory / name).exists():
                shutil.copyfile(source, save_directory / name)

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

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """A card for a model that has none; the push writes its header."""
        return ModelCard(f"# A Freeze-Omni model\n\nTrained: {', '.join(sorted(self.trained))}.\n")
