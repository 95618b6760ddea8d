"""A checkpoint of the published size converts in little more memory than its largest file."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from fo_core.convert import keymap
from fo_core.convert.official import GROUPS, MODULES, expected_tensors
from fo_core.convert.settings import model_config, read_settings

MEASURE = """
import sys
from fo_core.convert.official import import_official
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM"))
before = peak()
import_official(sys.argv[1], sys.argv[2], sys.argv[3])
print(before, peak())
"""


def enlarge(ckpt) -> None:
    """Write the published sizes into the text files."""
    path = ckpt / "checkpoints/audiollm/train.yaml"
    data = yaml.safe_load(path.read_text())
    data["model_conf"] |= {
        "enc_out_dim": 1024, "llm_embed_dim": 3584, "kernel_size": 5, "activation_func": "gelu",
        "norm": "layer", "prompt_num": 25, "prompt_finetune": True, "add_prompt_before": True,
        "llm_head_num": 28, "num_key_value_heads": 4,
    }  # fmt: skip
    section = data["encoder_conf"]["para_conf"]["transformer"]
    for key in ("input-dim", "output-dim", "attention-dim"):
        section[f"transformer-{key}"] = 1024
    section |= {
        "transformer-attention-heads": 16, "transformer-linear-units": 4096,
        "transformer-num-blocks": 24, "transformer-left_chunks": 16,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(data))
    path = ckpt / "checkpoints/decoder/model.json"
    listed = json.loads(path.read_text())
    for key in ("idim", "encoder_input_dim", "encoder_output_dim", "transformer_attention_dim"):
        listed[2][key] = 896
    listed[2] |= {
        "odim": 1024, "transformer_attention_heads": 14, "transformer_linear_units": 4864,
        "transformer_num_blocks": 4, "kv_cache_prefix_finetune": 1,
    }  # fmt: skip
    path.write_text(json.dumps(listed))
    path = ckpt / "checkpoints/codec/model.json"
    codec = json.loads(path.read_text()) | {"n_codes": 1024, "upsample_initial_channel": 512}
    path.write_text(json.dumps(codec))
    path = ckpt / "llm/config.json"
    config = json.loads(path.read_text())
    config |= {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
    path.write_text(json.dumps(config))


def fill(ckpt) -> int:
    """Write random weights of these sizes; bytes of the largest file."""
    settings = read_settings(ckpt / "checkpoints")
    expected = expected_tensors(model_config(settings, ckpt / "llm"), 3584)
    files: dict[str, dict[str, torch.Tensor]] = {"audiollm": {}, "decoder": {}, "codec": {}}
    for module in MODULES:
        for name, like in expected[module].items():
            found = keymap.to_published(module, name)
            if found and like.numel() and not name.startswith("cmvn."):
                floats = like.dtype.is_floating_point
                tensor = torch.randn(like.shape) if floats else torch.zeros_like(like, device="cpu")
                files[found[0]][found[1]] = tensor
    groups: dict[str, dict[str, torch.Tensor]] = {name: {} for name in GROUPS}
    for name, tensor in files["codec"].items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    for file, data in {**files, "codec": groups}.items():
        torch.save(data, ckpt / f"checkpoints/{file}/final.pt")
    paths = (ckpt / "checkpoints").glob("*/final.pt")
    return max(path.stat().st_size for path in paths)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_a_full_size_import(any_checkpoint, tmp_path):
    ckpt = shutil.copytree(any_checkpoint, tmp_path / "ckpt")
    enlarge(ckpt)
    largest = fill(ckpt)
    assert largest > 1.2e9  # 350 million parameters
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, ckpt / "checkpoints", ckpt / "llm", tmp_path / "model"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    before, peak = (int(word) * 1024 for word in out.split())
    assert peak <= 1.2 * largest
    assert peak - before < 0.2 * largest  # beyond the program itself
