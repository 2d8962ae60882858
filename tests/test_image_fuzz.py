"""Damaged image files, drawn by hypothesis: each is read as an image or refused by an ImageError that names it."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made import picture
from seanet.data.images import image_size, read_closely, read_image
from seanet.errors import ImageError

FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}
SIZE = (48, 64)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def good(name: str) -> bytes:
    file = io.BytesIO()
    picture(3).save(file, name, **FORMATS[name])
    return file.getvalue()


def pixels_or_none(path: Path) -> np.ndarray | None:
    """Of ``read_image``, which has to agree with what else reads the file."""
    try:
        pixels = read_image(path)
    except ImageError:
        for read in (read_image, read_closely):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert str(caught.value).startswith(str(path))
            assert caught.value.file == path
            assert caught.value.field
        return None
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*image_size(path), 3)
    assert np.array_equal(read_closely(path)[1], pixels)
    return pixels


@quick
@given(name=st.sampled_from(list(FORMATS)), share=st.floats(0, 1))
@pytest.mark.filterwarnings("ignore:.*")  # of Pillow, about metadata
def test_truncated_files_lose_no_pixel_unnoticed(tmp_path, name, share):
    path = tmp_path / "a"
    path.write_bytes(good(name))
    whole = read_image(path)
    path.write_bytes(good(name)[: int(share * len(good(name)))])
    pixels = pixels_or_none(path)
    assert pixels is None or np.array_equal(pixels, whole)


@quick
@given(
    name=st.sampled_from(list(FORMATS)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore:.*")
def test_changed_bytes(tmp_path, name, changes):
    raw = bytearray(good(name))
    for place, change in changes:
        raw[place % len(raw)] ^= change
    (tmp_path / "a").write_bytes(raw)
    pixels_or_none(tmp_path / "a")


@quick
@given(
    first=st.sampled_from(list(FORMATS)),
    second=st.sampled_from(list(FORMATS)),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@pytest.mark.filterwarnings("ignore:.*")
def test_spliced_files(tmp_path, first, second, cuts):
    a, b = good(first), good(second)
    (tmp_path / "a").write_bytes(a[: int(cuts[0] * len(a))] + b[int(cuts[1] * len(b)) :])
    pixels_or_none(tmp_path / "a")
