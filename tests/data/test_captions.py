"""Captions of pictures in files: every way they are written down, and what does not fit."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import fromnoise as fn
from fromnoise.data.archive import Member
from fromnoise.data.captions import Captions, tidy
from fromnoise.errors import InputError


def png(shade):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def folder(path, texts, count=3):
    path.mkdir()
    for k in range(count):
        (path / f"{k}.png").write_bytes(png(40 * k))
    for name, content in texts.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


WRITTEN = {
    "metadata.csv": "file_name,text\n0.png,a red heart\n1.png,\"blue, and round\"\n2.png,green\n",
    "metadata.tsv": "image\tcaption\n0.png\ta red heart\n1.png\tblue, and round\n2.png\tgreen\n",
    "metadata.jsonl": "".join(
        json.dumps({"file_name": f"{k}.png", "text": text}) + "\n"
        for k, text in enumerate(["a red heart", "blue, and round", "green"])
    ),
    "captions.txt": "image,caption\n0.png,a red heart\n1.png\tblue, and round\n2.png: green\n",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_tells_of_all_pictures(name, tmp_path):
    source = fn.data.open(folder(tmp_path / "photos", {name: WRITTEN[name]}))
    assert source.captions == ("a red heart", "blue, and round", "green")
    text = source.conditioners[0]
    assert [text.said(row) for row in source.cond.values["text"]] == ["a red heart", "blue , and round", "green"]
    assert not source.found.uncaptioned


def test_a_text_lies_beside_each_picture(tmp_path):
    texts = {"0.txt": "a red heart\n", "1.txt": "\ufeffblue\r\nand  round", "2.txt": "green"}
    assert fn.data.open(folder(tmp_path / "photos", texts)).captions == ("a red heart", "blue and round", "green")


def test_archives_have_captions_in_their_folders_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for k in range(2):
            archive.writestr(f"in/{k}.png", png(k))
        archive.writestr("in/metadata.csv", "file_name,text\n0.png,zero\n1.png,one\n")
    source = fn.data.open(tmp_path / "photos.zip")
    assert source.captions == ("zero", "one")
    assert fn.data.open(tmp_path / "photos.zip").captions == ("zero", "one")  # from the cache


def test_what_is_missing_is_counted_and_strict_refuses_it(tmp_path):
    texts = {"metadata.csv": "file_name,text\n0.png,a heart\n2.png,\ngone.png,nothing\n", "1.txt": b"\xff\xfe\xff"}
    place = folder(tmp_path / "photos", texts)
    source = fn.data.open(place)
    assert source.captions == ("a heart", "", "")
    assert source.cond.given["text"].tolist() == [True, False, False]
    said = source.found.captions_text
    assert "2 have no caption" in said
    assert "1 is named in a table of captions but not there (first gone.png)" in said
    assert "no text in UTF-8" in said
    with pytest.raises(InputError, match=r"captions: .* have no caption"):
        fn.data.open(place, settings={"strict": True})


def test_labels_and_captions_stand_side_by_side(tmp_path):
    for k, label in enumerate(("cats", "dogs")):
        (tmp_path / "p" / label).mkdir(parents=True)
        (tmp_path / "p" / label / "a.png").write_bytes(png(k))
        (tmp_path / "p" / label / "a.txt").write_text(f"one of the {label}")
    source = fn.data.open(tmp_path / "p")
    assert [one.value for one in source.conditioners] == ["label", "text"]
    assert source.captions == ("one of the cats", "one of the dogs")


BROKEN = {
    "another encoding": ("metadata.csv", "file_name,text\n0.png,caf\u00e9\n".encode("latin-1"), "no text in UTF-8"),
    "no JSON": ("metadata.jsonl", "{\n", "line 1 is no JSON"),
    "JSON of another kind": ("metadata.jsonl", "[1, 2]\n", "line 1 is no object"),
    "a line without a caption": ("captions.txt", "0.png\n", "line 1 is no name and caption"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_table_that_cannot_be_read_is_refused(kind, tmp_path):
    name, content, says = BROKEN[kind]
    with pytest.raises(InputError, match=says) as caught:
        fn.data.open(folder(tmp_path / "photos", {name: content}))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["picture,text", "file_name,label"])
def test_a_table_of_something_else_is_said_and_left_alone(head, tmp_path):
    source = fn.data.open(folder(tmp_path / "photos", {"metadata.csv": f"{head}\n0.png,x\n"}))
    assert source.captions == ()
    assert source.conditioners == ()
    assert "1 has no column of" in source.found.captions_text
    assert "metadata.csv" in source.found.captions_text


def test_an_enormous_caption_is_cut(tmp_path):
    with pytest.warns(UserWarning, match="cut off"):
        source = fn.data.open(folder(tmp_path / "photos", {"0.txt": "very " * 100_000}))
    assert len(source.captions[0]) <= 2000
    assert source.conditioners[0].length <= 64


def test_tidy_leaves_one_line():
    assert tidy("  a\tred\n\n heart\x00 ") == "a red heart"


def test_files_that_are_no_captions_are_left_alone(tmp_path):
    source = fn.data.open(
        folder(tmp_path / "photos", {"readme.txt": "about these pictures", "notes.md": "x", "old.txt": b"\xe9"})
    )
    assert source.captions == ()
    assert source.conditioners == ()
    assert not source.found.uncaptioned
    heard = Captions()
    heard.hear(Member("a.txt", None, "cannot be read"))
    assert heard.of(["a.png"]) == [""]


def test_other_captions_are_other_data(tmp_path):
    first = fn.data.open(folder(tmp_path / "a", {"0.txt": "one", "1.txt": "two", "2.txt": "three"}))
    second = fn.data.open(folder(tmp_path / "b", {"0.txt": "one", "1.txt": "two", "2.txt": "four"}))
    assert first.identity["sha256"] != second.identity["sha256"]
