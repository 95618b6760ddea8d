import os
from pathlib import Path

import pytest

from fo_cli import options
from fo_cli.options import existing_data, existing_file, existing_folder, writable
from fo_core.errors import FoError


def test_existing(tmp_path):
    file = tmp_path / "a.wav"
    with pytest.raises(FoError, match="question .*a.wav does not exist"):
        existing_file(file, "question")
    with pytest.raises(FoError, match="is a folder"):
        existing_file(tmp_path, "question")
    file.write_text("")
    assert existing_file(file, "question") == file
    with pytest.raises(FoError, match="model folder .* is not a folder"):
        existing_folder(file, "model folder")


def test_a_place_to_write_may_not_exist_yet(tmp_path):
    assert writable(tmp_path / "a" / "b.wav", "reply")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FoError, match="is not a folder"):
        writable(tmp_path / "file" / "b.wav", "reply")
    with pytest.raises(FoError, match=r"reply .*b.mp3: .* kind; possible: .wav, .flac"):
        writable(tmp_path / "b.mp3", "reply", ".wav", ".flac")
    (tmp_path / "link.wav").symlink_to(tmp_path / "file")
    with pytest.raises(FoError, match="reply .*link.wav: that is what is read"):
        writable(tmp_path / "link.wav", "reply", ".wav", read=[tmp_path / "file"])
    (tmp_path / "c.wav").mkdir()
    with pytest.raises(FoError, match=r"reply .*c.wav: there is a folder"):
        writable(tmp_path / "c.wav", "reply", ".wav", ".flac")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(FoError, match="read-only"):
        writable(tmp_path / "b.wav", "reply")
    tmp_path.chmod(0o755)


def test_data_is_a_manifest_or_a_set_of_shards(tmp_path):
    shar = tmp_path / "s"
    shar.mkdir()
    with pytest.raises(FoError, match="is a folder"):
        existing_data(shar, "training manifest")
    (shar / "cuts.000000.jsonl.gz").touch()
    (shar / "recording.000000.tar").touch()
    url = Path("https://host/shards")
    for path in (shar, url):
        assert existing_data(path, "training manifest") == path


@pytest.mark.parametrize(
    ("asked", "small", "threads"), [("", True, 1), ("3", True, 3), ("", False, 3)]
)
def test_a_small_llm_talks_on_one_thread(monkeypatch, tiny_model, asked, small, threads):
    """fo-smol's first audio came after 294 ms on two threads, 174 on one."""
    import torch

    from fo_core.dialogue.settings import read_dialogue

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    if not small:
        monkeypatch.setattr(options, "SMALL", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        options.ready_model(tiny_model, read_dialogue(tiny_model), parts=())
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
