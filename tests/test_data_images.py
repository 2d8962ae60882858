"""Every kind of pixel becomes RGB, and every bad file an error that names it and says why."""

import contextlib
import io
import os
import struct

import numpy as np
import pytest
from PIL import Image

from seanet.data.images import Header, image_size, read_closely, read_header, read_image, to_rgb
from seanet.errors import ImageError

RAMP = np.linspace(0, 255, 48 * 32).astype(np.uint8).reshape(32, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.fromarray(RAMP).convert("RGB" if mode == "P" else "L").convert(mode).save(path)
    pixels = read_image(path)
    assert (pixels.shape, pixels.dtype) == ((32, 48, 3), np.uint8)
    if mode not in ("1", "P"):
        assert np.array_equal(pixels[:, :, 0], RAMP)


def test_transparent_palette_and_alpha_are_dropped(tmp_path):
    Image.fromarray(RAMP).convert("P").save(tmp_path / "p.png", transparency=0)
    assert np.array_equal(read_image(tmp_path / "p.png")[:, :, 1], RAMP)
    Image.fromarray(np.dstack([RAMP, RAMP, RAMP, 255 - RAMP])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png")[:, :, 2], RAMP)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_modes_of_jpeg(tmp_path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.dstack([RAMP] * 3)).convert(mode).save(path, quality=95)
    assert np.abs(read_image(path)[:, :, 1].astype(int) - RAMP).mean() < 4


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tiff", "gif", "avif", "jpg"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"ein Bild \U0001f600.{suffix}"
    Image.fromarray(RAMP).save(path)
    assert np.abs(read_image(path)[:, :, 0].astype(int) - RAMP).mean() < 4
    assert image_size(path) == (32, 48)


def test_deep_grey_levels(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "16.png")
    Image.fromarray(deep).save(tmp_path / "16.tiff")
    Image.fromarray(RAMP.astype(np.int32) * 1000 - 5).save(tmp_path / "32.tiff")
    Image.fromarray(RAMP.astype(np.float32) / 255).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((4, 4), 3, np.float32)).save(tmp_path / "flat.tiff")
    for name in ("16.png", "16.tiff", "32.tiff", "float.tiff"):
        assert np.array_equal(read_image(tmp_path / name)[:, :, 0], RAMP), name
    assert not read_image(tmp_path / "flat.tiff").any()
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    with pytest.raises(ImageError, match=r"nan\.tiff holds values that are not finite"):
        read_image(tmp_path / "nan.tiff")


def test_first_frame_counts(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").max() == 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_exif_is_applied(tmp_path, name, orientation):
    path = tmp_path / "a"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "TIFF": {}, "PNG": {}}.get(name, {"quality": 100})
    Image.fromarray(np.dstack([RAMP] * 3)).save(path, name, exif=exif, **options)
    operation = [None, None, np.fliplr, lambda a: a[::-1, ::-1], np.flipud, np.transpose]
    operation += [lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].T, np.rot90]
    wanted = operation[orientation](RAMP) if orientation > 1 else RAMP

    def same(pixels: np.ndarray, expected: np.ndarray) -> bool:
        return pixels.shape[:2] == expected.shape and np.abs(pixels[:, :, 1].astype(int) - expected).max() <= 4

    assert same(read_image(path), wanted)
    assert same(read_image(path, size=wanted.shape), wanted)
    assert image_size(path) == wanted.shape
    assert read_header(path).stored == RAMP.shape
    if orientation > 4:
        assert same(read_image(path, size=RAMP.shape), RAMP)  # annotated before turning


def test_pixels_and_annotations_share_a_frame(tmp_path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(path, exif=exif)
    assert read_image(path, size=(48, 32)).shape == (48, 32, 3)
    assert np.array_equal(read_image(path, size=(32, 48))[:, :, 0], RAMP)
    with pytest.raises(ImageError, match=r"is 32 x 48 pixels, but its annotations say 50 x 32"):
        read_image(path, size=(32, 50))
    Image.fromarray(RAMP).save(path)
    with pytest.raises(ImageError, match="width and height"):
        read_image(path, size=(48, 32))


def test_jpeg_may_shrink_while_decoding(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RAMP.repeat(10, 0).repeat(10, 1)).save(path)
    assert read_image(path).shape == (320, 480, 3)
    assert read_image(path, short_side=75).shape == (80, 120, 3)
    assert read_image(path, short_side=400).shape == (320, 480, 3)
    Image.fromarray(RAMP.repeat(10, 0).repeat(10, 1)[:318, :476]).save(path)  # divided by two, not by four
    assert read_image(path, short_side=75).shape == (159, 238, 3)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><html>404</html>", "HTML"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "text": (b"hello", "text file"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
    "pdf": (b"%PDF-1.7\n%\xff\xff", "PDF"),
    "noise": (bytes(range(256)), "unknown format"),
    "truncated": (png()[:-40], "truncated"),
    "head only": (png()[:20], "."),
}


@pytest.mark.parametrize(("raw", "reason"), BAD.values(), ids=BAD)
def test_bad_files_are_named(tmp_path, raw, reason):
    path = tmp_path / "bad.jpg"
    path.write_bytes(raw)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.file == path
    assert caught.value.field == {"empty": "empty", "truncated": "damaged", "head only": "damaged"}.get(
        next(name for name, case in BAD.items() if case[0] == raw), "format"
    )


@pytest.mark.parametrize("error", [struct.error("s"), AssertionError("a"), AttributeError("b"), RecursionError("c")])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error):
    def load(image):
        raise error

    path = tmp_path / "a.png"
    path.write_bytes(png())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match=type(error).__name__) as caught:
        read_image(path)
    assert caught.value.file == path


def test_a_close_look(tmp_path):
    path, exif = tmp_path / "a.tiff", Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(RAMP).save(path, exif=exif)
    header, pixels, notes = read_closely(path)
    assert header == read_header(path) == Header("TIFF", (32, 48), (48, 32), 8)
    assert np.array_equal(pixels, read_image(path))
    assert notes == []
    frames = [Image.fromarray(np.roll(RAMP, 40 * i, 0)) for i in range(2)]
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])  # what cameras and telephones write
    header, pixels, notes = read_closely(tmp_path / "a.mpo")
    assert (header.format, pixels.shape, notes) == ("MPO", (32, 48, 3), [])


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"pipe": "not a regular file", "none": "does not exist", ".": "is a folder"}.items():
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="cannot be reached"):
        read_image(tmp_path / "a\0b")


def test_large_files_are_refused_from_their_header(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="more than max_pixels = 1,000"):
        read_image(tmp_path / "a.png", max_pixels=1000)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "bomb.png", max_pixels=10**12)


def test_damaged_files_raise_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    good, path = np.frombuffer(png(), np.uint8), tmp_path / "a.png"
    for _ in range(150):
        damaged = good.copy()
        damaged[rng.integers(8, len(good), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(ImageError):
            read_image(path)


def test_arrays():
    for array in (RAMP, RAMP[:, :, None], np.dstack([RAMP] * 3), np.dstack([RAMP] * 4), RAMP.astype(np.uint16) * 257):
        assert np.array_equal(to_rgb(array), np.dstack([RAMP] * 3))
    assert np.array_equal(to_rgb(RAMP / 255)[:, :, 0], RAMP)
    assert set(np.unique(to_rgb(RAMP > 9))) == {0, 255}
    for bad in (
        RAMP[0],
        np.zeros((3, 4, 5)),
        np.zeros((0, 4, 3)),
        RAMP / 1.0,
        np.full((2, 2), np.nan),
        RAMP.astype(int),
    ):
        with pytest.raises(ImageError):
            to_rgb(bad)


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def load(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match="takes more memory to decode than there is: make it smaller") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.field == "pixels"
