"""Captions in a file that is named: a column of a table, lines of a text, for folders and for arrays."""

import io

import numpy as np
import pytest
from PIL import Image

import fromnoise as fn
from fromnoise.errors import InputError

TABLE = "id,picture title,file_name\n9,a heart,b.png\n8,a car,a.png\n"


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for k, name in enumerate("ab"):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8), 40 * k, np.uint8)).save(buffer, "PNG")
        (tmp_path / "photos" / f"{name}.png").write_bytes(buffer.getvalue())
    return tmp_path / "photos"


def opened(what, **settings):
    return fn.data.open(what, settings=settings)


def test_a_column_of_a_table_elsewhere(photos, tmp_path):
    (tmp_path / "all.csv").write_text(TABLE)
    source = opened(photos, captions=str(tmp_path / "all.csv"), caption_column="picture title")
    assert source.captions == ("a car", "a heart")
    assert source.identity["captions"] == str(tmp_path / "all.csv")
    (tmp_path / "all.csv").write_text(TABLE.replace("a car", "a bus"))
    assert opened(photos, captions=str(tmp_path / "all.csv"), caption_column="picture title").captions[0] == "a bus"


def test_a_column_of_the_table_beside_the_pictures(photos):
    (photos / "metadata.csv").write_text(TABLE)
    assert opened(photos).captions == ()
    assert opened(photos, caption_column="picture title").captions == ("a car", "a heart")
    with pytest.raises(InputError, match="no column 'title'"):
        opened(photos, caption_column="title")


def test_a_file_that_is_named_counts_before_those_beside_the_pictures(photos, tmp_path):
    (photos / "a.txt").write_text("beside a")
    (photos / "b.txt").write_text("beside b")
    (tmp_path / "some.txt").write_text("a.png: named\n")
    assert opened(photos, captions=str(tmp_path / "some.txt")).captions == ("named", "beside b")


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("c.txt", "zero\none\n", ""),
        ("c.csv", "text\nzero\none\n", ""),
        ("c.csv", "a,b\n1,zero\n2,one\n", "b"),
        ("c.tsv", "a\tcaption\n1\tzero\n2\tone\n", ""),
        ("c.jsonl", '{"text": "zero"}\n{"text": "one"}\n', ""),
        ("c.jsonl", '{"a": "zero"}\n\n{"b": 3, "a": "one"}', "a"),
        ("c.txt", "zero\r\none\r\n\r\n", ""),
    ],
)
def test_rows_of_a_file_are_those_of_an_array(tmp_path, name, content, column):
    (tmp_path / name).write_text(content)
    x = np.zeros((2, 1, 8, 8), np.uint8)
    source = opened(x, captions=str(tmp_path / name), caption_column=column)
    text = source.conditioners[0]
    assert [text.said(row) for row in source.cond.values["text"]] == ["zero", "one"]


def test_built_in_pictures_have_captions_too(tmp_path):
    (tmp_path / "c.txt").write_text("a digit\n" * 50)
    source = opened("digits", captions=str(tmp_path / "c.txt"), n=50)
    assert [one.value for one in source.conditioners] == ["label", "text"]


@pytest.mark.parametrize(
    ("content", "settings", "says"),
    [
        ("zero\n", {}, "each of 2 samples is wanted, and it has 1"),
        (b"\xff\xfe\xff", {}, "no text in UTF-8"),
        (None, {}, "No such file"),
        ("\n\n", {}, "every caption is empty"),
    ],
)
def test_what_does_not_fit_an_array_is_refused(tmp_path, content, settings, says):
    if content is not None:
        (tmp_path / "c.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says):
        opened(np.zeros((2, 1, 8, 8), np.uint8), captions=str(tmp_path / "c.txt"), **settings)


@pytest.mark.parametrize(
    ("name", "content", "settings", "says"),
    [
        ("c.csv", TABLE, {"caption_column": "title"}, "no column 'title'"),
        ("c.csv", "a,b\n1,2\n", {}, "has no column of captions"),
        ("c.csv", "text\na car\n", {}, "has no column of names"),
        ("c.doc", TABLE, {}, "ends in"),
        (
            "c.csv",
            TABLE.replace("a.png", "in/a.png").replace("b.png", "in/b.png"),
            {"caption_column": "id"},
            "none of the",
        ),
        ("c.csv", "file_name,text\n", {}, "it is empty"),
        ("c.txt", "a.png: a car\n", {"caption_column": "text"}, "no columns"),
        ("c.txt", "no name here\n", {}, "no name and caption"),
        ("c.jsonl", '{"file_name": "a.png", "text": ["a car", "one more"]}\n', {}, r"text is \['a car'.*one caption"),
    ],
)
def test_what_does_not_fit_a_folder_is_refused(photos, tmp_path, name, content, settings, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        opened(photos, captions=str(tmp_path / name), **settings)


@pytest.mark.parametrize("settings", [{"text_encoder": "some"}, {"caption_column": "text"}])
def test_settings_of_captions_need_captions(photos, settings):
    for what in (photos, np.zeros((2, 1, 8, 8), np.uint8), "digits"):
        with pytest.raises(InputError, match=r"have none|none with captions"):
            opened(what, **settings)


def test_other_marks_end_no_line(tmp_path):
    (tmp_path / "c.txt").write_text("ze\u2028ro\none\x0c", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "ze\u2028ro"}\n{"text": "one \\ud83d"}\n', encoding="utf-8")
    for name, last in (("c.txt", "one"), ("c.jsonl", "one ?")):
        source = opened(np.zeros((2, 1, 8, 8), np.uint8), captions=str(tmp_path / name))
        text = source.conditioners[0]
        assert [text.said(row) for row in source.cond.values["text"]] == ["ze ro", last]


def test_a_caption_may_be_missing_in_a_table_of_rows(tmp_path):
    (tmp_path / "c.csv").write_text("text\nzero\n\ntwo\n")
    source = opened(np.zeros((3, 1, 8, 8), np.uint8), captions=str(tmp_path / "c.csv"))
    assert source.cond.given["text"].tolist() == [True, False, True]


def test_a_column_is_of_a_table(photos):
    (photos / "a.txt").write_text("beside a")
    with pytest.raises(InputError, match="there is none with captions"):
        opened(photos, caption_column="text")


def test_data_that_are_open_take_no_settings():
    with pytest.raises(InputError, match=r"data\.flip is for data that are yet to be opened"):
        opened(fn.data.digits(20), flip=True)
