"""What stands in one form of a report stands in the other; what is missing is said."""

import base64
import io
import re

import numpy as np
import soundfile

from fo_core.report.document import Document, Sample, Section, Sound, Table
from fo_core.report.writer import write_document


def test_a_section_of_text_alone_is_in_both(tmp_path):
    found = Document("T", "s", [Section("Not complete", "3 of 5 were measured.")])
    for path in write_document(tmp_path, found).values():
        assert "3 of 5 were measured." in path.read_text(), path


def test_a_sound_that_is_not_there_is_said_on_the_page(tmp_path):
    sample = Sample("one", {"said": "yes"}, [Sound("reply", tmp_path / "no.wav")])
    page = write_document(tmp_path, Document("T", "", [Section("Hear", samples=[sample])]))["html"]
    assert "no sound file" in page.read_text() and "<audio" not in page.read_text()


def test_of_a_long_recording_only_the_items_part_is_played(tmp_path):
    wave = np.concatenate([np.zeros(16000), np.full(8000, 0.5), np.zeros(8000)])
    soundfile.write(tmp_path / "long.wav", wave, 16000)
    part = {"start": 1.0, "duration": 0.5, "channel": 0}
    sample = Sample("one", {}, [Sound("a", tmp_path / "long.wav", part)], spectrograms=False)
    page = write_document(tmp_path, Document("T", "", [Section("Hear", samples=[sample])]))["html"]
    held = re.search('data:audio/flac;base64,([^"]*)', page.read_text())
    played, _ = soundfile.read(io.BytesIO(base64.b64decode(held[1])))
    assert len(played) == 8000 and abs(played - 0.5).max() < 1e-3


def test_numbers_stand_to_the_right(tmp_path):
    table = Table(("what", "n"), [("a|b", "1")], (1,))
    paths = write_document(tmp_path, Document("T", "", [Section("S", tables=[table])]), {"n": 1.5})
    assert "| --- | ---: |\n| a\\|b | 1 |" in paths["md"].read_text()
    assert '<td class="number">1</td>' in paths["html"].read_text()
    assert set(paths) == {"md", "html", "json"}
