import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.data.files import read_file
from fromnoise.errors import InputError

X = np.random.default_rng(0).normal(size=(20, 3)) * [1e6, 1.0, 1e-3]


def written(path, x=X, between=",", head="", decimals="%.17g"):
    np.savetxt(path, x, delimiter=between, header=head, comments="", fmt=decimals)
    return path


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["", "height;width;depth", '"a ""b""";c;""'])
def test_a_table_is_read_with_and_without_names_to_the_last_digit(tmp_path, between, head):
    path = written(tmp_path / "t.csv", between=between, head=head.replace(";", between))
    data = fn.data.open(str(path))
    assert data.name == "t"
    assert data.x.dtype == torch.float64
    assert np.array_equal(data.x.numpy(), X)


def test_other_spellings_of_a_table_are_read(tmp_path):
    path = tmp_path / "T.CSV"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n1, 2\r\n"3",-4e0\r\n')
    assert fn.data.open(path).x.tolist() == [[1, 2], [3, -4]]
    path.write_text('"a\nb",c\n1,2\n')
    assert fn.data.open(path).x.tolist() == [[1, 2]]
    path.write_text("# x y\n5\n6\n")
    assert fn.data.open(path).x.tolist() == [[5], [6]]
    path.write_text("7\n8")
    assert fn.data.open(path).x.tolist() == [[7], [8]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,\n", "line 3, column 'b': a cell is empty"),
        ("a,b\n1,2\n3,x y\n", "line 3, column 'b': 'x y' is no number"),
        ("1,2\n3,NA\n", "line 2, column 2: 'NA' is no number"),
        ("1,,3\n4,5,6\n", "line 1, column 2: a cell is empty"),
        ("1,NA,3\n4,5,6\n", "line 1, column 2: 'NA' is no number"),
        ("1,2,\n3,4,\n", "line 1, column 3: a cell is empty"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2: 3 cells, and the first line has 2"),
        ("a\n1,5\n2,5\n", "line 2: 2 cells, and the first line has 1"),
        (",x,y\n0,1.5,2.5\n", "the first column has no name"),
        ("1,5;2,5\n3,5;4,5\n", "line 2, column '1,5': '3,5' is no number"),
        ("1_0,2\n3,4\n", "line 1, column 1: '1_0' is no number"),
        ('a,b\n1,"2\n' + "3,4\n" * 50_000, "no numbers that can be read"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, and the first line has 2"),
        ("a;b\n1,5;2\n", "line 2, column 'a': '1,5' is no number"),
        ("a,b\n", "names alone"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("\x00\x01", "names alone"),
        ("a,b\n1,nan\n", "must be finite"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_by_its_place(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        fn.data.open(path)
    assert "\n" not in str(refused.value)


def test_arrays_are_read_with_their_labels_or_vectors(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    assert np.array_equal(fn.data.open(tmp_path / "x.npy").x.numpy(), X.astype(np.float32))
    np.savez(tmp_path / "one.npz", whatever=X)
    assert np.array_equal(fn.data.open(tmp_path / "one.npz").x.numpy(), X)
    np.savez(tmp_path / "two.npz", x=X, labels=np.array(["a", "b"] * 10))
    assert fn.data.open(tmp_path / "two.npz").label_names == ("a", "b")
    np.savez(tmp_path / "three.npz", x=X, cond=X[:, :2])
    assert fn.data.open(tmp_path / "three.npz").cond.values["vector"].shape == (20, 2)
    np.savez(tmp_path / "four.npz", x=X, z=X)
    with pytest.raises(InputError, match="samples are in one array, or in x"):
        fn.data.open(tmp_path / "four.npz")


def test_files_that_are_not_what_they_are_called_are_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "latin.csv").write_bytes("größe\n1\n".encode("latin-1"))
    (tmp_path / "folder.csv").mkdir()
    np.savez_compressed(tmp_path / "packed.npz", X)
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[60:120] = bytes(60)
    (tmp_path / "packed.npz").write_bytes(packed)
    huge = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000000, 3), }"
    (tmp_path / "huge.npy").write_bytes(huge.ljust(127) + b"\n")
    for name in ("o.npy", "broken.npz", "broken.npy", "latin.csv", "folder.csv", "packed.npz", "huge.npy"):
        with pytest.raises(InputError, match=r"no numbers that can be read|cannot be read"):
            read_file(tmp_path / name)
    with pytest.raises(InputError, match="there is no such file"):
        fn.data.open("nowhere.csv")
    with pytest.raises(InputError, match="unknown data set"):
        fn.data.open("a" * 5000)
    np.savez(tmp_path / "swapped.npz", x=X)
    (tmp_path / "swapped.npz").rename(tmp_path / "swapped.npy")
    assert len(fn.data.open(tmp_path / "swapped.npy")) == 20
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    with pytest.raises(InputError, match=r"text.npy: data must be numbers"):
        fn.data.open(tmp_path / "text.npy")
    (tmp_path / "x.txt").write_text("1,2")
    with pytest.raises(InputError, match=r"files of numbers end in .csv, .tsv, .npy, .npz"):
        fn.data.open(str(tmp_path / "x.txt"))
    with pytest.raises(InputError, match=r"did you mean 'spiral'"):
        fn.data.open("spirl")
    with pytest.raises(InputError, match=r"or a file of numbers: .csv"):
        fn.data.open("zzzzzz")


def test_a_table_trains_from_its_file(tmp_path):
    path = written(tmp_path / "mine.csv", head="a,b,c")
    run = fn.train(path, steps=3, out=tmp_path / "run")
    assert run.source.name == "mine"
    again = fn.load(tmp_path / "run")
    assert np.array_equal(again.source.x.numpy(), X)
    assert len(fn.train("spiral", steps=1).source) == 100_000  # as the recipe has it
