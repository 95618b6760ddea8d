import numpy as np
import pytest

from data_prep import gates
from data_prep.gates import GateFault, Judge, JudgeConfig, as_wave, length_fault, sound_fault
from fo_core.engines.asr import ASR
from fo_core.engines.tts import TTS
from fo_core.errors import EngineError

TONE = (0.2 * np.sin(np.arange(16000) / 20)).astype(np.float32)


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (None, "no sound"),
        (np.zeros(0, np.float32), "no sound"),
        (np.full(99, np.nan, np.float32), "not numbers"),
        (np.append(TONE, np.inf).astype(np.float32), "not numbers"),
        ((TONE * 32767).astype(np.int16), "not a wave .int16 of 1 dim"),
        (TONE[None], "not a wave .float32 of 2 dim"),
        (TONE + 1j, "not a wave .complex"),
        (TONE * 32767, "beyond full scale .up to 6"),
        ("sound", "not a wave"),
        ([[1.0], [1.0, 2.0]], "not a wave"),
        ({"audio": 1}, "not a wave"),
    ],
)
def test_what_is_no_wave(sound: object, reason: str) -> None:
    with pytest.raises(GateFault, match=reason):
        as_wave(sound)


def test_a_wave_of_double_precision_is_taken() -> None:
    assert as_wave(TONE.astype(np.float64)).dtype == np.float32
    assert np.array_equal(as_wave(TONE), TONE)


def test_silence_and_clipping() -> None:
    assert sound_fault(TONE, -55, 0.002) == ""
    assert sound_fault(TONE * 1e-3, -55, 0.002).startswith("silence (-7")
    assert sound_fault(np.sign(TONE), -55, 0.002).startswith("clipped (100")
    few = TONE.copy()
    few[:10] = 1.0
    assert sound_fault(few, -55, 0.002) == ""


def test_length_goes_by_language() -> None:
    english, chinese = gates.pace_of(gates.GateConfig(), "en-US"), gates.PACE["zh"]
    text = "一二三四五六七八九十一二三四五六"
    assert length_fault(text, 4.0, *chinese) == ""
    assert "too short" in length_fault(text, 1.0, *chinese)
    assert "too long" in length_fault(text, 12.0, *chinese)
    assert "too long" in length_fault("Hello there.", 4.0, *english)
    assert "too short" in length_fault("What is the capital of France?", 0.5, *english)
    assert length_fault("Yes.", 0.05, *english) == "" == length_fault("Yes.", 0.9, *english)


class Hears:
    """A recogniser that hears what it is told."""

    heard = ""

    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def transcribe(self, wave: np.ndarray) -> str:
        return Hears.heard


def test_the_judge_counts_letters_heard_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type("module", (), {"Engine": Hears})
    monkeypatch.setattr(ASR, "load", lambda name: module)
    judge = Judge(JudgeConfig(engine="any", cer=0.3))
    Hears.heard = "At 3:30 P.M., 8 people!"
    assert judge.check(TONE, 16000, "At three thirty P M, eight people.", "en") == 0.0
    Hears.heard = "at three thirty pm a people"
    assert 0 < judge.cer(TONE, 16000, "At three thirty P M, eight people.", "en") < 0.3
    Hears.heard = "something else altogether"
    with pytest.raises(GateFault, match=r"not understood \(CER [01]\.\d\d\)"):
        judge.check(TONE, 16000, "At three thirty P M, eight people.", "en")
    Hears.heard = ""
    assert judge.cer(TONE, 16000, "Hello.", "en") == 1.0
    assert judge._of("en").settings == {"model": None, "language": "en", "device": "cpu"}


def test_nobody_listens_unless_asked() -> None:
    assert gates.open_judge(JudgeConfig()) is None
    with pytest.raises(EngineError, match="unknown speech recogniser"):
        gates.open_judge(JudgeConfig(engine="nobody"))
    with pytest.raises(EngineError, match="lets nothing through"):
        gates.open_judge(JudgeConfig(engine="pocketsphinx", cer=0.0))


def test_a_real_recogniser_tells_right_from_wrong() -> None:
    """Fails if the judge would let the wrong sentence through, or hold the right one back."""
    try:
        voice = TTS.load("flite").Engine()
        judge = gates.open_judge(JudgeConfig(engine="faster-whisper"))
        assert judge is not None
        wave = voice.synthesize("The meeting is on March fifteenth at ten oh five.", "slt")
        right = judge.cer(
            wave, voice.rate, "The meeting is on March fifteenth at ten oh five.", "en"
        )
    except EngineError as error:
        pytest.skip(f"not on this machine: {error}")
    wrong = judge.cer(wave, voice.rate, "A spider has eight legs, as you know.", "en")
    assert right < 0.3 < 0.6 < wrong
