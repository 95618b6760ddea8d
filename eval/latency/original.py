"""What the original program takes, as data: it was measured once, and is not run here.

(one thread, two threads); None was not measured. The LLM, the codec and the cut search are the same
at both sizes; a chunk counts features, encoder and adapter.
"""

from __future__ import annotations

MACHINE = (
    "original: two shared cores of an AMD EPYC with AVX-512, otherwise idle, float32, random "
    "weights of the same sizes, torch 2.13, transformers 4.45, repeat runs within 10 %"
)
Pair = tuple[float | None, float | None]

SAME: dict[str, Pair] = {
    "llm_chunk_30": (75, 76),
    "llm_chunk_800": (81, None),
    "llm_chunk_2000": (98, None),
    "llm_token_30": (43, 47.5),
    "llm_token_800": (49, None),
    "llm_token_2000": (74, None),
    "codec_30": (240, 150),
    "codec_50": (400, 247),
    "codec_60": (489, 297),
    "cut": (20, 20),
}
ORIGINAL: dict[str, dict[str, Pair]] = {
    "small": {
        **SAME,
        "chunk_5": (45.4, 50.6),
        "chunk_20": (47.4, 40.6),
        "chunk_60": (41.4, 35.6),
        "listen": (118, 117),
        "prefill": (177, 127),
        "ar_10": (70, 67),
        "ar_210": (60, 63),
        "first_40": (1880, 1720),
        "first_40_listen": (120, None),
        "first_40_speak": (680, None),
        "first_40_codec": (420, None),
        "first_20": (1490, 1310),
    },
    "paper": {
        **SAME,
        "chunk_5": (270.4, 240.6),
        "chunk_20": (280.4, 245.6),
        "chunk_60": (275.4, 245.6),
        "listen": (330, 335),
        "prefill": (360, 232),
        "ar_10": (36, 39),
        "ar_210": (35, 43),
        "first_40": (2600, 2600),
        "first_20": (2150, 2130),
    },
}


def original(size: str, key: str, threads: int) -> float | None:
    """The original program's figure beside a row, ms or tokens a second."""
    pair = ORIGINAL.get(size, {}).get(key)
    return pair[threads - 1] if pair and threads in (1, 2) else None
