"""The six stages on tiny real models: what moves, exact resume, real against shuffled targets."""

import dataclasses
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
import torch

from fo_core.config import load, read_yaml, replace, to_dict
from fo_core.data import manifest
from fo_core.engines.asr import ASR
from fo_core.errors import ConfigError, StageError
from fo_core.models.freeze_omni import FreezeOmniConfig
from fo_core.training.cache import ItemCache, place
from fo_core.training.estimate import measure, plan_stage
from fo_core.training.loop import run_stage
from fo_core.training.recipes import NAMES, RECIPES, Recipe, recipe, shipped

MOVES = {
    "input-1": {"speech_encoder", "ctc_head"},
    "input-2": {"speech_encoder", "adapter", "task"},
    "input-3": {"prompt", "state_head"},
    "output-1": {"codec"},
    "output-2": {"speech_decoder"},
    "output-3": {"speech_decoder"},
}
CONTEXTS = ("typed", "spoken")


def fresh(llm, **parts):
    model = tiny_models.tiny_model(llm=llm, **parts)
    model.trained |= {"speech_encoder", "ctc_head", "adapter", "speech_decoder"}
    return model


def run(model, name, data, folder, *sets, stage=None):
    """Run a stage's tiny recipe with ``a.b=c`` changes."""
    quiet = ["train.curves=false", "train.samples=0"]
    cfg = recipe(name, "tiny", overrides=[*quiet, *sets])
    side = 0 if name.startswith("input") else 1
    (train, held_out) = data[0][side], data[1][side]
    stage = stage or cfg.stage.build()
    return run_stage(model, stage, cfg.train, train, held_out, folder, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_each_stage_learns_and_moves_its_own_parts_only(name, model, data, tmp_path):
    start = {k: v.clone() for k, v in model.state_dict().items()}
    result = run(model, name, data, tmp_path)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    assert {k.split(".")[0] for k in moved} == MOVES[name]
    if name == "output-2":
        assert not any(k.startswith("speech_decoder.prefix.") for k in moved)
    if name == "output-3":
        assert all(k.startswith("speech_decoder.prefix.") for k in moved)
    key = "val_mel_distance" if name == "output-1" else "val_loss"
    losses = [row[key] for row in result.history if key in row]
    assert losses[-1] < losses[0]
    prints = result.fingerprints
    assert prints["llm"]["frozen_before"] == prints["llm"]["frozen_after"]
    assert prints["llm"]["frozen_after"].startswith("sha256:")
    assert not hasattr(model, "codec_discriminators")


def test_a_decoder_without_a_pre_network_trains_what_it_has(tiny_llm, data, tmp_path):
    shape = {"dim": 32, "codes": 16, "heads": 2, "ffn": 64, "layers": 2, "pre_network": False}
    model = fresh(tiny_llm, speech_decoder=shape)
    with pytest.raises(StageError, match="pre_network"):
        run(
            model,
            "output-2",
            data,
            tmp_path / "a",
            "stage.trainable=[speech_decoder.pre_network.*]",
        )
    prefix = {k: v.clone() for k, v in model.speech_decoder.prefix.state_dict().items()}
    result = run(model, "output-2", data, tmp_path / "b")
    after = model.speech_decoder.prefix.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in prefix.items())
    losses = [row["val_loss"] for row in result.history if "val_loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("context", ["spoken", "both"])
def test_the_prefix_learns_from_spoken_questions_too(context, tiny_llm, data, tmp_path):
    def pairs(side):
        coded = [a for a in side[1] if a.speech_tokens]
        return [
            dataclasses.replace(q, answer=a.text, speech_tokens=a.speech_tokens)
            for q, a in zip(side[0], coded, strict=False)
        ]

    cfg = recipe("output-3", "tiny", overrides=["train.curves=false", f"stage.context={context}"])
    stage, sets = cfg.stage.build(), [pairs(side) for side in data]
    model = fresh(tiny_llm)
    with pytest.raises(StageError, match="prompt"):
        run_stage(model, stage, cfg.train, *sets, tmp_path / "a", progress=False)
    model.trained.add("prompt")
    result = run_stage(model, stage, cfg.train, *sets, tmp_path / "b", progress=False)
    losses = [row["val_loss"] for row in result.history if "val_loss" in row]
    assert losses[-1] < losses[0]


def test_the_ctc_adapter_and_a_recurrent_state_head_train_too(tiny_llm, data, tmp_path):
    parts = {"adapter": {"type": "ctc"}, "state_head": {"gru": 16}}
    model = fresh(tiny_llm, **parts)
    run(model, "input-2", data, tmp_path / "2", "stage.ctc=0.5", "train.max_steps=4")
    assert float(model.adapter.gate.detach().abs()) > 0
    before = model.state_head.sound[1].weight.clone()
    result = run(model, "input-3", data, tmp_path / "3")
    assert not torch.equal(model.state_head.sound[1].weight, before)
    states = [row["val_state_loss"] for row in result.history if "val_state_loss" in row]
    assert states[-1] < 0.9 * states[0]


class Killed(Exception):
    pass


def dying(stage, step):
    """The stage, whose first loss dies at a step as a killed process would."""
    first = stage.objectives[0]

    def losses(model, batch):
        if batch["step"] == step and torch.is_grad_enabled():
            raise Killed
        return first.losses(model, batch)

    changed = dataclasses.replace(first, losses=losses)
    return dataclasses.replace(stage, objectives=(changed, *stage.objectives[1:]))


def test_kill_9_in_the_middle_loses_nothing(tiny_llm, data, tmp_path):
    """A real process, really killed while it trains."""
    sets = ["train.max_steps=20", "train.save_every=2", "train.validate_every=1000"]
    script = f"""
import sys
sys.path.insert(0, {str(Path(tiny_models.__file__).parent)!r})
import tiny_models
from fo_core.data import manifest
from fo_core.training.loop import run_stage
from fo_core.training.recipes import recipe
cfg = recipe("input-1", "tiny", overrides=["train.curves=false", *{sets!r}])
run_stage(tiny_models.tiny_model(), cfg.stage.build(), cfg.train, {str(tmp_path / "t.jsonl")!r},
          {str(tmp_path / "v.jsonl")!r}, {str(tmp_path / "cut")!r}, progress=False)
"""
    manifest.write(tmp_path / "t.jsonl", data[0][0])
    manifest.write(tmp_path / "v.jsonl", data[1][0])
    process = subprocess.Popen([sys.executable, "-c", script])
    folder = tmp_path / "cut" / "checkpoints"
    until = time.monotonic() + 120
    while not list(folder.glob("step-*4")) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / "stage.json").exists()
    resumed, whole = fresh(tiny_llm), fresh(tiny_llm)
    run(resumed, "input-1", data, tmp_path / "cut", *sets)
    run(whole, "input-1", data, tmp_path / "whole", *sets)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_stage_goes_on_to_the_same_bits(name, tiny_llm, data, tmp_path):
    sets = ["train.max_steps=8", "train.save_every=3"]
    whole = fresh(tiny_llm)
    run(whole, name, data, tmp_path / "whole", *sets)
    stage = recipe(name, "tiny").stage.build()
    with pytest.raises(Killed):
        run(fresh(tiny_llm), name, data, tmp_path / "cut", *sets, stage=dying(stage, 7))
    resumed = fresh(tiny_llm)
    run(resumed, name, data, tmp_path / "cut", *sets)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def shuffled(items, *names):
    """The items with some fields of other items."""
    others = list(items)
    random.Random(5).shuffle(others)
    return [
        dataclasses.replace(item, **{n: getattr(other, n) for n in names})
        for item, other in zip(items, others, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "fields", "steps", "key", "margin"),
    [
        ("input-1", ("text",), 110, "val_loss", 0.75),
        ("input-3", ("states",), 20, "val_state_loss", 0.95),
        ("output-2", ("speech_tokens",), 70, "val_loss", 0.8),
    ],
)
def test_shuffled_targets_are_not_learned(
    name, fields, steps, key, margin, tiny_llm, data, tmp_path
):
    side = 0 if name.startswith("input") else 1
    wrong = [list(split) for split in data]
    wrong[0][side] = shuffled(data[0][side], *fields)
    sets = [f"train.max_steps={steps}", "train.validate_every=1000", "train.batch.size=16"]
    sets += ["stage.chunks=fixed"] if name == "input-1" else []
    sets += ["stage.optim.lr=5e-3"] if name == "output-2" else []
    real = run(fresh(tiny_llm), name, data, tmp_path / "real", *sets)
    fake = run(fresh(tiny_llm), name, wrong, tmp_path / "fake", *sets)
    assert real.metrics[key] < margin * fake.metrics[key]


def test_a_stage_out_of_order_is_refused(tiny_llm, data, tmp_path):
    with pytest.raises(StageError, match="starts from a trained speech_encoder"):
        run(tiny_models.tiny_model(llm=tiny_llm), "input-2", data, tmp_path)


def test_the_gan_begins_when_it_is_told_to(model, data, tmp_path):
    sets = ["train.log_every=1", "train.max_steps=7", "train.validate_every=100"]
    result = run(model, "output-1", data, tmp_path, *sets)
    rows = {row["step"]: row for row in result.history if "codec.loss" in row}
    assert "codec.adversarial" not in rows[6] and "discriminator.loss" not in rows[6]
    assert "codec.adversarial" in rows[7] and rows[7]["discriminator.loss"] > 0
    plan = result.trainable_parameters
    assert plan > sum(p.numel() for p in model.codec.parameters())


def test_a_codec_is_heard_seen_and_judged(model, data, tmp_path, monkeypatch):
    """Sounds and a picture at each validation; a judge's errors beside those of the original."""

    class Judge:
        def transcribe(self, wave):
            assert len(wave) > 1000
            return "a" if float(abs(wave).max()) > 0.2 else ""

    monkeypatch.setattr(ASR, "load", lambda name: SimpleNamespace(Engine=Judge))
    sets = ["train.max_steps=4", "stage.exchange_voices=true", "stage.judge=any", "train.ema=0.5"]
    sets += ["train.samples=2"]
    result = run(model, "output-1", data, tmp_path, *sets)
    assert {"val_wer", "val_wer_original", "val_perplexity"} <= set(result.metrics)
    assert 1.0 < result.metrics["val_perplexity"] <= tiny_models.CODES
    rows = [row for row in result.history if "codec.voice" in row]
    assert rows and rows[-1]["codec.voice"] > 0
    for step in (0, 4):
        folder = tmp_path / "samples" / f"step-{step:08d}"
        assert (
            len(list(folder.glob("*-original.wav"))) == len(list(folder.glob("*-codec.wav"))) == 2
        )
        assert (folder / "spectrograms.png").stat().st_size > 2000


def test_a_decoder_with_a_codec_is_heard(model, data, tmp_path):
    model.trained.add("codec")
    run(model, "output-2", data, tmp_path / "2", "train.samples=1", "train.validate_every=20")
    assert len(list((tmp_path / "2" / "samples" / "step-00000012").glob("*.wav"))) == 1
    model.speech_decoder.out.bias.data[model.speech_decoder.eos] = -100.0  # it has something to say
    run(model, "output-3", data, tmp_path / "3", "train.samples=1", "train.max_steps=2")
    assert len(list((tmp_path / "3" / "samples" / "step-00000002").glob("*.wav"))) == 1


@pytest.mark.parametrize("name", ["input-2", "output-3"])
def test_switches_that_do_not_change_what_is_learned(name, tiny_llm, data, tmp_path):
    cached = [f"train.cache_hidden={tmp_path / 'cache'}"]
    sets = {"plain": [], "recomputed": ["train.checkpointing=true"], "cached": cached}
    sets["again"] = cached  # from what is kept
    learned = {}
    for how, more in sets.items():
        model = fresh(tiny_llm)
        run(model, name, data, tmp_path / how, "train.max_steps=4", *more)
        learned[how] = model.state_dict()
        kept = list((tmp_path / "cache").rglob("*.safetensors"))
        assert bool(kept) == (more == cached and name == "output-3")
    plain = learned.pop("plain")
    for how, other in learned.items():
        for key, value in plain.items():
            assert torch.allclose(other[key], value, atol=1e-6), (how, key)


def test_values_on_disk_are_of_the_same_parts_texts_and_items(tiny_llm, data, tmp_path):
    """Fails if another LLM, system text, context or answer is given the values of the first."""
    made = {c: recipe("output-3", "tiny", overrides=[f"stage.context={c}"]) for c in CONTEXTS}
    typed, spoken = (made[c].stage.build() for c in CONTEXTS)
    model, other = fresh(tiny_llm), fresh(tiny_llm)
    prints = {"llm": {"frozen": "a"}, "adapter": {"frozen": "b"}}
    first = place(str(tmp_path), typed, model, prints)
    assert first == place(str(tmp_path), typed, other, prints | {"adapter": {"frozen": "c"}})
    moved = place(str(tmp_path), spoken, model, prints | {"adapter": {"frozen": "c"}})
    other.config = replace(other.config, llm=replace(other.config.llm, system="Be brief."))
    places = {
        first,
        moved,
        place(str(tmp_path), spoken, model, prints),
        place(str(tmp_path), typed, other, prints),
        place(str(tmp_path), typed, model, prints | {"llm": {"frozen": "c"}}),
    }
    assert len(places) == 5 and place("", typed, model, prints) is None
    item = data[0][1][0]
    values = iter(range(3))

    def compute(model, batch):
        return {"n": torch.tensor([next(values)])}

    def kept(one):
        cache = ItemCache(compute, folder=first)
        return int(cache.fill(model, {"items": [one]})["n"][0])

    assert [kept(item), kept(replace(item, answer="Never.")), kept(item)] == [0, 1, 0]


def test_a_plan_says_steps_memory_and_time(model, data):
    cfg = recipe("input-2", "tiny")
    sets = data[0][0], data[1][0]
    plan = plan_stage(model, cfg.stage.build(), cfg.train, *sets)
    assert 5 < plan["step"]["items"] <= 8 and plan["step"]["text_tokens"] > 10
    assert plan["reads"]["epochs"] * plan["step"]["batches_an_epoch"] == pytest.approx(12)
    memory = plan["memory_gb"]
    trained = plan["trainable_parameters"] * 4 / 2**30
    assert memory["gradients"] == pytest.approx(trained)
    assert memory["optimiser"] == pytest.approx(2 * trained)
    assert memory["activations"] > 0
    less = plan_stage(model, cfg.stage.build(), replace(cfg.train, checkpointing=True), *sets)[
        "memory_gb"
    ]
    assert less["activations"] < 0.8 * memory["activations"]
    found = measure(model, cfg.stage.build(), cfg.train, *sets)
    assert found["seconds"] == pytest.approx(12 * found["seconds_a_step"])


@pytest.mark.parametrize("size", RECIPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_loads_and_builds(name, size):
    found = recipe(name, size)
    stage = found.stage.build()
    assert stage.name == name and stage.objectives
    assert load(Recipe, to_dict(found)) == found
    assert shipped(name, size).read_text().startswith("#")


@pytest.mark.parametrize("size", RECIPES)
def test_every_shipped_model_loads(size):
    path = shipped("input-1").parents[2] / "models" / f"{size}.yaml"
    load(FreezeOmniConfig, read_yaml(path))


def test_the_papers_rates_are_the_defaults():
    rates = {name: recipe(name).stage.optim.lr for name in NAMES}
    assert list(rates.values()) == [2e-4, 1e-4, 6e-4, 2e-4, 5e-5, 5e-5]
    assert {n: recipe(n).stage.build().data for n in NAMES}["input-3"] == "states"


def test_faults_of_a_recipe_name_their_place(tmp_path):
    with pytest.raises(StageError, match="input-1.*did you mean"):
        recipe("inptu-1")
    with pytest.raises(ConfigError, match="train.max_step"):
        recipe("input-1", overrides=["train.max_step=3"])
    file = tmp_path / "mine.yaml"
    file.write_text("stage: {type: input-2}\n")
    with pytest.raises(StageError, match="is of stage input-2, not input-1"):
        recipe("input-1", file=file)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("stage.answers=false", "stage.states=0"), "input-3 trains nothing"),
        (("stage.answers=false", "stage.kl=1"), "stage.kl is 1, and stage.answers is false"),
    ],
)
def test_input_3_refuses_what_would_have_no_effect(sets, said):
    with pytest.raises(ConfigError, match=said):
        recipe("input-3", overrides=sets)
