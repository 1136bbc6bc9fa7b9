import fractions

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import fromnoise as fn
from fromnoise.errors import FromnoiseError, InputError

X = np.random.default_rng(0).normal(size=(20, 3))


class Frame:
    """What a frame of pandas or polars shows of itself."""

    columns = ("a", "b", "c")

    def to_numpy(self):
        return X


@pytest.mark.parametrize(
    ("what", "dtype"),
    [(X, torch.float64), (X.astype(np.float32), torch.float32), (X.astype(">f8"), torch.float64),
     (X.astype(np.float16), torch.float32), (X.astype(np.longdouble), torch.float64), (X[::-1, ::-1], torch.float64),
     (X.tolist(), torch.float64), (torch.tensor(X), torch.float64), (torch.tensor(X).bfloat16(), torch.float32),
     ((10 * X).astype(np.int64), torch.float64), ((10 * X).astype(np.int8), torch.float32), (X > 0, torch.float32),
     (Frame(), torch.float64), (TensorDataset(torch.tensor(X)), torch.float64), (np.asfortranarray(X), torch.float64)],
)  # fmt: skip
def test_arrays_frames_lists_and_torch_datasets_are_read_without_loss(what, dtype):
    source = fn.data.open(what)
    assert (source.shape, len(source), source.x.dtype) == ((3,), 20, dtype)
    expected = what.x if isinstance(what, fn.Dataset) else getattr(what, "tensors", [what])[0]
    expected = X if isinstance(expected, Frame) else expected
    torch.testing.assert_close(
        source.x.double(),
        torch.as_tensor(expected if isinstance(expected, torch.Tensor) else np.array(expected, dtype=float)).double(),
        rtol=0,
        atol=0,
    )


def test_read_only_and_shared_memory_is_left_alone():
    x = X.copy()
    x.flags.writeable = False
    source = fn.data.open(x)
    source.x[0] = 7.0
    assert x[0, 0] != 7.0


def test_names_and_data_sets_are_opened():
    assert fn.data.open("spiral").name == "spiral"
    data = fn.data.moons(30)
    assert fn.data.open(data) is data


def test_pairs_have_conditions():
    labelled = fn.data.open((X, ["a", "b"] * 10))
    assert (labelled.label_names, labelled.labels.tolist()[:3]) == (("a", "b"), [0, 1, 0])
    told = fn.data.open((X, np.linspace(0, 1, 40).reshape(20, 2)))
    assert told.cond.values["vector"].shape == (20, 2)
    of_torch = fn.data.open(TensorDataset(torch.tensor(X), torch.arange(20) % 4))
    assert of_torch.label_names == ("0", "1", "2", "3")
    pictures = fn.data.open([(torch.zeros(1, 4, 4) + k) for k in range(5)])
    assert pictures.shape == (1, 4, 4)


class Endless(torch.utils.data.Dataset):
    def __getitem__(self, k):
        return torch.zeros(2)


class Uneven(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, k):
        return torch.zeros(k + 1)


@pytest.mark.parametrize(
    ("what", "words"),
    [(None, "not None"), ([[1, 2], [3]], "differ in length"), (np.array([["a", "b"]]), "text"),
     (np.array([[fractions.Fraction(1, 2)]], dtype=object), "objects"), ([[1, "x"], [2, "y"]], "text"),
     ("spirl", "did you mean 'spiral'"), (np.array([[1 + 2j]]), "complex"), (np.zeros((0, 2)), "N at least 1"),
     (np.zeros(5), r"\[N, \*S\]"), (3.0, r"\[N, \*S\]"), ([], r"\[N, \*S\]"), (np.array([[np.nan, 1.0]]), "finite"),
     (np.array([["2020-01-01"]], dtype="datetime64[D]"), "dates"), (Endless(), "length"), (Uneven(), "one shape"),
     ((X, ["a"] * 19), "19 conditions were given for 20"), ((X, [0.5] * 20), "condition vectors must be"),
     ({"a": [1]}, "objects"), (b"bytes", "bytes"), (object(), "objects")],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_line(what, words):
    with pytest.raises(FromnoiseError, match=words) as caught:
        fn.data.open(what)
    assert "\n" not in str(caught.value)


def test_what_would_be_dropped_is_refused():
    x = np.ma.masked_array(np.ones((4, 2)), mask=np.eye(4, 2, dtype=bool))
    with pytest.raises(InputError, match="2 of its numbers are masked"):
        fn.data.open(x)
    assert fn.data.open(np.ma.masked_array(np.ones((4, 2)))).shape == (2,)
    triples = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.arange(20), torch.arange(20))
    with pytest.raises(InputError, match="not 3 things"):
        fn.data.open(triples)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [(torch.arange(6).reshape(3, 2), torch.float64), (torch.ones(3, 2).bfloat16(), torch.float32),
     (torch.ones(3, 2, requires_grad=True), torch.float32), (np.ones((3, 2), np.float16), torch.float32),
     ([[1, 2], [3, 4], [5, 6]], torch.float64)],
)  # fmt: skip
def test_a_data_set_takes_numbers_of_any_form_and_is_read_back(x, dtype, tmp_path):
    data = fn.Dataset(x)
    assert data.x.dtype == dtype
    assert not data.x.requires_grad
    run = fn.train(data, steps=2, out=tmp_path / "r")
    assert torch.equal(fn.load(run.folder.path).source.x, data.x)


@pytest.mark.parametrize("x", [torch.eye(3).to_sparse(), torch.ones(3, 2, device="meta"), torch.zeros(3, 0)])
def test_tensors_without_numbers_are_refused_in_one_line(x):
    with pytest.raises(InputError):
        fn.Dataset(x)


def test_a_loader_stands_for_its_data_set():
    items = TensorDataset(torch.tensor(X), torch.arange(20) % 2)
    data = fn.data.open(torch.utils.data.DataLoader(items, batch_size=7, shuffle=True))
    assert np.array_equal(data.x.numpy(), X)
    assert data.labels.tolist() == [0, 1] * 10
