"""Meanings of settings come from the comments beside the fields; every one has its own."""

from dataclasses import field

import pytest

from fo_core.config import config
from fo_core.config_docs import field_comments, settings
from fo_core.training.recipes import NAMES, settings_of


@config
class Inner:
    rate: float = 0.5  # Hz


@config
class Outer:
    """A config."""

    inner: Inner = Inner(rate=2.0)
    # above the field,
    # in two lines
    path: str = ""
    sizes: tuple[int, ...] = (  # beside an opening bracket
        1,
        2,
    )
    names: list[str] = field(default_factory=list)  # names; None = all
    bare: int | None = None


def test_comments_become_meanings_and_defaults_come_from_the_section_that_is_used():
    rows = {row.key: row for row in settings(Outer)}
    assert rows["inner.rate"].default == "2.0" and rows["inner.rate"].meaning == "Hz"
    assert rows["path"].meaning == "above the field, in two lines" and rows["path"].default == '""'
    assert (
        rows["sizes"].meaning == "beside an opening bracket" and rows["sizes"].default == "[1, 2]"
    )
    assert rows["names"].meaning == "names; null = all" and rows["names"].type == "list[str]"
    assert rows["bare"].default == "null" and rows["bare"].type == "int | null"
    assert "bare" not in field_comments(Outer)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_every_stage_says_what_it_means(name):
    rows = settings(settings_of(name))
    plain = {"stage.type"}
    assert [
        r.key for r in rows if not r.meaning and r.type != "section" and r.key not in plain
    ] == []
    by_key = {row.key: row for row in rows}
    assert by_key["train.max_steps"].default == "required"
    assert by_key["train.val_batch.size"].default == "16"
