import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fromnoise as fn
from fromnoise.arrays import finest, usable_device
from fromnoise.errors import InputError
from fromnoise.run.lock import RunLock
from fromnoise.training.loop import _begin


class NoFloat64Samples(TorchDispatchMode):
    """Refuse whatever makes float64 samples `[B, 2]`, as a device without float64 would; times are on the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor) and made.dtype == torch.float64 and made.shape[1:] == (2,):
                raise TypeError(f"{func} made float64 samples {list(made.shape)}")
        return out


@pytest.mark.parametrize("schedule", [fn.LinearBeta(T=50), fn.EDM()])
@pytest.mark.parametrize(("loss", "predict"), [("denoising", "eps"), ("sliced", "score"), ("denoising", "edm")])
def test_training_and_sampling_need_no_float64_on_the_device(schedule, loss, predict):
    data = fn.data.spiral(200)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 16), schedule, predict)
    config = fn.TrainConfig(steps=2, batch_size=16, loss=loss, weighting="snr" if predict == "score" else "min-snr")
    loop = _begin(denoiser, data, config, None, None, lock=RunLock(None), resume=False)
    assert loop.floor is not None  # it is computed where the data are kept, not on the device
    with NoFloat64Samples():
        assert list(loop.steps(None)) == []  # the news of the last step are kept for `finish`
    assert loop.done == 2
    loop.finish(None)
    with NoFloat64Samples():
        for sampler in (fn.Multistep(), fn.DDIM(eta=0.5), fn.Heun(), fn.SDE()):
            fn.sample(denoiser, 5, sampler=sampler, steps=6)


def test_the_guard_against_float64_notices_it():
    with pytest.raises(TypeError, match="float64 samples"), NoFloat64Samples():
        torch.zeros(3, 2).double()


def test_the_finest_type_is_float64_except_on_mps():
    assert finest("cpu") == finest(torch.device("cuda:0")) == torch.float64
    assert finest("mps") == torch.float32


@pytest.mark.parametrize("name", ["meta", "hpu", "tpu9", "cuda:77", "", "CPU "])
def test_a_device_that_cannot_compute_is_refused(name):
    with pytest.raises(InputError, match="there is no such device here that can compute; there is cpu"):
        usable_device(name)
    assert usable_device("cpu") == torch.device("cpu")
