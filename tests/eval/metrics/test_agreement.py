import pytest

from eval.metrics.agreement import agreement, agrees


def test_same_after_normalising():
    assert agrees("A spider has 8 legs.", "a spider has eight legs")
    assert not agrees("A spider has six legs.", "a spider has eight legs")
    assert not agrees("", "")  # a mute model agrees with nothing


def test_share():
    assert agreement(["Blue.", "red"], ["blue", "green"]) == 0.5
    with pytest.raises(ValueError):
        agreement([], [])
