"""Bytes of all kinds given to the readers of pictures and arrays: they are read, or refused in one line.

A minute of it:  FROMNOISE_FUZZ=60 pytest tests/data/test_fuzz_readers.py
"""

import io
import os
import tarfile
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fromnoise.data import open as open_data
from fromnoise.data.decode import Decoder, Unreadable
from fromnoise.errors import FromnoiseError

SECONDS = float(os.environ.get("FROMNOISE_FUZZ", "2"))
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
MANY = settings(max_examples=10**6, deadline=None, suppress_health_check=SUPPRESSED, database=None, derandomize=True)


def encoded(kind, mode, array):
    """A picture's file."""
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, kind)
    return file.getvalue()


def seeds():
    """Whole files of every kind, which are then spoilt."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    pictures = [encoded(kind, mode, pixels) for kind, mode in (
        ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("PNG", "LA"), ("JPEG", "L"), ("JPEG", "CMYK"),
        ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "F"), ("TIFF", "RGB"), ("WEBP", "RGB"), ("PPM", "L"), ("ICO", "RGBA"),
    )]  # fmt: skip
    npy, npz, tar, zipped = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.zeros((3, 1, 4, 4), np.uint8))
    np.savez(npz, x=np.zeros((3, 1, 4, 4), np.uint8), labels=np.arange(3))
    with tarfile.open(fileobj=tar, mode="w:gz") as archive, zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as other:
        for k, content in enumerate(pictures[:4]):
            entry = tarfile.TarInfo(f"a/{k}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            other.writestr(f"b/{k}.png", content)
    return pictures, [(npy.getvalue(), ".npy"), (npz.getvalue(), ".npz"), (tar.getvalue(), ".tar.gz"),
                      (tar.getvalue(), ".tgz"), (zipped.getvalue(), ".zip"), (b"1,2\n3,4\n" * 9, ".csv")]  # fmt: skip


PICTURES, CONTAINERS = seeds()


@st.composite
def spoilt(draw, whole):
    """A whole file with bytes changed, cut out, put in, or its end cut off."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 6))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        what = draw(st.integers(0, 3))
        if what == 0:
            content[at] = draw(st.integers(0, 255))
        elif what == 1:
            del content[at : at + draw(st.integers(1, 40))]
        elif what == 2:
            content[at:at] = draw(st.binary(min_size=1, max_size=12))
        else:
            del content[at:]
    return bytes(content)


def within(seconds):
    """Stop a test that was given a time, without failing it."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def fuzz(strategy, check):
    """Check as many examples as there is time for, and at least 20; return how many there were."""
    over, count, failed = within(SECONDS / 2), 0, False

    @MANY
    @given(strategy)
    def each(example):
        nonlocal count, failed
        if over() and count >= 20 and not failed:  # a failure is made small first
            raise KeyboardInterrupt
        try:
            check(example)
        except BaseException:
            failed = True
            raise
        count += 1

    with pytest.raises(KeyboardInterrupt):
        each()
    return count


@pytest.mark.unchecked
def test_no_bytes_of_a_picture_end_in_a_traceback():
    decoders = [Decoder(), Decoder(4), Decoder(7, "pad", "black")]

    def check(content):
        for decoder in decoders:
            try:
                decoded = decoder(content)
            except Unreadable as reason:
                said = str(reason)
            else:
                said = "read"
                assert decoded.pixels.dtype == np.uint8
                assert decoded.pixels.shape[0] in (1, 3)
            assert said
            assert "\n" not in said

    assert fuzz(spoilt(PICTURES) | st.binary(max_size=60), check) > 10


@pytest.mark.unchecked
def test_no_bytes_of_an_archive_or_an_array_end_in_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    endings = dict.fromkeys(ending for _, ending in CONTAINERS)

    def check(example):
        content, ending = example
        path = tmp_path / f"x{ending}"
        path.write_bytes(content)
        try:
            data = open_data(str(path))
            said = repr(data.read(slice(0, 2)).x.shape)
        except FromnoiseError as reason:
            said = str(reason)
        assert "\n" not in said

    files = st.sampled_from(CONTAINERS).flatmap(lambda one: st.tuples(spoilt([one[0]]), st.just(one[1])))
    mixed = st.tuples(spoilt([content for content, _ in CONTAINERS]), st.sampled_from(list(endings)))
    assert fuzz(files | mixed, check) > 5
