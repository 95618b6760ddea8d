"""Configuration: unknown keys, dotted overrides and all faults at once."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from fo_core.config import config, load, merge, read_yaml, renamed, to_dict
from fo_core.errors import ConfigError


@config
class Small:
    type: Literal["small"] = "small"
    width: int = 4  # channels


@config
class Large:
    type: Literal["large"] = "large"
    scale: float = 1.0  # ratio


@config
class Root:
    part: Annotated[Small | Large, Field(discriminator="type")] = Small()
    steps: int = 1  # count


def test_round_trip_and_overrides() -> None:
    cfg = load(Root, {"part": {"type": "large"}}, ["part.scale=2.5", "steps=7"])
    assert cfg == Root(part=Large(scale=2.5), steps=7)
    assert load(Root, to_dict(cfg)) == cfg


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key step .*did you mean 'steps'"):
        load(Root, {}, ["step=3"])


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Root, {"steps": "many", "part": {"type": "small", "depth": 1}})
    assert "steps" in str(caught.value) and "depth" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["steps", "=3", "steps.deep=1"])
def test_a_malformed_override_is_an_error(bad: str) -> None:
    with pytest.raises(ConfigError):
        load(Root, {"steps": 1}, [bad])


@pytest.mark.parametrize("bad", ["nan", ".inf", "-.inf", ".nan", "inf"])
def test_nan_and_infinity_are_refused(bad: str) -> None:
    """A growth of NaN passed `growth < 1`; one of infinity ended in an OverflowError."""
    with pytest.raises(ConfigError, match="part.scale: Input should be a finite number"):
        load(Root, {"part": {"type": "large"}}, [f"part.scale={bad}"])


def test_merge_replaces_a_section_of_another_type() -> None:
    base = {"part": {"type": "small", "width": 8}, "steps": 2}
    assert merge(base, {"part": {"width": 9}}) == {
        "part": {"type": "small", "width": 9},
        "steps": 2,
    }
    assert merge(base, {"part": {"type": "large"}})["part"] == {"type": "large"}


def test_yaml_faults_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1,\n b")
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") == {}
    for name in ("list.yaml", "broken.yaml", "absent.yaml"):
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_overrides_leave_the_caller_s_mapping_alone():
    """They used to be written into its sections, and into the next config made from it."""
    from fo_core.models.freeze_omni import FreezeOmniConfig

    data = {"llm": {"dtype": "float32"}}
    assert load(FreezeOmniConfig, data, ["llm.dtype=float16"]).llm.dtype == "float16"
    assert data == {"llm": {"dtype": "float32"}}


@config
class Many:
    parts: dict[str, Annotated[Small | Large, Field(discriminator="type")]]


def test_a_chosen_type_is_not_part_of_a_path_and_its_own_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key part\.widht .*did you mean 'width'"):
        load(Root, {"part": {"type": "small", "widht": 1}})
    parts = {"one": {"type": "large", "scael": 1.0, "scale": "x"}}
    with pytest.raises(ConfigError, match=r"unknown key parts\.one\.scael .*'scale'") as caught:
        load(Many, {"parts": parts})
    assert "parts.one.scale: " in str(caught.value)


def test_a_renamed_key_is_refused_with_its_name_of_now():
    from fo_core.training.optim import OptimConfig

    with pytest.raises(ConfigError, match="flat is plateau_ratio now"):
        load(OptimConfig, {"flat": 0.3})
    assert renamed({"optim": [{"hold": {"a.*": 3}}]}) == {"optim": [{"freeze_steps": {"a.*": 3}}]}


def test_an_old_name_in_a_section_that_never_had_it_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"unknown key flat \(known: .*width") as caught:
        load(Small, {"flat": 0.3})
    assert "plateau_ratio" not in str(caught.value)
