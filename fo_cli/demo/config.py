"""Settings of ``fo demo`` (conf/demo.yaml, conf/from-scratch.yaml), and what it has done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from data_prep.chain import ChainConfig
from fo_cli.children import peak_memory_mb
from fo_core import config as configs
from fo_core.config import config
from fo_core.dialogue.settings import DialogueConfig
from fo_core.errors import ConfigError
from fo_core.io.files import write_json
from fo_core.models.decoder.duration_decoder import DurationDecoderConfig
from fo_core.models.model_config import FreezeOmniConfig, read_config
from fo_core.shipped import model_folder
from fo_core.training.recipes import Recipe, shipped

QUICK, SCRATCH = "demo", "from-scratch"  # names of the shipped configs


@config
class AskConfig:
    """Which bundled questions the model that ships is asked first."""

    limit: int = 0  # only the first so many; 0 = all
    max_tokens: int = 48  # longest answer, tokens of its text


@config
class EvaluateConfig:
    """What is asked at the end."""

    known: int = 60  # most questions of held-out set (a), besides what only tests the states
    unseen: int = 30  # most questions of held-out set (b); 0 = the set is left out
    judge: str = "faster-whisper"  # speech recogniser that took no part in training
    workers: int = 2  # processes side by side
    start: bool = True  # set (a) is also asked of the model that was started from


@config
class DemoConfig:
    """The whole demo."""

    prepare: ChainConfig  # conf/data/domain.yaml, changed
    stages: dict[str, Recipe]  # one for each of the six stages
    start: str = ""  # model to start from; "" = a new one of `model`
    recipe: str = ""  # shipped recipes that `stages` change; "" = they are whole
    model: FreezeOmniConfig = FreezeOmniConfig()  # of a new model
    dialogue: DialogueConfig = DialogueConfig()  # how a new model talks
    ask: AskConfig = AskConfig()  # before anything is trained, where it starts from a model
    evaluate: EvaluateConfig = EvaluateConfig()

    def __post_init__(self) -> None:
        if self.evaluate.known < 1:
            raise ConfigError("evaluate.known must be 1 or more", do="leave it out, or raise it")

    @property
    def aligned(self) -> bool:
        """Whether the speech decoder learns from how long each letter is spoken."""
        decoder = read_config(model_folder(self.start)).speech_decoder if self.start else None
        return isinstance(decoder or self.model.speech_decoder, DurationDecoderConfig)


def read_demo(name: str = QUICK, overrides: tuple[str, ...] = ()) -> DemoConfig:
    """A shipped demo with ``a.b=c`` changes.

    Raises:
        ConfigError: A key or a value is wrong.
    """
    conf = Path(str(resources.files("fo_core"))) / "conf"
    base: dict[str, Any] = {"prepare": configs.read_yaml(conf / "data" / "domain.yaml")}
    own = configs.read_yaml(conf / f"{name}.yaml")
    if own.get("recipe"):
        base["stages"] = {
            stage: configs.read_yaml(shipped(stage, own["recipe"])) for stage in own["stages"]
        }
    return configs.load(DemoConfig, configs.merge(base, own), overrides)


class Steps:
    """Markers of what is done in the demo's folder.

    Args:
        out: The demo's folder.
        start: The model that is trained on; its copy does not become ``--model latest``.
    """

    def __init__(self, out: Path, start: str = "") -> None:
        self.out = out
        self.data, self.runs = out / "data", out / "stages"
        self.model = out / ("trained" if start else "model")

    def marker(self, name: str) -> Path:
        """The file that says a step is done."""
        return self.out / "steps" / f"{name}.json"

    def done(self, name: str) -> bool:
        """Whether a step is done."""
        return self.marker(name).is_file()

    def run(self, name: str, work: Callable[[], dict[str, Any] | None]) -> None:
        """Run a step that is not done; mark it with its seconds, memory and results."""
        if self.done(name):
            return
        started, used = time.perf_counter(), processor_seconds()
        self.mark(name, started, used, work() or {})

    def mark(self, name: str, started: float, used: float, found: dict[str, Any]) -> None:
        """Note that a step is done, which began at these wall and processor seconds."""
        row = {
            "name": name,
            "seconds": round(time.perf_counter() - started, 1),
            "processor_seconds": round(processor_seconds() - used, 1),
            "peak_memory_mb": peak_memory_mb(),
            **found,
        }
        write_json(self.marker(name), row)


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended, s."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
