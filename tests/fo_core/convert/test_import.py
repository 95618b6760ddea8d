"""Published checkpoints become model folders and come back bit for bit."""

import torch

from fo_core.convert.official import MODULES, export_official, import_official, read_tensors
from fo_core.io.checkpoint import load_tensors, read_json
from fo_core.models import freeze_omni


def test_every_published_tensor_is_used_or_named(imported, golden_variant):
    unused = read_json(imported / "official/record.json")["unused"]
    published = sum(len(golden_variant.state_dict(p)) for p in ("audiollm", "decoder", "codec"))
    folder_only = ("idle", "started", "usage", "sums", "cmvn.mean", "cmvn.istd")
    used = sum(
        not name.endswith(folder_only) and tensor.numel() > 0
        for module in MODULES
        for name, tensor in load_tensors(imported / f"{module}.safetensors").items()
    )
    used += sum("global_cmvn" in name for name in golden_variant.state_dict("audiollm"))
    assert used + len(unused) == published and all(unused.values())


def test_the_imported_folder_loads_as_a_model(imported, golden_variant):
    model = freeze_omni.load(imported)
    assert model.trained == set(MODULES)
    mean = golden_variant.units["cmvn.mean"]
    torch.testing.assert_close(model.speech_encoder.cmvn.mean, mean, rtol=0, atol=0)
    istd = golden_variant.units["cmvn.istd"]
    torch.testing.assert_close(model.speech_encoder.cmvn.istd, istd, rtol=0, atol=0)


def test_export_gives_back_the_same_tensors_and_texts(imported, golden_variant, tmp_path):
    source, out = golden_variant.ckpt / "checkpoints", tmp_path / "out"
    export_official(imported, out)
    theirs, packed = read_tensors(source)
    ours, repacked = read_tensors(out)
    assert packed == repacked
    for file, tensors in theirs.items():
        assert sorted(tensors) == sorted(ours[file])
        for name, tensor in tensors.items():
            other = ours[file][name]
            assert tensor.dtype == other.dtype and torch.equal(tensor, other), name
    texts = [p.relative_to(source) for p in source.rglob("*") if p.is_file()]
    for name in texts:
        if name.suffix != ".pt":
            assert (source / name).read_bytes() == (out / name).read_bytes()


def test_import_export_import_is_bit_equal(imported, golden_variant, tmp_path):
    export_official(imported, tmp_path / "published")
    import_official(tmp_path / "published", golden_variant.ckpt / "llm", tmp_path / "again")
    first = sorted(p.relative_to(imported) for p in imported.rglob("*.safetensors"))
    assert first == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*.safetensors")
    )
    for name in first:
        assert (imported / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert read_json(imported / "config.json") == read_json(tmp_path / "again" / "config.json")
