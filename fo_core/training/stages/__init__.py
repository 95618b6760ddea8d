"""The stages of training: a file each, found by its name (``input-1`` is ``input_1.py``).

A file holds a stage's options (a config derived from
:class:`fo_core.training.stage.StageOptions`, which the file names ``OPTIONS``), its losses, metrics
and precomputation. A new stage is a new file here and a recipe in ``conf/recipes``.
"""

from __future__ import annotations

from fo_core.registry import Registry

STAGES = Registry("stage", "fo_core.training.stages")
