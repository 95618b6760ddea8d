"""Our mel filters, trimming and pitch against librosa 0.11.0, whose values are written down here.

librosa itself is no dependency: with numba, LLVM, scipy and scikit-learn it would add 410 MB.
"""

from pathlib import Path

import pytest
import torch

import fo_cli
from eval.metrics.voice import pitch
from fo_core.features import slaney_filters
from fo_core.io import audio

# filters.mel(sr=16000, n_fft=SIZE, n_mels=BANDS, fmin=0, fmax=8000): (bin, band, value) of some,
# their sum, the sum of their squares
FILTERS = {
    (80, 400): (((3, 2, 0.02088095061480999), (40, 38, 0.01485429983586073),
                 (100, 62, 0.006172718480229378), (190, 79, 0.0022320549469441175)),
                1.9990241527557373, 0.021185515448451042),
    (40, 512): (((3, 0, 0.009864136576652527), (40, 16, 0.005329009145498276),
                 (100, 28, 0.00246043736115098), (190, 36, 0.0020783543586730957)),
                1.2793331146240234, 0.006993395276367664),
}  # fmt: skip
# effects.trim(top_db=40, frame_length=320, hop_length=160), and the median of pyin's voiced frames
# (fmin=60, fmax=400, frame_length=1024), of the bundled recordings by name
HEARD = ((5280, 21440, 122.8), (5440, 41760, 191.6), (5120, 43040, 78.7), (5920, 31680, 116.6),
         (5440, 31360, 200.7), (5440, 43680, 191.6), (5760, 39040, 93.1),
         (5280, 40320, 137.8))  # fmt: skip


@pytest.mark.parametrize("shape", FILTERS)
def test_mel_filters_are_librosas(shape):
    bands, size = shape
    found = slaney_filters(bands, size)
    values, total, squares = FILTERS[shape]
    for row, column, value in values:
        assert float(found[row, column]) == pytest.approx(value, rel=1e-6)
    assert float(found.double().sum()) == pytest.approx(total, rel=1e-6)
    assert float(found.double().square().sum()) == pytest.approx(squares, rel=1e-6)
    assert found.shape == torch.Size([size // 2 + 1, bands])


def test_trimming_and_pitch_are_librosas_to_a_frame_and_a_semitone():
    paths = sorted((Path(fo_cli.__file__).parent / "spoken_questions").glob("*.ogg"))
    for path, (start, end, hertz) in zip(paths, HEARD, strict=True):
        wave = audio.read(path)
        ours = audio.speech_bounds(wave, 16000)
        assert abs(ours[0] - start) <= 160 and abs(ours[1] - end) <= 160, path
        assert pitch(wave) == pytest.approx(hertz, rel=2 ** (1 / 12) - 1), path
