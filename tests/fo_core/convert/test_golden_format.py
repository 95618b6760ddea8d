"""The golden folder can be read and its checkpoints rebuilt."""

import json

import torch


def test_rebuilt_checkpoint_has_the_recorded_tensors(golden_variant):
    for part, path in golden_variant.PARTS.items():
        assert (golden_variant.ckpt / path).is_file()
        assert golden_variant.state_dict(part)
    decoder = torch.load(golden_variant.ckpt / "checkpoints/decoder/final.pt", weights_only=True)
    spec = json.loads((golden_variant.root / "spec.json").read_text())
    container = spec["files"]["checkpoints/decoder/final.pt"]["container"]
    assert ("model" in decoder) == (container == "model")
