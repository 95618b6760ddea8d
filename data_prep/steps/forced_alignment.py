"""Times of letters from a CTC head's scores: the best path through the pieces of a known text."""

from __future__ import annotations

import numpy as np

from fo_core.models.encoder.vocabulary import PieceVocabulary

FRAME = 0.04  # s of an encoder frame
ONSET = 0.06  # s by which a sound begins before the frame that is surest of it
DECAY = 0.12  # s by which the last sound goes on behind its frame


def best_path(logs: np.ndarray, classes: list[int]) -> list[int] | None:
    """Frame at which each class of a text is surest, along the likeliest CTC path.

    Args:
        logs: Log-probabilities ``[T, V]``, class 0 is blank.
        classes: Of the text, in order.

    Returns:
        None where T frames cannot say the text.
    """
    states = [0]
    for one in classes:
        states += [one, 0]
    T, S = len(logs), len(states)
    skip = np.array([i >= 2 and states[i] > 0 and states[i] != states[i - 2] for i in range(S)])
    score = np.full(S, -np.inf)
    score[: min(2, S)] = logs[0, states[:2]]
    came = np.zeros((T, S), dtype=np.int8)  # states stepped over since the frame before
    emitted = logs[:, states]
    for t in range(1, T):
        before = np.concatenate(([-np.inf], score[:-1]))
        two = np.where(skip, np.concatenate(([-np.inf, -np.inf], score[:-2]))[:S], -np.inf)
        options = np.stack([score, before, two])
        came[t] = options.argmax(0)
        score = options.max(0) + emitted[t]
    state = S - 1 if S == 1 or score[S - 1] >= score[S - 2] else S - 2
    if not np.isfinite(score[state]):
        return None
    surest: dict[int, tuple[float, int]] = {}
    for t in range(T - 1, -1, -1):
        if state % 2:
            place = state // 2
            surest[place] = max(surest.get(place, (-np.inf, 0)), (float(emitted[t, state]), t))
        state -= int(came[t, state])
    return [surest[i][1] for i in range(len(classes))]


def letter_ends(
    logs: np.ndarray, vocabulary: PieceVocabulary, said: str, text: str
) -> list[float] | None:
    """Seconds at which the start and every letter of a text end.

    A piece's time reaches halfway to its neighbours'; its letters share it evenly.

    Args:
        logs: Log-probabilities ``[T, V]``.
        vocabulary: Of the CTC head.
        said: The text as the head writes it.
        text: Its letters as the speech decoder reads them, word by word the same.

    Returns:
        None where the sound is too short for the text, or the two have other words.
    """
    written, read = said.split(), text.split()
    if len(written) != len(read):
        return None
    classes = [vocabulary.encode(word) for word in written]
    frames = best_path(logs, [c for word in classes for c in word])
    if frames is None or not frames:
        return None
    times = [(frame + 0.5) * FRAME for frame in frames]
    edges = [times[0] - ONSET]
    edges += [(a + b) / 2 for a, b in zip(times, times[1:], strict=False)]
    edges.append(min(times[-1] + DECAY, len(logs) * FRAME))
    ends, place = [max(0.0, edges[0])], 0
    for number, (word, pieces) in enumerate(zip(read, classes, strict=True)):
        begin, end = edges[place], edges[place + len(pieces)]
        place += len(pieces)
        shown = (" " if number else "") + word
        ends += [begin + (end - begin) * (i + 1) / len(shown) for i in range(len(shown))]
    return ends
