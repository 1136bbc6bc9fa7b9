"""Bad pictures on the command line: exit 2, one line that names the cause and the way out, nothing written."""

import io
import os
import re
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image


def png(array):
    file = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(file, "PNG")
    return file.getvalue()


def saved(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


GREY = png(np.full((8, 8), 9, np.uint8))
RGB = png(np.full((8, 8, 3), 9, np.uint8))
JPEG = saved(Image.new("RGB", (64, 64), (1, 2, 3)), "JPEG")


def files(**contents):
    """A folder of files; "_" in a name stands for ".", "__" for "/"."""

    def make(path):
        place = path / "photos"
        place.mkdir()
        for name, content in contents.items():
            file = place / name.replace("__", "/").replace("_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return place

    return make


def tar(*entries, mode="w", cut=0, name="a.tar"):
    def make(path):
        with tarfile.open(path / name, mode) as archive:
            for entry_name, content, extra in entries:
                entry = tarfile.TarInfo(entry_name)
                entry.size = len(content)
                for key, value in extra.items():
                    setattr(entry, key, value)
                archive.addfile(entry, io.BytesIO(content))
        if cut:
            os.truncate(path / name, cut)
        return path / name

    return make


def tar_gz(*entries, **options):
    return tar(*entries, mode="w:gz", name="a.tar.gz", **options)


def zipped(*entries, cut=0, name="a.zip"):
    def make(path):
        with zipfile.ZipFile(path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry_name, content in entries:
                archive.writestr(entry_name, content)
        if cut:
            os.truncate(path / name, cut)
        return path / name

    return make


def array(value, name="a.npy"):
    def make(path):
        (np.savez if name.endswith("z") else np.save)(path / name, value)
        return path / name

    return make


def loop(path):
    place = path / "photos"
    place.mkdir()
    os.symlink(place, place / "again")
    os.symlink(place / "self.png", place / "self.png")
    return place


def non_utf8_label(path):
    place = files(a__1_png=GREY)(path)
    bad = os.fsencode(place) + b"/\xff\xfe"
    os.mkdir(bad)
    with open(bad + b"/2.png", "wb") as file:
        file.write(GREY)
    return place


def bomb_png():
    """A picture whose header says 60,000 x 60,000."""
    head = (60000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    body = zlib.compress(b"\0" * 1000)

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def a_run(path):
    place = path / "runs"
    (place / "checkpoints").mkdir(parents=True)
    (place / "config.toml").write_text("format_version = 2")
    return place


NOISE = png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
ONE, NINE = (png(np.zeros((side, side), np.uint8)) for side in (1, 9))
HARD_LINK = {"type": tarfile.LNKTYPE}
FOUR = np.zeros((4, 1, 8, 8), np.uint8)
LINK = {"type": tarfile.SYMTYPE}
NAN_TIFF = saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
INF_TIFF = saved(Image.fromarray(np.full((8, 8), np.inf, np.float32)), "TIFF")
BIG_TIFF = saved(Image.fromarray(np.full((8, 8), 3.5, np.float32)), "TIFF")

TIFF, BMP = (saved(Image.new("RGB", (64, 64)), kind) for kind in ("TIFF", "BMP"))
WEBP = saved(Image.effect_noise((64, 64), 50), "WEBP")

CASES = {
    # files
    "zero bytes": (files(a_png=b""), "1 is empty"),
    "a png cut off": (files(a_png=GREY[:40]), "is cut off|is damaged|is no picture"),
    "a png cut in its pixels": (files(a_png=NOISE[:2000]), "cut off"),
    "a jpeg cut off": (files(a_jpg=JPEG[:300]), "is damaged|is cut off|is no picture"),
    "text called .png": (files(a_png=b"these are words\n"), "is no picture"),
    "html called .jpg": (files(a_jpg=b"<html></html>"), "is no picture"),
    "a float tiff with NaN": (files(a_tif=NAN_TIFF), "NaN"),
    "a float tiff with infinities": (files(a_tif=INF_TIFF), "NaN or infinite"),
    "a float tiff outside 0..1": (files(a_tif=BIG_TIFF), r"outside \[0, 1\]"),
    "a decompression bomb": (files(a_png=bomb_png()), "million pixels"),
    "a bad checksum": (files(a_png=GREY[:30] + b"XXXX" + GREY[34:]), "is no picture|is damaged|is cut off"),
    "a header alone": (files(a_png=b"\x89PNG\r\n\x1a\n"), "is no picture|is cut off|is damaged"),
    "random bytes called .gif": (files(a_gif=b"GIF89a" + bytes(range(200))), "is no picture|is damaged|is cut off"),
    "random bytes called .webp": (files(a_webp=b"RIFF\0\0\0\0WEBPVP8 " + bytes(50)), "is no picture|is damaged"),
    "random bytes called .bmp": (files(a_bmp=b"BM" + bytes(60)), "is no picture|is damaged|is cut off"),
    "a tiff cut off": (files(a_tif=TIFF[:200]), "is no picture|is damaged|is cut off"),
    "a bmp cut off": (files(a_bmp=BMP[:200]), "is no picture|is damaged|is cut off"),
    "a gif cut off": (files(a_gif=saved(Image.new("P", (64, 64)), "GIF")[:30]), "is no picture|is damaged|is cut off"),
    "a drawing called .png": (files(a_png=b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "is no picture"),
    "a webp cut off": (files(a_webp=WEBP[:90]), "is no picture|is damaged|is cut"),
    "all of several broken": (files(a_png=b"", b_png=b"x", c_jpg=b"y"), "3 left out"),
    # folders
    "an empty folder": (files(), "no files whose names end as those of pictures do"),
    "a folder of text": (files(a_txt=b"hello", b_csv=b"1,2"), "no files whose names end"),
    "a folder of empty folders": (lambda path: (path / "photos/a").mkdir(parents=True) or path / "photos", "no files"),
    "a circle of links": (loop, "no files whose names end"),
    "only hidden pictures": (lambda path: files(x=b"")(path) and _hidden(path), "no files whose names end"),
    "no such folder": (lambda path: path / "photos", "there is no such file or folder"),
    "no such archive": (lambda path: path / "photos.tar.gz", "there is no such file or folder"),
    "mixed sizes": (files(a_png=GREY, b_png=NINE), "differ in size, 8 x 8 .* --size 8"),
    "mixed sizes in colour": (files(a_png=RGB, b_png=png(np.zeros((16, 8, 3), np.uint8))), "differ in size"),
    "one pixel": (files(a_png=ONE, b_png=ONE), "divides the sides"),
    "odd sides": (files(a_png=NINE, b_png=NINE), "bring the pictures to 8 x 8"),
    "a label that is no text": (non_utf8_label, "cannot be a label: its name is no text"),
    "a label with a line break": (lambda path: _odd_label(path, "a\nb"), "cannot be a label"),
    "a run": (a_run, "is a run"),
    # archives
    "an archive that leads outside": (tar(("../a.png", GREY, {})), "leads outside the archive"),
    "an archive with an absolute name": (tar(("/etc/a.png", GREY, {})), "leads outside the archive"),
    "an archive with an absolute link": (tar(("a.png", b"", {**LINK, "linkname": "/etc/passwd"})), "leads outside"),
    "an archive with a link upwards": (tar(("x/a.png", b"", {**LINK, "linkname": "../../a"})), "leads outside"),
    "an archive with a hard link upwards": (tar(("a.png", b"", {**HARD_LINK, "linkname": "../b"})), "leads outside"),
    "a zip that leads outside": (zipped(("../a.png", GREY)), "leads outside the archive"),
    "a zip with an absolute name": (zipped(("/a.png", GREY)), "leads outside the archive"),
    "a zip with a drive": (zipped(("C:/a.png", GREY)), "leads outside the archive"),
    "a zip with backslashes upwards": (zipped(("x\\..\\..\\a.png", GREY)), "leads outside the archive"),
    "a zip that grows a thousandfold": (zipped(("a.png", bytes(2**27))), "as no picture has"),
    "a tar.gz that grows a thousandfold": (tar_gz(("a.png", bytes(2**28 + 1), {})), "as no picture has"),
    "a tar with a cut end": (tar(("a.png", GREY, {}), ("b.png", bytes(4000), {}), cut=2500), "damaged|cut"),
    "a tar.gz with a cut end": (tar_gz(("a.png", NOISE, {}), cut=2000), "damaged|cut|end"),
    "a zip with a cut end": (zipped(("a.png", GREY), ("b.png", GREY), cut=150), "damaged, or no archive"),
    "an empty file called .tar": (lambda path: _file(path, "a.tar", b""), "damaged|no pictures"),
    "an empty file called .zip": (lambda path: _file(path, "a.zip", b""), "damaged, or no archive"),
    "text called .tar": (lambda path: _file(path, "a.tar", b"hello" * 300), "damaged, or no archive"),
    "text called .tar.gz": (lambda path: _file(path, "a.tar.gz", b"hello" * 300), "damaged, or no archive"),
    "text called .zip": (lambda path: _file(path, "a.zip", b"hello" * 300), "damaged, or no archive"),
    "an archive of text": (zipped(("a.txt", "hello")), "no files whose names end"),
    "an archive of broken pictures": (zipped(("a.png", GREY[:40]), ("b.png", b"")), "2 left out"),
    "a pipe in an archive": (tar(("a.png", b"", {"type": tarfile.FIFOTYPE})), "no files whose names end|no pictures"),
    "an empty archive": (zipped(), "no files whose names end"),
    "a folder called .zip": (lambda path: (path / "a.zip").mkdir() or path / "a.zip", "no files whose names end"),
    # arrays
    "an array of objects": (array(np.array([{}, {}], dtype=object)), "allow_pickle|object"),
    "an array of text": (array(np.array(["a", "b"])), "text"),
    "complex numbers": (array(np.zeros((4, 1, 8, 8), complex)), "complex"),
    "five axes": (array(np.zeros((4, 1, 2, 8, 8), np.float32)), "is for points and tables|pictures"),
    "channels last": (array(np.zeros((4, 8, 8, 3), np.uint8)), "channels_last"),
    "NaN": (array(np.full((4, 1, 8, 8), np.nan, np.float32)), "finite"),
    "infinities": (array(np.full((4, 1, 8, 8), np.inf, np.float32)), "finite"),
    "no pictures": (array(np.zeros((0, 1, 8, 8), np.uint8)), "no empty axis"),
    "no channels": (array(np.zeros((4, 0, 8, 8), np.uint8)), "no empty axis"),
    "a scalar": (array(np.float32(3)), r"\[N, \*S\]"),
    "arrays without names": (lambda path: _npz(path, a=np.zeros(3), b=np.zeros(3)), "samples are in one array"),
    "labels of another number": (lambda path: _npz(path, x=FOUR, labels=np.zeros(3, int)), "given for|one for each"),
    "an npy that is cut off": (lambda path: _cut(array(FOUR)(path), 300), "no numbers that can be read"),
    "an npz that is no zip": (lambda path: _file(path, "a.npz", b"PK\x03\x04nonsense"), "no numbers that can be read"),
    "odd pictures in an array": (array(np.zeros((4, 1, 7, 7), np.uint8)), "bring the pictures to 8 x 8"),
    "three axes of floats": (array(np.zeros((4, 8, 8), np.float32)), "if these are pictures without channels"),
}  # fmt: skip


def _file(path, name, content):
    (path / name).write_bytes(content)
    return path / name


def _npz(path, **arrays):
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


def _cut(path, size):
    os.truncate(path, size)
    return path


def _hidden(path):
    (path / "photos/x").unlink()
    (path / "photos/.a.png").write_bytes(GREY)
    return path / "photos"


def _odd_label(path, label):
    place = path / "photos"
    for name in (label, "other"):
        (place / name).mkdir(parents=True)
        (place / name / "1.png").write_bytes(GREY)
    return place


def test_there_are_many():
    assert len(CASES) >= 70


@pytest.mark.parametrize("case", CASES)
def test_bad_pictures_are_refused_in_one_line(case, run_cli, tmp_path, monkeypatch):
    make, says = CASES[case]
    place = make(tmp_path)
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before, began = sorted(tmp_path.rglob("*")), time.perf_counter()
    code, out, err = run_cli("train", place, "--steps", "1", "--out", tmp_path / "run")
    assert time.perf_counter() - began < 5
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert re.search(says, lines[0]), lines[0]
    after = [p for p in sorted(tmp_path.rglob("*")) if tmp_path / "cache" not in (p, *p.parents)]
    assert after == before
    assert not list((tmp_path / "cache").rglob(".*-*"))


def test_strict_refuses_what_is_otherwise_left_out(run_cli, tmp_path):
    place = files(a_png=GREY, b_png=b"", c_png=GREY)(tmp_path)
    code, _, err = run_cli("train", place, "--steps", "1", "--strict", "--out", tmp_path / "run")
    assert code == 2
    assert "1 left out: 1 is empty (first b.png)" in err
    assert not (tmp_path / "run").exists()
    code, out, err = run_cli(
        "train", place, "--steps", "1", "--no-report", "--out", tmp_path / "run", "--set", "train.held_out=0"
    )
    assert code == 0, err
    assert "note: 1 left out: 1 is empty (first b.png)" in err
    assert "they are read from" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "0x8"], "size"),
        (["--size", "-4"], "size"),
        (["--size", "100000"], "size"),
        (["--fit", "stretch"], "fit"),
        (["--set", "data.background=bleu"], "is no colour"),
        (["--set", "data.colour=red"], "colour is not a setting of data"),
        (["-n", "5"], "n is not a setting of data"),
        (["--net", "mlp"], "is for points and tables"),
        (["--net", "resnet"], "unknown network"),
        (["--net", "unet", "--set", "network.widths=[7,9]", "--set", "network.patch=3"], "divides the sides"),
        (["--set", "codec=latent"], "give the run of a trained one"),
        (["--set", "codec=vq"], "unknown codec"),
        (["--set", "train.matrix_lr=0"], "matrix_lr"),
    ],
)
def test_options_that_do_not_fit_pictures_are_refused(options, says, run_cli, tmp_path):
    place = files(a_png=GREY, b_png=GREY, c_png=GREY)(tmp_path)
    code, _, err = run_cli("train", place, "--steps", "1", "--out", tmp_path / "run", *options)
    assert code == 2, err
    assert says in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [["--size", "8"], ["--fit", "pad"], ["--strict"]])
def test_options_of_pictures_are_refused_for_other_data(option, run_cli, tmp_path):
    code, _, err = run_cli("train", "spiral", "--steps", "1", "--out", tmp_path / "run", *option)
    assert code == 2
    assert "is for pictures in files, and spiral is built in" in err


def test_a_class_count_that_has_changed_is_noticed_on_resume(run_cli, tmp_path):
    place = files(a__1_png=GREY, b__2_png=GREY, a__3_png=GREY, b__4_png=GREY)(tmp_path)
    train = [
        "train",
        place,
        "--no-report",
        "--out",
        tmp_path / "run",
        "--set",
        "train.held_out=0",
        "--set",
        "network.widths=[8,16]",
    ]
    assert run_cli(*train, "--steps", "1")[0] == 0
    (place / "c").mkdir()
    (place / "c/5.png").write_bytes(GREY)
    code, _, err = run_cli(*train, "--steps", "2", "--resume")
    assert code == 2
    assert "cannot resume" in err
    assert "classes" in err or "names" in err
