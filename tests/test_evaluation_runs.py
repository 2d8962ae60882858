"""Run lengths of many masks at once are those of each alone, and what is malformed is found where it is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from found import rle
from seanet.data.bitmaps import unpack_counts
from seanet.evaluation.runs import unpack


def noise(rng: np.random.Generator) -> str:
    return "".join(map(chr, rng.integers(40, 120, rng.integers(1, 12))))


def mask(rng: np.random.Generator) -> str:
    height, width = rng.integers(1, 400, 2)
    return rle((rng.random((height, width)) < rng.choice([0, 0.001, 0.3, 1])).astype(np.uint8))["counts"]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_many_at_once_are_each_alone(number, seed):
    """Masks between texts of any characters."""
    rng = np.random.default_rng(seed)
    texts = [mask(rng) if rng.random() < 0.6 else noise(rng) for _ in range(number)]
    runs = unpack(texts)
    alone = [unpack_counts(text) for text in texts]
    assert runs.sound.tolist() == [counts is not None and counts.min() >= 0 for counts in alone]
    for counts, sound, first, length in zip(alone, runs.sound, runs.first, runs.number, strict=True):
        if counts is not None and sound:
            assert runs.counts[first : first + length].tolist() == counts.tolist()
    for counts, sound, pixels in zip(alone, runs.sound, runs.pixels, strict=True):
        assert not sound or counts is None or counts.sum() == pixels


def test_characters_beyond_ascii_are_malformed():
    texts = ["52203", "5é", b"52203", "5é203", "5\ud8002", "52203"]
    assert unpack(texts).sound.tolist() == [True, False, True, False, False, True]
