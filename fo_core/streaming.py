"""The streaming contract, and the sizes of its chunks.

A streaming module has ``init_state(batch_size) -> XState`` and ``step(x, state) -> (y, state)``.
``XState`` is a dataclass whose tensors all have the batch as their first axis (nested dataclasses
and sequences of them are fine; other fields are settings). ``step`` returns a new state and never
writes into the old one: keeping a reference to a state *is* a snapshot of it. Nothing is kept in
the module, so one model serves every session.
"""

from __future__ import annotations

SAMPLE_RATE = 16000  # Hz, of everything the input branch hears
CHUNK_SAMPLES = 2560  # samples a chunk: 160 ms
FRAMES_PER_CHUNK = 16  # feature frames (10 ms) a chunk
ENCODER_FRAMES = 4  # encoder frames (40 ms) a chunk
CONTEXT_FRAMES = 3  # earlier feature frames that an encoder puts in front of a chunk
CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE
