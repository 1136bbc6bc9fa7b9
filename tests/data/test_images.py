"""Pictures from files: every kind of file, folders and archives, labels, the cache."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import fromnoise as fn
from fromnoise.cache import cache_folder
from fromnoise.data.decode import Decoder, Unreadable
from fromnoise.data.images import Files, PictureSettings
from fromnoise.data.pixels import Pixels
from fromnoise.errors import ConfigError, InputError, RunError


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(k=0, side=8):
    return Image.fromarray(np.full((side, side), k, np.uint8))


def colour(*rgb, side=8):
    return Image.new("RGB", (side, side), rgb)


def png_of_16_bits(values, kind):
    """Return the PNG of values `[H, W, channels]` uint16, written by hand: Pillow writes none."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">II", values.shape[1], values.shape[0]) + b"\x10" + kind + b"\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def folder_of(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else encoded(content))
    return path


DIGITS = {f"{label}/{k}.png": grey(20 * int(label) + k) for label in ("2", "10", "1") for k in range(3)}


# -- one picture --


def test_grey_stays_one_channel_and_colour_has_three():
    assert Decoder()(encoded(grey(7))).pixels.tolist() == np.full((1, 8, 8), 7).tolist()
    assert Decoder()(encoded(colour(1, 2, 3))).pixels[:, 0, 0].tolist() == [1, 2, 3]


def test_a_rotation_in_the_exif_data_is_applied():
    array = np.zeros((4, 6), np.uint8)
    array[0, 0] = 255
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    pixels = Decoder()(encoded(image, "PNG", exif=exif)).pixels
    assert pixels.shape == (1, 6, 4)
    assert pixels[0, 0, 3] == 255


def test_sixteen_bits_keep_their_levels():
    array = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    pixels = Decoder()(encoded(Image.fromarray(array))).pixels
    assert len(np.unique(pixels)) == 256  # Pillow's own conversion leaves two
    assert pixels.reshape(-1).tolist() == list(range(256))


def test_floats_from_0_to_1_are_spread_over_the_bytes():
    array = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    pixels = Decoder()(encoded(Image.fromarray(array), "TIFF")).pixels
    assert (pixels[0, 0, 0], pixels[0, 3, 3]) == (0, 255)


def test_clear_pixels_show_the_background():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert Decoder()(encoded(image)).pixels[:, 0, 0].tolist() == [255]
    assert Decoder(background="black", channels=3)(encoded(image)).pixels[:, 0, 0].tolist() == [0, 0, 0]
    assert Decoder(background="#102030")(encoded(image)).pixels[:, 0, 0].tolist() == [16, 32, 48]
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert Decoder(background="black")(encoded(half)).pixels[0, 0, 0] in (127, 128)


def test_grey_with_clear_pixels_is_grey_on_a_grey_background_alone():
    image = Image.new("LA", (4, 4), (100, 0))
    assert Decoder()(encoded(image)).pixels.shape == (1, 4, 4)
    assert Decoder(background="red")(encoded(image)).pixels[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_grey_or_colour(mode):
    image = colour(200, 10, 30).convert("RGB")
    image = Image.new("LAB", (8, 8), (50, 128, 128)) if mode == "LAB" else image.convert(mode, palette=Image.ADAPTIVE)
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "LAB": "TIFF"}.get(mode, "PNG")
    decoded = Decoder()(encoded(image, kind))
    assert decoded.pixels.shape == ((1, 8, 8) if mode in ("1", "LAB") else (3, 8, 8))
    if mode in ("P", "CMYK", "YCbCr"):
        assert abs(decoded.pixels[:, 4, 4].astype(int) - [200, 10, 30]).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_grey_pictures_are_grey_whatever_their_file_keeps(kind, mode):
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    one = ramp.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else ramp.convert(mode)
    if kind in ("JPEG", "WEBP") and mode != "RGB":
        one = one.convert("RGB")
    content = encoded(one, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert Decoder()(content).pixels.shape == (1, 16, 16)
    assert Decoder(channels=3)(content).pixels.shape == (3, 16, 16)
    ramp.paste((200, 0, 0), (0, 0, 8, 8))
    assert Decoder()(encoded(ramp, kind)).pixels.shape == (3, 16, 16)


def test_a_folder_of_grey_pictures_kept_in_colour_has_one_channel(tmp_path):
    for k in range(3):
        grey(50 * k).convert("RGB").save(tmp_path / f"{k}.png")
    assert fn.data.open(tmp_path).shape == (1, 8, 8)
    assert fn.data.open(tmp_path, settings={"channels": 3}).shape == (3, 8, 8)
    colour(1, 2, 3).save(tmp_path / "3.png")
    assert fn.data.open(tmp_path).shape == (3, 8, 8)


def test_pictures_of_sixteen_bits_that_use_twelve_are_told_of(tmp_path):
    twelve = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(twelve).save(tmp_path / "a.png")
    Image.fromarray(twelve // 2).save(tmp_path / "b.tif")
    found = fn.data.open(tmp_path).found
    assert found.notes == [
        "2 pictures of 16 bits have no value above 4,095 of 65,535, and will be dark: save them with their full range"
    ]
    for kind, mode in ((b"\x02", 3), (b"\x04", 2)):  # colour, grey with alpha: Pillow gives 8 bits of them
        (tmp_path / "d.png").write_bytes(png_of_16_bits(np.repeat(twelve[..., None], mode, 2), kind))
        assert fn.data.open(tmp_path).found.notes[0].startswith("3 pictures of 16 bits have no value above 4,")
    Image.fromarray(16 * twelve).save(tmp_path / "c.png")
    assert fn.data.open(tmp_path).found.notes == []  # only some are dark


def test_a_tiff_of_32_bits_with_the_levels_of_8_is_left_out_and_told_of(tmp_path):
    levels = np.arange(64, dtype=np.int32).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    Image.fromarray(900 * levels).save(tmp_path / "b.tif")
    Image.fromarray(0 * levels).save(tmp_path / "c.tif")  # black may be of any depth
    source = fn.data.open(tmp_path)
    assert len(source) == 2
    assert source.found.notes == ["1 left out: 1 holds 0..255 in numbers of 32 bits: save it in 8 (first a.tif)"]


def test_a_palette_with_a_clear_colour_shows_the_background():
    image = colour(200, 10, 30).convert("P", palette=Image.Palette.ADAPTIVE)
    content = encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    assert Decoder(background="blue")(content).pixels[:, 0, 0].tolist() == [0, 0, 255]


def test_of_an_animation_the_first_picture_is_taken():
    decoded = Decoder()(encoded(grey(10), "GIF", save_all=True, append_images=[grey(200)]))
    assert decoded.animated
    assert decoded.pixels.max() <= 12


@pytest.mark.parametrize(("size", "fit"), [(4, "crop"), (4, "pad"), (32, "crop"), (32, "pad"), (1, "crop")])
def test_pictures_are_brought_to_size(size, fit):
    image = Image.new("RGB", (20, 10), (0, 0, 200))
    decoded = Decoder(size, fit, "red")(encoded(image))
    assert decoded.pixels.shape == (3, size, size)
    assert decoded.size == (10, 20)
    middle, corner = decoded.pixels[:, size // 2, size // 2], decoded.pixels[:, 0, size // 2]
    assert middle.tolist() == [0, 0, 200]
    assert (corner.tolist() == [255, 0, 0]) == (fit == "pad")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"hello, this is no picture", "is no picture"),
        (encoded(colour(1, 2, 3, side=64))[:80], "is cut off"),
        (encoded(colour(1, 2, 3, side=64), "JPEG")[:-200], "is (cut off|damaged)"),
        (encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "NaN"),
        (encoded(Image.fromarray(np.full((2, 2), 7, np.float32)), "TIFF"), r"outside \[0, 1\]"),
        (encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), "more than 16 bits"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is (damaged|cut off|no picture)"),
    ],
)
def test_what_cannot_be_read_says_why(content, why):
    with pytest.raises(Unreadable, match=why):
        Decoder()(content)


def test_a_picture_of_too_many_pixels_is_not_decoded():
    bomb = encoded(Image.new("1", (20_000, 20_000)), optimize=False)
    began = time.perf_counter()
    with pytest.raises(Unreadable, match="million pixels"):
        Decoder()(bomb)
    assert time.perf_counter() - began < 1


# -- folders and archives --


def packed(path, files, kind):
    contents = {name: c if isinstance(c, bytes) else encoded(c) for name, c in files.items()}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind in ("tar.gz", "tgz") else "w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "tgz", "zip"])
@pytest.mark.parametrize("above", ["", "train/", "a/b/"])
def test_a_folder_and_every_archive_of_it_are_the_same_data(tmp_path, kind, above):
    files = {f"{above}{name}": picture for name, picture in sorted(DIGITS.items())}
    place = tmp_path / ("photos" if kind == "folder" else f"photos.{kind}")
    if kind == "folder":
        place.mkdir()
    found = fn.data.open(folder_of(place, files) if kind == "folder" else packed(place, files, kind))
    assert found.name == "photos"
    assert found.label_names == ("1", "2", "10")  # as people count
    assert found.shape == (1, 8, 8)
    x, cond = found.read(slice(None))
    assert x.dtype == torch.uint8
    for k, picture in enumerate(x):
        label = found.label_names[int(cond.values["label"][k])]
        assert int(picture[0, 0, 0]) // 20 == int(label)
    assert sorted(x[:, 0, 0, 0].tolist()) == [20 * k + j for k in (1, 2, 10) for j in range(3)]


def test_pictures_that_lie_beside_folders_have_no_labels(tmp_path):
    assert fn.data.open(folder_of(tmp_path, {**DIGITS, "one.png": grey()})).conditioners == ()
    assert "1 picture lies beside the sub-folders (first one.png)" in fn.data.open(tmp_path).found.unlabelled
    one = fn.data.open(folder_of(tmp_path / "1", {}))
    assert (one.conditioners, one.found.unlabelled) == ((), "")  # a single folder is no label


def test_folders_inside_the_labels_folders_are_told_of(tmp_path):
    nested = {f"all/{label}/{side}/{k}.png": grey(k) for label in "ab" for side in ("left", "right") for k in (0, 1)}
    found = fn.data.open(folder_of(tmp_path, nested))
    assert found.label_names == ("a", "b")
    assert found.found.unlabelled == "4 folders inside the labels' own (first all/a/left): the first level is the label"
    flat = folder_of(tmp_path / "flat", {f"{label}/{k}.png": grey(k) for label in "ab" for k in (0, 1)})
    assert fn.data.open(flat).found.unlabelled == ""


def test_one_picture_in_colour_makes_all_of_them_so(tmp_path):
    files = {"a.png": grey(5), "b.png": grey(6), "c.png": colour(1, 2, 3), "d.png": grey(7)}
    x = fn.data.open(folder_of(tmp_path, files)).read(slice(None)).x
    assert x.shape == (4, 3, 8, 8)
    assert x[:, :, 0, 0].tolist() == [[5, 5, 5], [6, 6, 6], [1, 2, 3], [7, 7, 7]]


def test_other_files_are_passed_over_and_broken_pictures_counted(tmp_path):
    files = {"a.png": grey(), "b.png": b"", "c.jpg": b"no", "README": b"text", "notes.txt": b"text", ".hidden.png": b""}
    found = fn.data.open(folder_of(tmp_path, files))
    assert len(found) == 1
    assert found.found.skipped == {"is empty": (1, "b.png"), "is no picture": (1, "c.jpg")}
    assert "2 left out: 1 is empty (first b.png), 1 is no picture (first c.jpg)" in found.found.skipped_text
    with pytest.raises(InputError, match="2 left out"):
        fn.data.open(tmp_path, settings={"strict": True})


def test_a_linked_folder_is_read_and_a_circle_of_links_ends(tmp_path):
    real = folder_of(tmp_path / "real", {"a.png": grey()})
    photos = folder_of(tmp_path / "photos", {"b.png": grey()})
    os.symlink(real, photos / "linked")
    os.symlink(photos, photos / "circle")
    os.symlink(photos / "self", photos / "self")
    assert len(fn.data.open(photos)) == 2


def test_names_that_are_no_utf8_are_read(tmp_path):
    folder_of(tmp_path, {"a.png": grey()})
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb") as file:
        file.write(encoded(grey(9)))
    assert len(fn.data.open(tmp_path)) == 2


def test_links_inside_an_archive_are_passed_over(tmp_path):
    path = packed(tmp_path / "a.tar", {"x/a.png": grey(), "x/b.png": grey()}, "tar")
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("x/link.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "a.png"
        archive.addfile(entry)
    source = fn.data.open(path)
    assert len(source) == 2
    assert source.found.skipped == {"is a link inside an archive": (1, "x/link.png")}


def test_the_labels_order_is_one_and_the_same(tmp_path):
    names = ("A", "a", "1", "01", "2", "10")
    folder_of(tmp_path / "in", {f"{name}/0.png": grey(k) for k, name in enumerate(names)})
    for seed in "012":
        code = f"import fromnoise as fn; print(fn.data.open({str(tmp_path / 'in')!r}).label_names)"
        env = {**os.environ, "PYTHONHASHSEED": seed, "FROMNOISE_CACHE": str(tmp_path / seed)}
        said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        assert said.strip() == "('01', '1', '2', '10', 'A', 'a')"


def test_kinds_of_pictures_that_are_not_read_are_counted(tmp_path):
    place = folder_of(tmp_path, {"a.png": grey(), "b.HEIC": b"x", "c.svg": b"x", "notes.txt": b"x"})
    found = fn.data.open(place).found
    assert found.skipped_text == ("2 left out: 2 are of a kind that is not read: PNG and JPEG are (first b.HEIC)")
    with pytest.raises(InputError, match="of a kind that is not read"):
        fn.data.open(place, settings={"strict": True})


def test_a_run_inside_the_folder_is_no_picture_of_it(tmp_path):
    place = folder_of(tmp_path / "photos", DIGITS)
    folder_of(place / "runs/r", {"config.toml": b"", "checkpoints/x": b"", "samples/a.png": grey()})
    assert fn.data.open(place).label_names == ("1", "2", "10")


def test_folders_in_a_zip_may_be_written_with_backslashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for label in "ab":
            entry = zipfile.ZipInfo("x")
            entry.filename = f"top\\{label}\\0.png"
            archive.writestr(entry, encoded(grey()))
    assert fn.data.open(tmp_path / "a.zip").label_names == ("a", "b")


# -- the cache --


def test_pictures_are_decoded_once(tmp_path, monkeypatch):
    place = folder_of(tmp_path / "photos", DIGITS)
    first, calls = Files(place), []
    monkeypatch.setattr(Decoder, "__call__", lambda *_: calls.append(1))
    assert torch.equal(Files(place).x, first.x)
    assert calls == []


def test_a_change_of_a_file_or_of_the_settings_is_noticed(tmp_path):
    place = folder_of(tmp_path / "photos", DIGITS)
    first = Files(place)
    assert Files(place, PictureSettings(size=4)).shape == (1, 4, 4)
    folder_of(place, {"1/0.png": grey(99)})
    os.utime(place / "1/0.png", ns=(1, 1))
    second = Files(place)
    assert second.identity["sha256"] != first.identity["sha256"]
    assert 99 in second.x[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("damage", ["cut", "no index", "bad index", "gone"])
def test_an_entry_that_is_not_whole_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    place = folder_of(tmp_path / "photos", DIGITS)
    whole = Files(place).x.clone()
    (entry,) = (tmp_path / "cache/pictures").iterdir()
    if damage == "cut":
        os.truncate(entry / "pixels.u8", 10)
    elif damage == "gone":
        (entry / "labels.i8").unlink()
    else:
        (entry / "index.json").write_text("{" if damage == "bad index" else "")
    assert torch.equal(Files(place).x, whole)


def test_what_a_broken_off_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    left = tmp_path / "cache/pictures/.abc-999999999-x"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    mine = tmp_path / f"cache/pictures/.abc-{os.getpid()}-x"
    mine.mkdir()
    os.utime(mine, (1, 1))
    Files(folder_of(tmp_path / "photos", DIGITS))
    assert not left.exists()
    assert mine.exists()


def test_several_processes_may_make_one_entry(tmp_path):
    place = folder_of(tmp_path / "photos", {f"{k}.png": grey(k) for k in range(200)})
    code = "import sys; from fromnoise.data.images import Files; print(int(Files(sys.argv[1]).x.sum()))"
    environment = {**os.environ, "FROMNOISE_CACHE": str(tmp_path / "cache")}
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, env=environment)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert {tuple(words) for words in said} == {(str(sum(range(200)) * 64).encode(),)}
    assert len([p for p in (tmp_path / "cache/pictures").iterdir() if p.name[0] != "."]) == 1
    assert not [p for p in (tmp_path / "cache/pictures").iterdir() if p.name[0] == "."]


def test_nothing_is_written_beside_the_pictures(tmp_path):
    place = folder_of(tmp_path / "photos", DIGITS)
    before = sorted(tmp_path.rglob("*"))
    Files(place)
    assert sorted(tmp_path.rglob("*")) == before
    assert cache_folder().is_dir()


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(InputError, match="set FROMNOISE_CACHE to another folder"):
        Files(folder_of(tmp_path / "photos", DIGITS))


def test_progress_is_told(tmp_path):
    seen = []
    fn.data.open(
        folder_of(tmp_path, {f"{k}.png": grey(k) for k in range(5)}), progress=lambda k, n: seen.append((k, n))
    )
    assert seen == [(k + 1, 0) for k in range(5)]


# -- views of it --


def test_a_flipped_source_has_every_mirror_image(tmp_path):
    array = np.zeros((4, 4), np.uint8)
    array[0, 0] = 255
    found = fn.data.open(
        folder_of(tmp_path, {"a.png": Image.fromarray(array), "b.png": grey(3, 4)}), settings={"flip": True}
    )
    assert len(found) == 4
    x = found.read(torch.tensor([0, 2, 1, 3])).x
    assert (x[0, 0, 0, 0], x[1, 0, 0, 3], x[1, 0, 0, 0]) == (255, 255, 0)
    assert torch.equal(x[2], x[3])
    assert torch.equal(found.read(slice(2, 4)).x, found.read(slice(0, 2)).x.flip(3))
    assert found.identity["flip"]


def test_a_picture_is_held_out_together_with_its_mirror_image(tmp_path):
    from fromnoise.data.source import held_apart

    found = fn.data.open(folder_of(tmp_path, {f"{k:03}.png": grey(k) for k in range(100)}), settings={"flip": True})
    kept, held = held_apart(found, 0.2, 0)
    assert len(kept) == 2 * (100 - len(held))
    levels = {int(v) for v in held.read(slice(None)).x[:, 0, 0, 0]}
    assert levels.isdisjoint({int(v) for v in kept.read(slice(None)).x[:, 0, 0, 0]})


def test_some_rows_are_a_source(tmp_path):
    found = fn.data.open(folder_of(tmp_path, DIGITS))
    some = found.take(torch.tensor([8, 0, 4]))
    again = some.take(torch.tensor([2, 1]))
    assert (len(some), len(again)) == (3, 2)
    assert torch.equal(again.read(slice(None)).x, found.read(torch.tensor([4, 0])).x)
    assert again.cond.values["label"].tolist() == found.read(torch.tensor([4, 0])).cond.values["label"].tolist()
    assert isinstance(again, fn.data.Source)


# -- arrays --


def test_arrays_of_bytes_are_pictures():
    x = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)
    assert fn.data.open(x).x.dtype == torch.uint8
    assert fn.data.open(x[:, 0]).shape == (1, 8, 8)
    last = fn.data.open(x.transpose(0, 2, 3, 1), settings={"channels_last": True})
    assert torch.equal(last.x, torch.from_numpy(x))
    with pytest.raises(InputError, match="channels_last=True"):
        fn.data.open(x.transpose(0, 2, 3, 1))
    for kind in (np.float32, np.uint16, np.int64):
        with pytest.raises(InputError, match="channels_last=True"):
            fn.data.open(x.astype(kind).transpose(0, 2, 3, 1))
        last = fn.data.open(x.astype(kind).transpose(0, 2, 3, 1), settings={"channels_last": True})
        assert torch.equal(last.x.double(), torch.from_numpy(x).double())
    with pytest.raises(InputError, match="channels_last is for pictures"):
        fn.data.open(np.zeros((5, 2)), settings={"channels_last": True})
    floats = fn.data.open(x.astype(np.float32) / 255)
    assert floats.suggests == {"recipe": "image", "train": {"held_out": 0.0}, "codec": {"name": "affine"}}
    assert fn.data.digits().suggests == {"recipe": "image", "train": {"steps": 1000, "save_every": 100}}
    assert fn.data.open(np.zeros((4, 7), np.uint8)).x.dtype == torch.float32  # a table


def test_settings_that_are_not_for_the_data_are_refused(tmp_path):
    place = folder_of(tmp_path / "photos", DIGITS)
    for settings, says in (
        ({"n": 3}, "n is not a setting of data"),
        ({"size": -1}, "size"),
        ({"sise": 3}, "did you mean size"),
        ({"fit": "stretch"}, "fit"),
        ({"background": "bleu"}, "is no colour"),
    ):
        with pytest.raises((ConfigError, InputError), match=says):
            fn.data.open(place, settings=settings)
    for what in (np.zeros((5, 2)), "digits"):
        with pytest.raises(InputError, match=r"data\.size is for pictures in files"):
            fn.data.open(what, settings={"size": 3})


def test_digits_are_built_in():
    data = fn.data.digits()
    assert data.x.shape == (1797, 1, 8, 8)
    assert (data.x.dtype, int(data.x.max())) == (torch.uint8, 255)
    assert data.label_names == tuple("0123456789")
    assert len(fn.data.open("digits", settings={"n": 100})) == 100
    assert torch.equal(fn.data.make(data.config).x, data.x)
    with pytest.raises(ConfigError, match="there are 1,797 digits"):
        fn.data.digits(2000)


# -- the codec --


@pytest.mark.parametrize("kind", ["scaled", "channels", "signed"])
def test_pixels_go_in_and_come_out_the_same(kind):
    x = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    codec = fn.data.Pixels(kind).fitted(x)
    z = codec.into(codec.store(x))
    assert z.dtype == torch.float32
    assert torch.equal(codec.out(z), x)
    if kind == "signed":
        torch.testing.assert_close(z, x / 127.5 - 1)
    else:
        assert abs(float(z.mean())) < 1e-5
        assert abs(float(z.std()) - 1) < 1e-3
    again = fn.data.Pixels(kind).with_tensors(codec.tensors(), codec.shape)
    assert again.equals(codec)
    assert codec.log_volume == pytest.approx(192 * float((255 * codec.std).log().mean()), rel=1e-6)


def test_pixels_are_clamped_and_rounded_at_the_very_end_alone():
    codec = fn.data.Pixels("signed").fitted(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    z = torch.tensor([-9.0, -1.0, 0.001, 9.0]).reshape(1, 1, 2, 2)
    assert codec.out(z).flatten().tolist() == [0, 0, 128, 255]
    assert codec.levels(z).flatten()[3] > 255
    with pytest.raises(InputError, match="not finite"):
        codec.out(torch.full((1, 1, 2, 2), float("nan")))


def test_pixels_of_other_things_are_refused():
    for x in (torch.rand(5, 1, 8, 8), torch.rand(5, 2)):
        with pytest.raises(InputError, match="take the codec affine"):
            fn.data.Pixels().fitted(x)


def test_pictures_that_never_vary_have_a_unit():
    codec = fn.data.Pixels().fitted(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8))
    assert torch.equal(
        codec.out(codec.into(torch.full((1, 1, 2, 2), 7, dtype=torch.uint8))).unique(),
        torch.tensor([7], dtype=torch.uint8),
    )


# -- a run on it --


def test_a_run_on_pictures_in_files_finds_them_again(tmp_path):
    place = folder_of(tmp_path / "photos", {f"{k % 2}/{k}.png": grey(k) for k in range(40)})
    run = fn.train(place, steps=3, batch_size=4, out=tmp_path / "run", network={"name": "unet", "widths": (8, 16)})
    assert run.config.data["path"] == str(place.resolve())
    again = fn.load(tmp_path / "run")
    assert again.holds_data
    assert not again.folder.holds_data
    assert torch.equal(again.source.x, run.source.x)
    moved = tmp_path / "moved"
    place.rename(moved)
    assert not fn.load(tmp_path / "run").holds_data
    more = fn.train(
        moved, steps=5, batch_size=4, out=tmp_path / "run", network={"name": "unet", "widths": (8, 16)}, resume=True
    )
    assert more.step == 5
    folder_of(place, {f"{k % 2}/{k}.png": grey(k + 1) for k in range(40)})
    with pytest.raises(RunError, match="have changed since"):
        _ = fn.load(tmp_path / "run").source


def test_a_run_on_pictures_in_memory_holds_them(tmp_path):
    x = torch.randint(256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fn.train(
        (x, ["a", "b"] * 15), steps=2, batch_size=4, out=tmp_path / "run", network={"name": "unet", "widths": (8, 16)}
    )
    again = fn.load(tmp_path / "run")
    assert again.folder.holds_data
    assert torch.equal(again.source.x, x)
    y = fn.sample(again.denoiser, 5, steps=2, cond="b")
    assert (y.dtype, y.shape) == (torch.uint8, (5, 3, 8, 8))


def test_pictures_train_the_same_from_files_and_from_memory(tmp_path):
    place = folder_of(tmp_path / "photos", {f"{k % 2}/{k:02}.png": grey(5 * k) for k in range(40)})
    files = fn.data.open(place)
    memory = fn.data.open((files.x.clone(), files.cond.values["label"]))
    settings = {"steps": 4, "batch_size": 8, "network": {"name": "unet", "widths": (8, 16)}, "held_out": 0.25}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (fn.train(data, **settings).denoiser for data in (files, memory))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_index_is_plain_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    Files(folder_of(tmp_path / "photos", DIGITS))
    (entry,) = (tmp_path / "cache/pictures").iterdir()
    index = json.loads((entry / "index.json").read_text())
    assert (index["n"], index["shape"]) == (9, [1, 8, 8])
    assert {file.name for file in entry.iterdir()} == {"pixels.u8", "labels.i8", "index.json"}


def test_floats_are_not_taken_for_whole_numbers():
    digits = fn.data.digits()
    codec = Pixels().fitted(digits)
    for x, way in ((digits.x[:30] / 255, "255 * x"), (digits.x[:30] / 127.5 - 1, "127.5 * (x + 1)")):
        for refused in (lambda x=x: codec.store(x), lambda x=x: fn.evaluate(x, digits)):
            with pytest.raises(InputError, match=re.escape(way)):
                refused()
    assert fn.evaluate(digits.x[:30].float(), digits).n == 30
    dark = torch.zeros_like(digits.x[:1], dtype=torch.float32)
    assert torch.equal(codec.store(dark), dark)
