"""One table: names of the published tensors ↔ names of our parameters, read in both directions.

A placeholder stands for the same text on both sides: ``{i}``, ``{j}`` a number, ``{w}`` weight or
bias, ``{rest}`` anything. Rules are tried in order; the first that fits decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

PLACEHOLDERS = {"i": r"\d+", "j": r"\d+", "w": "weight|bias", "rest": ".+"}

AUDIOLLM, DECODER, CODEC = "audiollm", "decoder", "codec"  # folders of a published checkpoint


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    text = "".join(
        f"(?P<{part}>{PLACEHOLDERS[part]})" if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )
    return re.compile(text)


@dataclass(frozen=True)
class Rule:
    """One line of the table."""

    file: str  # audiollm, decoder or codec
    published: str  # name in that file (codec: with its group)
    module: str  # attribute of FreezeOmni
    ours: str  # name inside that module

    @cached_property
    def _published(self) -> re.Pattern[str]:
        return _pattern(self.published)

    @cached_property
    def _ours(self) -> re.Pattern[str]:
        return _pattern(self.ours)

    def to_ours(self, name: str) -> str | None:
        """Our name of a published one, if the rule fits."""
        match = self._published.fullmatch(name)
        return self.ours.format(**match.groupdict()) if match else None

    def to_published(self, name: str) -> str | None:
        """The published name of one of ours, if the rule fits."""
        match = self._ours.fullmatch(name)
        return self.published.format(**match.groupdict()) if match else None


def _rules(file: str, module: str, lines: str, before: str = "", inside: str = "") -> list[Rule]:
    """One rule a line: published name (behind ``before``), our name (behind ``inside``)."""
    pairs = (line.split() for line in lines.splitlines() if line.strip())
    return [Rule(file, before + theirs, module, inside + ours) for theirs, ours in pairs]


ENCODER = _rules(
    AUDIOLLM,
    "speech_encoder",
    """
    global_cmvn.{rest}                              cmvn.{rest}
    enc.0.core.conv.0.{w}                           subsampling.conv1.{w}
    enc.0.core.conv.2.{w}                           subsampling.conv2.{w}
    enc.0.core.out.0.{w}                            subsampling.out.{w}
    enc.1.embed.0.{w}                               input.linear.{w}
    enc.1.embed.1.{w}                               input.norm.{w}
    enc.1.encoders.{i}.self_attn.linear_q.{w}       layers.{i}.attention.query.{w}
    enc.1.encoders.{i}.self_attn.linear_k.{w}       layers.{i}.attention.key.{w}
    enc.1.encoders.{i}.self_attn.linear_v.{w}       layers.{i}.attention.value.{w}
    enc.1.encoders.{i}.self_attn.linear_out.{w}     layers.{i}.attention.out.{w}
    enc.1.encoders.{i}.self_attn.linear_pos.{w}     layers.{i}.attention.position.{w}
    enc.1.encoders.{i}.self_attn.pos_bias_u         layers.{i}.attention.bias_u
    enc.1.encoders.{i}.self_attn.pos_bias_v         layers.{i}.attention.bias_v
    enc.1.encoders.{i}.feed_forward.w_1.{w}         layers.{i}.ffn_in.{w}
    enc.1.encoders.{i}.feed_forward.w_2.{w}         layers.{i}.ffn_out.{w}
    enc.1.encoders.{i}.norm1.{w}                    layers.{i}.norm1.{w}
    enc.1.encoders.{i}.norm2.{w}                    layers.{i}.norm2.{w}
    enc.1.encoders.{i}.concat_linear.{w}            layers.{i}.concat.{w}
    enc.1.after_norm.{w}                            norm.{w}
    """,
    before="encoder.",
)
ADAPTER = _rules(
    AUDIOLLM,
    "adapter",
    """
    conv1d1.{w}                                     conv1.{w}
    bn1.{rest}                                      norm1.{rest}
    conv1d2.{w}                                     conv2.{w}
    bn2.{rest}                                      norm2.{rest}
    project.{w}                                     project.{w}
    """,
    before="adpter.",
)
PROMPT = [Rule(AUDIOLLM, "prompt_embeddings.weight", "prompt", "weight")]
STATE_HEAD = [Rule(AUDIOLLM, "predictor_head.{w}", "state_head", "head.{w}")]
SPEECH_DECODER = _rules(
    DECODER,
    "speech_decoder",
    """
    embedding.weight                                embedding.weight
    layers_pre_nn.{i}.{rest}                        pre_network.layers.{i}.{rest}
    layers_prefix.{i}.{rest}                        prefix.layers.{i}.{rest}
    layers.{i}.{rest}                               decoder.layers.{i}.{rest}
    norm.weight                                     norm.weight
    out_fnn.{w}                                     out.{w}
    """,
)


def _normed(*names: str) -> str:
    """Convolutions with weight norm: length g, direction v, bias."""
    lines = """
    {0}.weight_g {0}.parametrizations.weight.original0
    {0}.weight_v {0}.parametrizations.weight.original1
    {0}.bias {0}.bias
    """
    return "".join(lines.replace("{0}", name) for name in names)


STACK = _normed(
    "conv_pre",
    "ups.{i}",
    "resblocks.{i}.convs.{j}",
    "resblocks.{i}.convs1.{j}",
    "resblocks.{i}.convs2.{j}",
)
GENERATOR = _rules(
    CODEC, "codec", STACK + _normed("conv_post"), before="generator.", inside="generator."
)
CODEC_ENCODER = _rules(
    CODEC,
    "codec",
    STACK
    + """
    conv_post.{w}                                   conv_post.{w}
    normalize.{i}.{w}                               normalize.{i}.{w}
    GlobalTokenEncoder.{rest}                       global_encoder.{rest}
    """,
    before="encoder.",
    inside="encoder.",
)
QUANTIZER = _rules(
    CODEC,
    "codec",
    """
    quantizer_modules.{i}.embedding.weight              quantizer.codebooks.{i}.weight
    quantizer_modules_globaltokens.{i}.embedding.weight global_quantizer.codebooks.{i}.weight
    """,
    before="quantizer.",
)

RULES: list[Rule] = [
    *ENCODER,
    *ADAPTER,
    *PROMPT,
    *STATE_HEAD,
    *SPEECH_DECODER,
    *GENERATOR,
    *QUANTIZER,
    *CODEC_ENCODER,
]

# Published tensors that no module of ours has: file, name pattern, why.
UNUSED: list[tuple[str, re.Pattern[str], str]] = [
    (AUDIOLLM, re.compile(r"task_embeddings\..+"), "task embeddings: training only"),
    (AUDIOLLM, re.compile(r"ctc\..+"), "CTC head of another vocabulary: training only"),
    (CODEC, re.compile(r"encoder\.linear\..+"), "a layer that the codec's encoder never runs"),
]

# Our tensors that no published file has: how a quantiser learned its codes.
OWN = re.compile(r"(.+\.)?codebooks\.\d+\.(idle|started|usage|sums)")


def to_ours(file: str, name: str) -> tuple[str, str] | None:
    """Module and name of a published tensor; None if the table does not know it."""
    for rule in RULES:
        if rule.file == file and (ours := rule.to_ours(name)):
            return rule.module, ours
    return None


def to_published(module: str, name: str) -> tuple[str, str] | None:
    """File and name of one of our tensors; None if the table does not know it."""
    for rule in RULES:
        if rule.module == module and (published := rule.to_published(name)):
            return rule.file, published
    return None


def unused(file: str, name: str) -> str | None:
    """Why a published tensor is not used; None if it should be."""
    for where, pattern, reason in UNUSED:
        if where == file and pattern.fullmatch(name):
            return reason
    return None
