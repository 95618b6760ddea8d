"""A damaged or foreign checkpoint: one line that names file and field, and nothing written."""

import json
import os
import shutil

import pytest
import torch
import yaml

from fo_core.convert.official import export_official, import_official
from fo_core.errors import CheckpointError


@pytest.fixture
def copy(any_checkpoint, tmp_path):
    """A checkpoint to damage."""

    def link_large(source, target):
        large = str(source).endswith("codec/final.pt")
        return os.link(source, target) if large else shutil.copyfile(source, target)

    return shutil.copytree(any_checkpoint, tmp_path / "ckpt", copy_function=link_large)


def refused(ckpt, *words: str) -> str:
    """The import fails with one line that holds ``words``, and leaves nothing behind."""
    parent = ckpt.parent / "made"
    with pytest.raises(CheckpointError) as caught:
        import_official(ckpt / "checkpoints", ckpt / "llm", parent / "model")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert not parent.exists() or not list(parent.iterdir())
    return message


def change_yaml(ckpt, change) -> None:
    path = ckpt / "checkpoints/audiollm/train.yaml"
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def change_json(path, change) -> None:
    data = json.loads(path.read_text())
    data = change(data) or data
    path.write_text(json.dumps(data))


def change_pt(ckpt, file, change) -> None:
    path = ckpt / f"checkpoints/{file}/final.pt"
    data = torch.load(path, weights_only=True)
    data = change(data) or data
    path.unlink()
    torch.save(data, path)


@pytest.mark.parametrize("file", ["audiollm", "decoder", "codec"])
def test_truncated(copy, file):
    path = copy / f"checkpoints/{file}/final.pt"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    refused(copy, f"{file}/final.pt", "not a whole PyTorch file")


def test_not_a_pytorch_file(copy):
    (copy / "checkpoints/decoder/final.pt").write_text("hello")
    refused(copy, "decoder/final.pt")
    (copy / "checkpoints/decoder/final.pt").write_bytes(b"")
    refused(copy, "decoder/final.pt")
    (copy / "checkpoints/decoder/final.pt").unlink()
    refused(copy, "no file", "decoder/final.pt")


class Runs:
    """Pickled, it would touch a file when loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_never_runs_code(copy, tmp_path):
    torch.save({"weight": Runs(str(tmp_path / "ran"))}, copy / "checkpoints/decoder/final.pt")
    refused(copy, "decoder/final.pt", "run code")
    assert not (tmp_path / "ran").exists()


def test_saved_as_something_else(copy):
    change_pt(copy, "audiollm", lambda data: {"state_dict": data})
    refused(copy, "audiollm/final.pt", "state_dict is a dict")
    torch.save([torch.zeros(1)], copy / "checkpoints/audiollm/final.pt")
    refused(copy, "audiollm/final.pt", "list")


def test_codec_groups(copy):
    change_pt(copy, "codec", lambda data: data.pop("quantizer") and data)
    refused(copy, "codec/final.pt", "missing group quantizer")


def test_tensors_missing_extra_misshapen(copy):
    def change(data):
        data["predictor_head.weight"] = data["predictor_head.weight"][:, :-1].clone()
        del data["adpter.project.bias"]
        data["adpter.surprise"] = torch.zeros(2)

    change_pt(copy, "audiollm", change)
    message = refused(copy, "predictor_head.weight has shape", "expected [4, ")
    assert "missing tensor in audiollm/final.pt: adpter.project.bias" in message
    assert "unknown tensor in audiollm/final.pt: adpter.surprise" in message


def test_copies_of_the_llm_must_be_the_llm(copy, tmp_path):
    from safetensors.torch import load_file

    llm = load_file(copy / "llm/model.safetensors")
    key = "model.layers.0.self_attn.q_proj.weight"

    def add(data):
        data[f"llm_decoder.{key}"] = llm[key]
        data["llm_decoder.transformer.h.0.self_attn.q_proj.weight"] = llm[key]
        data["llm_decoder.transformer.wte.weight"] = llm["model.embed_tokens.weight"]

    change_pt(copy, "audiollm", add)
    report = import_official(copy / "checkpoints", copy / "llm", tmp_path / "model")
    assert report.unused["audiollm/llm_decoder.transformer.wte.weight"].startswith("copy of")

    def spoil(data):
        data[f"llm_decoder.{key}"] = llm[key] + 1

    change_pt(copy, "audiollm", spoil)
    with pytest.raises(CheckpointError, match="q_proj.weight differs from"):
        import_official(copy / "checkpoints", copy / "llm", tmp_path / "other")


def test_train_yaml_keys(copy):
    change_yaml(copy, lambda data: data["model_conf"].update(kernel_sise=5))
    refused(copy, "audiollm/train.yaml", "unknown key model_conf.kernel_sise", "kernel_size?")
    change_yaml(copy, lambda data: [data["model_conf"].pop(k) for k in ("kernel_sise", "norm")])
    refused(copy, "audiollm/train.yaml", "missing key model_conf.norm")


def test_train_yaml_of_a_trainer(copy, tmp_path):
    """Sections of the optimiser may be there, and are named; anything else unknown is refused."""
    trainer = {"optim": "adam", "optim_conf": {"lr": 1e-3}, "scheduler": "warmuplr", "grad_clip": 5}
    change_yaml(copy, lambda data: data.update(trainer))
    report = import_official(copy / "checkpoints", copy / "llm", tmp_path / "model")
    found = {key for key in report.unused if key.startswith("audiollm/train.yaml: ")}
    assert found >= {f"audiollm/train.yaml: {key}" for key in trainer}
    change_yaml(copy, lambda data: data.update(decoder_conf={}, model_conf_2={}))
    refused(copy, "audiollm/train.yaml", "unknown key decoder_conf", "unknown key model_conf_2")
    change_yaml(copy, lambda data: data["model_conf"].update(optim="adam"))
    refused(copy, "audiollm/train.yaml", "unknown key model_conf.optim")


def test_train_yaml_values(copy):
    section = ["encoder_conf", "para_conf", "transformer"]

    def set_to(value):
        def change(data):
            for key in section:
                data = data[key]
            data["transformer-pos-enc-class"] = value

        return change

    change_yaml(copy, set_to("abs-enc"))
    refused(copy, "train.yaml", "transformer-pos-enc-class", "'rel-enc'")
    change_yaml(copy, set_to("rel-enc"))
    change_yaml(copy, lambda data: data["model_conf"].update(chat_template="no slot"))
    refused(copy, "train.yaml", "chat_template", "<audio>")
    (copy / "checkpoints/audiollm/train.yaml").write_text("a: [")
    refused(copy, "train.yaml", "not YAML")


def test_json_files(copy):
    path = copy / "checkpoints/server.json"
    change_json(path, lambda data: data.pop("decoder_N") and data)
    refused(copy, "server.json", "missing key decoder_N")
    path.unlink()
    refused(copy, "server.json")


def test_another_llm(copy):
    path = copy / "llm/config.json"
    change_json(path, lambda data: data.update(hidden_size=data["hidden_size"] + 8))
    refused(copy, "llm/config.json", "hidden_size", "llm_embed_dim")


def test_a_tokenizer_without_the_end_token(copy):
    path = copy / "llm/tokenizer.json"
    path.write_text(path.read_text().replace("<|im_end|>", "<|other|>"))
    refused(copy, "llm/tokenizer.json", "<|im_end|>")


def test_another_codec_rate(copy):
    path = copy / "checkpoints/codec/model.json"
    change_json(path, lambda data: data.update(sampling_rate=16000))
    refused(copy, "codec/model.json", "sampling_rate", "24000")
    change_json(path, lambda data: data.update(sampling_rate=24000, upsample_rates=[8, 5, 5, 2]))
    refused(copy, "codec/model.json", "upsample_rates", "600")


def test_feature_statistics(copy):
    path = copy / "checkpoints/audiollm/global_cmvn"
    change_json(path, lambda data: data.update(mean_stat=data["mean_stat"][:-1]))
    refused(copy, "global_cmvn", "mean_stat")
    change_json(path, lambda data: data.pop("frame_num") and None)
    refused(copy, "global_cmvn", "frame_num")
    path.unlink()
    refused(copy, "global_cmvn")


def test_a_full_or_unwritable_target(copy, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(CheckpointError, match="not empty"):
        import_official(copy / "checkpoints", copy / "llm", tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        import_official(copy / "checkpoints", copy / "llm", tmp_path / "file" / "model")


def test_only_imported_models_are_exported(tmp_path):
    with pytest.raises(CheckpointError, match="not imported"):
        export_official(tmp_path, tmp_path / "out")
