"""The paper's adapter: streaming equals the whole, in both forms."""

from __future__ import annotations

import pytest
import torch

from fo_core.models.adapter.conv_adapter import ConvAdapter, ConvAdapterConfig

CASES = [
    ConvAdapterConfig(),
    ConvAdapterConfig(norm="batch", activation="relu"),
    ConvAdapterConfig(convs="two", kernel=3),
]


@pytest.mark.parametrize("cfg", CASES, ids=["layer-gelu", "batch-relu", "two"])
def test_stream_equals_whole(cfg: ConvAdapterConfig) -> None:
    torch.manual_seed(0)
    adapter = ConvAdapter(cfg, 12, 20)
    for module in adapter.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    adapter.eval()
    x = torch.randn(2, 24, 12)
    whole, lens = adapter(x, torch.tensor([24, 15]))
    assert whole.shape == (2, 12, 20) and lens.tolist() == [12, 8]
    state, parts = adapter.init_state(2), []
    for piece in x.split(4, 1):
        y, n, state = adapter.step(piece, state)
        assert n.tolist() == [2, 2]
        parts.append(y)
    stream = torch.cat(parts, 1)
    assert torch.allclose(stream[0], whole[0], atol=1e-6)
    assert torch.allclose(stream[1, :7], whole[1, :7], atol=1e-6)  # row 1 ends at frame 15
    assert adapter.flush(state)[0].shape == (2, 0, 20)


def test_the_number_of_convolutions_follows_the_widths() -> None:
    assert ConvAdapter(ConvAdapterConfig(), 16, 64).conv1 is None
    assert ConvAdapter(ConvAdapterConfig(), 16, 65).conv1 is not None
