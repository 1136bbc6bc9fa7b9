"""Other libraries, each trained and sampled as its own documentation shows, around the same plain network.

A peer's training is an iterator that does one optimizer step each time it is asked for the next item. Its data come
the way its README has them come, its optimizer and extras (EMA, clipping, reading the loss) are its README's too.
Progress bars are off.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from network import ALPHAS, SIGMAS, Plain, T, every_row, expected, reference_ddim
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Peer:
    """A library and its manner.

    Attributes:
        name: the library's.
        manner: its training in a few words.
    """

    name: str
    manner: str

    def __init__(self) -> None:
        """Import the library."""

    def training(self, points: Tensor, batch: int, network: Plain) -> Iterator[object]:
        """Train the network on points `[N, 2]`, an optimizer step for each item."""
        raise NotImplementedError

    def sample(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        """Turn standard normal x `[N, 2]` into samples with so many network evaluations."""
        raise NotImplementedError

    def expected(self, network: Plain, x: Tensor, steps: int) -> Tensor | None:
        """Return what `sample` must answer, by the reference; None where fresh noise makes that impossible."""
        return expected(network, x, steps)


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


class Diffusers(Peer):
    """diffusers: its schedulers, the loop written by hand; data by indexing, EMA by its EMAModel."""

    name = "diffusers"
    manner = "DDPMScheduler, Adam, EMAModel"

    def __init__(self) -> None:
        self._lib = importlib.import_module("diffusers")
        self._ema = importlib.import_module("diffusers.training_utils").EMAModel

    def training(self, points: Tensor, batch: int, network: Plain) -> Iterator[object]:
        scheduler = self._lib.DDPMScheduler(num_train_timesteps=T, beta_schedule="linear")
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        ema = self._ema(network.parameters(), decay=0.999)
        while True:
            x0 = points[torch.randint(len(points), (batch,))]
            eps = torch.randn_like(x0)
            index = torch.randint(0, T, (batch,))
            loss = F.mse_loss(network(scheduler.add_noise(x0, eps, index), index), eps)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            ema.step(network.parameters())
            yield None

    def sample(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        scheduler = self._lib.DDIMScheduler(
            num_train_timesteps=T, beta_schedule="linear", clip_sample=False, timestep_spacing="trailing"
        )
        scheduler.set_timesteps(steps)
        with torch.no_grad():
            for index in scheduler.timesteps:
                x = scheduler.step(network(x, index.expand(len(x))), index, x).prev_sample
        return x


class Azula(Peer):
    """azula: KarrasDenoiser on its VPSchedule, which tells the network log(sigma/alpha)."""

    name = "azula"
    manner = "DataLoader, KarrasDenoiser.loss, Adam; no EMA"

    def __init__(self) -> None:
        self._denoise = importlib.import_module("azula.denoise")
        self._schedule = importlib.import_module("azula.noise").VPSchedule()
        self._sampler = importlib.import_module("azula.sample").DDIMSampler

    def _denoiser(self, network: Plain) -> Any:
        return self._denoise.KarrasDenoiser(backbone=_Told(network), schedule=self._schedule)

    def training(self, points: Tensor, batch: int, network: Plain) -> Iterator[object]:
        denoiser = self._denoiser(network)
        optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-4)
        loader = DataLoader(TensorDataset(points), batch_size=batch, shuffle=True)
        for (x,) in _forever(loader):
            denoiser.loss(x, torch.rand((len(x),))).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield None

    def sample(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        sampler = self._sampler(self._denoiser(network).eval(), steps=steps, silent=True)
        return sampler(x)

    def expected(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        times = torch.linspace(1, 0, steps + 1)
        alphas, sigmas = (scale.tolist() for scale in self._schedule(times))

        def x0_hat(x_t: Tensor, i: int) -> Tensor:
            alpha, sigma = torch.tensor(alphas[i]), torch.tensor(sigmas[i])
            size = (alpha**2 + sigma**2).sqrt()
            out = network(x_t / size, every_row(float(torch.log(sigma / alpha)), x_t))
            return alpha / size**2 * x_t + sigma / size * out

        return reference_ddim(x0_hat, x, alphas, sigmas)


class _Told(nn.Module):
    """The network for a library that gives one time for all rows, or one each."""

    def __init__(self, network: Plain) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.network(x, told.expand(len(x)))


class SmallDiffusion(Peer):
    """smalldiffusion: training_loop and samples; x0 + sigma eps, scaled to the network's x_t by its own Scaled."""

    name = "smalldiffusion"
    manner = "DataLoader, training_loop (AdamW, accelerate); no EMA"

    def __init__(self) -> None:
        self._accelerator = importlib.import_module("accelerate").Accelerator
        with inert_torchvision():
            self._lib: Any = importlib.import_module("smalldiffusion")
        self._schedule = self._lib.ScheduleDDPM(T)
        self._wrapped = _wrapped_for_smalldiffusion(self._lib)

    def training(self, points: Tensor, batch: int, network: Plain) -> Iterator[object]:
        loader = DataLoader(_Points(points), batch_size=batch)
        return self._lib.training_loop(
            loader, self._wrapped(network, self._schedule.sigmas), self._schedule,
            accelerator=self._accelerator(cpu=True), lr=1e-4,
        )  # fmt: skip

    def sample(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        sigmas = self._schedule.sample_sigmas(steps)
        start = x * (1 + sigmas[0] ** 2).sqrt()  # its x_t is x0 + sigma eps
        accelerator = self._accelerator(cpu=True)
        *_, x0 = self._lib.samples(
            self._wrapped(network, self._schedule.sigmas), sigmas, xt=start, accelerator=accelerator
        )
        return x0

    def expected(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        # it ends at the table's first level, not at 0, and answers x0 + sigma eps
        alpha, sigma = float(ALPHAS[0]), float(SIGMAS[0])
        return expected(network, x, steps, last=(alpha, sigma)) / alpha


class _Points(Dataset[Tensor]):
    """Points one by one, as that library's own toy data sets give them."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Tensor:
        return self.points[index]


def _wrapped_for_smalldiffusion(lib: Any) -> Any:
    class Wrapped(nn.Module, lib.ModelMixin):
        """The plain network told the index of sigma in the table."""

        input_dims = (2,)

        def __init__(self, network: Plain, sigmas: Tensor) -> None:
            super().__init__()
            self.network, self.sigmas = network, sigmas

        def forward(self, x: Tensor, sigma: Tensor, cond: None = None) -> Tensor:
            index = torch.searchsorted(self.sigmas, sigma.reshape(-1) * (1 - 1e-6))
            return self.network(x, index.expand(len(x)))

    return lib.Scaled(Wrapped)


@contextlib.contextmanager
def inert_torchvision() -> Iterator[None]:
    """Stand in for torchvision, which is imported for picture transforms that points have no use for."""

    class Anything(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: None

    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    stubs = {name: Anything(name) for name in names}
    stubs["torchvision"].transforms = stubs["torchvision.transforms"]  # pyright: ignore[reportAttributeAccessIssue]
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def only_module(package: str, module: str) -> Any:
    """Import package.module without running the package's own `__init__`, which may import far more."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    bare = types.ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations or ())
    bare.__spec__ = spec
    sys.modules[package] = bare
    return importlib.import_module(f"{package}.{module}")


class TinyDiffusion(Peer):
    """The manner of tiny-diffusion, which is no package: tables in float32, a DataLoader, DDPM over all its steps."""

    name = "tiny-diffusion's manner"
    manner = "DataLoader, AdamW, clipping, loss.item() each step; no EMA"

    def training(self, points: Tensor, batch: int, network: Plain) -> Iterator[object]:
        table = _Tables(T)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        loader = DataLoader(TensorDataset(points), batch_size=batch, shuffle=True, drop_last=True)
        losses: list[float] = []
        for (x0,) in _forever(loader):
            eps = torch.randn(x0.shape)
            index = torch.randint(0, T, (len(x0),)).long()
            loss = F.mse_loss(network(table.noised(x0, eps, index), index), eps)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach().item())
            yield None

    def sample(self, network: Plain, x: Tensor, steps: int) -> Tensor:
        table = _Tables(steps)
        for index in reversed(range(steps)):
            rows = torch.full((len(x),), index)
            with torch.no_grad():
                eps = network(x, rows)
            x = table.step_back(x, eps, index)
        return x

    def expected(self, network: Plain, x: Tensor, steps: int) -> None:
        return None


class _Tables:
    """DDPM's coefficients for a linear schedule of n steps, one table each."""

    def __init__(self, n: int) -> None:
        betas = torch.linspace(1e-4, 0.02, n)
        bars = torch.cumprod(1 - betas, 0)
        before = torch.cat([torch.ones(1), bars[:-1]])
        self.alpha, self.sigma = bars.sqrt(), (1 - bars).sqrt()
        self.inverse, self.level = (1 / bars).sqrt(), (1 / bars - 1).sqrt()
        self.on_x0 = betas * before.sqrt() / (1 - bars)
        self.on_x_t = (1 - before) * (1 - betas).sqrt() / (1 - bars)
        self.variance = (betas * (1 - before) / (1 - bars)).clip(1e-20)

    def noised(self, x0: Tensor, eps: Tensor, index: Tensor) -> Tensor:
        """Draw x_t at each row's index."""
        return self.alpha[index].reshape(-1, 1) * x0 + self.sigma[index].reshape(-1, 1) * eps

    def step_back(self, x_t: Tensor, eps: Tensor, index: int) -> Tensor:
        """Draw the step before from the posterior."""
        x0_hat = self.inverse[index] * x_t - self.level[index] * eps
        mean = self.on_x0[index] * x0_hat + self.on_x_t[index] * x_t
        return mean + self.variance[index] ** 0.5 * torch.randn_like(eps) if index > 0 else mean


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (SmallDiffusion, Azula, Diffusers, TinyDiffusion)}
