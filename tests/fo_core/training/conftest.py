"""Tiny questions and answers, and one tiny LLM for all tests of the stages."""

import pytest
import tiny_models

from fo_core.models.llm.frozen_llm import FrozenLLM


@pytest.fixture(scope="session")
def tiny_llm():
    return FrozenLLM.load("tiny")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """(training, held out), each (questions, answers)."""
    folder = tmp_path_factory.mktemp("tiny-data")
    return tiny_models.tiny_items(folder, 64, seed=1), tiny_models.tiny_items(folder, 16, seed=2)


@pytest.fixture
def model(tiny_llm):
    made = tiny_models.tiny_model(llm=tiny_llm)
    made.trained |= {"speech_encoder", "ctc_head", "adapter", "speech_decoder"}
    return made
