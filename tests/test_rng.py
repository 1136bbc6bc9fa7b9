import pytest
import torch

from fromnoise.errors import InputError
from fromnoise.rng import Streams, check_seed, seeded, stream


def test_a_stream_is_its_name():
    a, b = (torch.rand(5, generator=stream(3, "x", 7)) for _ in range(2))
    assert torch.equal(a, b)
    for other in (stream(4, "x", 7), stream(3, "y", 7), stream(3, "x", 8)):
        assert not torch.equal(a, torch.rand(5, generator=other))


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    streams = Streams(0, "train")
    torch.rand(1000, generator=streams.at(5))
    assert torch.equal(torch.rand(5, generator=streams.at(6)), torch.rand(5, generator=stream(0, "train", 6)))


def test_no_two_streams_of_a_seed_share_the_bits_that_count():
    streams = Streams(11, "chunk")
    low = {streams.seed_of(i) & 0xFFFFFFFF for i in range(200_000)}  # by chance 4.6 pairs would collide
    assert len(low) == 200_000


def test_streams_look_independent():
    draws = torch.stack([torch.randn(400, generator=stream(0, "c", i)) for i in range(100)])
    correlation = draws.corrcoef() - torch.eye(100)
    assert correlation.abs().max() < 0.25  # 4,950 pairs of 400: five standard errors


def test_seeded_puts_the_global_generator_back():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5, "net"):
        a = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(5, "net"):
        assert torch.equal(torch.rand(3), a)


@pytest.mark.parametrize("seed", [-1, 2**64, True])
def test_wrong_seeds_are_refused(seed):
    with pytest.raises(InputError, match="seed must be"):
        check_seed(seed)
