"""Models on the hub: push, pull, revisions, the cache without a network, tokens never shown."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub, Repo
from huggingface_hub import ModelHubMixin

import fo_core
from fo_core import hub, shipped
from fo_core.errors import CheckpointError
from fo_core.models import freeze_omni
from fo_core.models.llm.tiny import tiny_folder

TOKEN = "hf_secretsecretsecretsecret"
LLM = "someone/tiny-llm"
SHAPE = {
    "llm": {"spec": LLM, "dtype": "float32"},
    "speech_encoder": {"type": "paper", "dim": 16, "heads": 2, "ffn": 32, "layers": 1, "left": 2},
    "ctc": {"tokens": list(range(97, 123))},
    "task": {"num": 2},
    "prompt": {"num": 3},
    "speech_decoder": {"dim": 32, "codes": 64, "heads": 2, "ffn": 48, "layers": 1},
    "codec": {
        "type": "istft",
        "encoder_dim": 16,
        "encoder_blocks": 1,
        "token_dim": 16,
        "token_blocks": 1,
        "frame_dim": 16,
        "frame_blocks": 1,
        "quantizer": {"dim": 8, "codes": 64},
        "global_quantizer": {"dim": 8, "codes": 16, "groups": 2},
    },
}
CARD = """---
license: apache-2.0
datasets:
- openslr/librispeech_asr
language: en
---

# Tiny

A card.
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the LLM on it, and this process as a client with the right token."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    made = Hub(TOKEN)
    llm = {p.name: p.read_bytes() for p in tiny_folder().iterdir() if p.is_file()}
    made.repos[LLM] = Repo(private=False)
    made.repos[LLM].commit("main", llm)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, made.url)
    for name, value in (
        ("ENDPOINT", made.url),
        ("HUGGINGFACE_CO_URL_TEMPLATE", template),
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_CACHE", str(tmp_path / "cache")),
        ("HF_HUB_DISABLE_XET", True),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    set_client_factory(_http.default_client_factory)  # made anew: not offline
    from huggingface_hub import hf_api

    monkeypatch.setattr(hf_api.api, "endpoint", made.url)
    yield made
    made.close()
    set_client_factory(_http.default_client_factory)


@pytest.fixture
def folder(server: Hub, tmp_path: Path) -> Path:
    """A tiny model around the LLM of the hub, with a card and things that are no part of it."""
    from fo_core.config import load

    place = tmp_path / "mine"
    freeze_omni.build(load(freeze_omni.FreezeOmniConfig, SHAPE)).save(place, freeze_omni.PARTS)
    (place / "README.md").write_text(CARD)
    (place / "dialogue.json").write_text('{"duplex": {"vad": "energy"}}')
    (place / ".env").write_text("SECRET=1")
    (place / "optimizer.pt").write_bytes(b"123")
    return place


def weights(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}


def test_push_then_pull_gives_equal_weights_and_fingerprints(server: Hub, folder: Path) -> None:
    done = hub.push(folder, "me/tiny")
    assert done.url and server.repos["me/tiny"].private
    assert set(done.left_out) == {".env", "optimizer.pt"}
    pulled = shipped.model_folder("me/tiny")
    assert weights(pulled) == weights(folder) and len(weights(pulled)) == len(freeze_omni.PARTS)
    assert (pulled / "dialogue.json").read_text() == '{"duplex": {"vad": "energy"}}'
    there, here = freeze_omni.load(pulled), freeze_omni.load(folder)
    assert there.llm.fingerprint() == here.llm.fingerprint()
    header, body = hub.split_card((pulled / "README.md").read_text())
    assert header["base_model"] == LLM and header["license"] == "apache-2.0"
    assert header["datasets"] == ["openslr/librispeech_asr"] and header["language"] == "en"
    assert header["metrics"] == ["wer", "accuracy"] and body.strip() == "# Tiny\n\nA card."
    assert not [name for name in server.repos["me/tiny"].commits if name.endswith(".env")]


def test_the_public_class_loads_saves_and_pushes_the_same_model(
    server: Hub, folder: Path, tmp_path: Path
) -> None:
    model = fo_core.Model.from_pretrained(folder)
    assert model.push_to_hub("me/mixed").startswith(server.url)
    again = fo_core.Model.from_pretrained("me/mixed")
    assert isinstance(again, ModelHubMixin) and again.network.config == model.network.config
    assert again.network.llm.fingerprint() == model.network.llm.fingerprint()
    again.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="me/again")
    assert weights(tmp_path / "saved") == weights(folder) == weights(hub.pull("me/again"))
    kept = {p.name for p in (tmp_path / "saved").iterdir()}
    assert {"config.json", "README.md", "dialogue.json"} <= kept and "optimizer.pt" not in kept
    with pytest.raises(CheckpointError, match="own folder"):
        model.save_pretrained(folder)
    assert (folder / "config.json").is_file()


def test_revisions_are_kept_apart_and_a_part_that_is_gone_is_deleted(
    server: Hub, folder: Path
) -> None:
    hub.push(folder, "me/tiny")
    repo = server.repos["me/tiny"]
    repo.refs["v1"] = repo.refs["main"]
    (folder / "ctc_head.safetensors").unlink()
    hub.push(folder, "me/tiny")
    assert "ctc_head.safetensors" not in weights(shipped.model_folder("me/tiny"))
    assert "ctc_head.safetensors" in weights(shipped.model_folder("me/tiny@v1"))
    assert weights(hub.pull(f"me/tiny@{repo.refs['v1']}")) == weights(hub.pull("me/tiny@v1"))
    hub.push(folder, "me/tiny", branch="trial")
    assert weights(hub.pull("me/tiny@trial")) == weights(folder)
    with pytest.raises(CheckpointError, match="has no revision v9"):
        hub.pull("me/tiny@v9")


def test_without_a_network_the_cache_is_used_and_what_it_lacks_is_said(
    server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push(folder, "me/tiny")
    pulled = hub.pull("me/tiny")
    server.close()
    assert hub.pull("me/tiny") == pulled  # the hub does not answer
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.pull("me/tiny") == pulled
    with pytest.raises(CheckpointError, match="not in the cache, and the hub cannot be reached"):
        hub.pull("me/other")


def test_a_private_model_needs_the_token_and_no_message_holds_one(
    server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "huggingface_hub")
    hub.push(folder, "me/tiny")
    wrong = "hf_wrongwrongwrongwrongwrong"
    monkeypatch.setenv("HF_TOKEN", wrong)
    said = []
    for call in (
        lambda: hub.pull("me/tiny"),
        lambda: hub.pull("me/tiny", token=wrong),
        lambda: hub.push(folder, "me/new"),  # this hub says the token back
        lambda: hub.push(folder, "me/new", token=wrong),
    ):
        with pytest.raises(CheckpointError) as caught:
            call()
        said.append(str(caught.value))
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert (
        all("private" in line for line in said[:2])
        and "Invalid username or password (Bearer ***)" in said[2]
    ), said
    text = " ".join(said) + caplog.text
    assert wrong not in text and TOKEN not in text and "\n" not in "".join(said)


def test_what_others_could_not_load_is_not_pushed(server: Hub, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["llm"]["spec"] = str(folder)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="others can't load.*--llm owner/name"):
        hub.push(folder, "me/tiny")
    plan = hub.push(folder, "me/tiny", llm=LLM, dry_run=True)
    assert f"base_model: {LLM}" in plan.card and plan.url is None
    (folder / "README.md").write_text("# no header")
    with pytest.raises(CheckpointError, match="names no licence"):
        hub.push(folder, "me/tiny", llm=LLM)
    asked = [line for line in server.asked if "me/tiny" in line or "create" in line]
    assert not asked  # neither the refusals nor the dry run asked the hub


def test_another_kind_of_model_is_named(server: Hub) -> None:
    with pytest.raises(CheckpointError, match="is no Freeze-Omni model"):
        shipped.model_folder(LLM)
    with pytest.raises(CheckpointError, match="no folder me/nobody, and the hub has no model"):
        shipped.model_folder("me/nobody")


def test_no_weights_of_another_kind_of_model_are_fetched(server: Hub) -> None:
    """`--model` with an LLM's name would bring gigabytes before it is refused."""
    server.repos[LLM].commit("main", {"config.json": b"{}", "model.safetensors": b"many"})
    with pytest.raises(CheckpointError, match="is no Freeze-Omni model"):
        hub.pull(LLM)
    assert any("config.json" in line for line in server.asked)
    assert not [line for line in server.asked if "safetensors" in line]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("user/repo", True),
        ("user/repo@v1.0", True),
        ("user/repo@refs/pr/1", True),
        ("runs/input-1/model", False),
        ("./user/repo", False),
        ("/user/repo", False),
        ("../repo", False),
        ("fo-smol", False),
        ("tests/support", False),
        ("mine/shape.yaml", False),
    ],
)
def test_names_of_the_hub(name: str, is_one: bool) -> None:
    assert hub.is_hub_name(name) is is_one
    assert hub.is_hub_name(Path("user/repo@v1"))  # as the commands have it


def test_the_command_pushes_and_takes_hub_ids(server: Hub, folder: Path, tmp_path: Path) -> None:
    """Processes of their own, as a user's: what they print holds no token either."""
    env = os.environ | {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    here = Path(__file__).parents[2]
    env["PYTHONPATH"] = str(here)

    def fo(*words: str) -> subprocess.CompletedProcess[str]:
        run = [sys.executable, "-c", "from fo_cli.main import app; app()", *words]
        done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert TOKEN not in done.stdout + done.stderr
        return done

    done = fo("models", "push", str(folder), "me/cli", "--dataset", "a/b", "--dry-run")
    assert done.returncode == 0 and "would go to me/cli (private" in done.stdout, done.stderr
    assert "- a/b" in done.stdout and "me/cli" not in server.repos
    done = fo("models", "push", str(folder), "me/cli")
    assert done.returncode == 0 and "not sent: .env, optimizer.pt" in done.stderr, done.stderr
    shutil.rmtree(folder)
    done = fo("models", "info", "me/cli", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["llm"]["spec"] == LLM
    env["HF_TOKEN"] = "hf_wrongwrongwrongwrongwrong"
    env["HF_HOME"] = str(tmp_path / "elsewhere")
    done = fo("models", "info", "me/cli")
    assert done.returncode == 1 and "has no model me/cli, or it is private" in done.stderr
    assert done.stderr.count("\n") == 1 and "hf_wrong" not in done.stderr
