"""Networks for pictures beside the peers': pictures a second in training and in sampling, and parts of the peak.

    python benchmarks/images.py                      # one thread, float32 and bf16: ten minutes
    python benchmarks/images.py --quick              # three rounds
    python benchmarks/images.py --no-peers           # ours alone, in this interpreter

All networks have MNIST's shape, 10 labels and about as many parameters as ours. They are timed in one process and take
turns; a ratio is the median of the rounds' own ratios. A training step is forward, mean square error, backward and
fused AdamW on 64 pictures; sampling is a forward pass on 64. FLOPs are those of convolutions and matrix products,
forward and backward, as torch counts them. The peak is the better of a 3 x 3 convolution and a matrix product, measured
in the run.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import environment
import flops
import torch
from machine import described
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
BATCH, SHAPE, LABELS = 64, (1, 28, 28), 10

Call = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


class Contender(NamedTuple):
    """A network, how it is called with x, times and labels, and of which kind it is: unet or dit."""

    name: str
    kind: str
    module: nn.Module
    call: Call


class Embedded(nn.Module):
    """A network of azula's, with the vector of time and label that it is modulated by."""

    def __init__(self, inner: nn.Module, width: int = 128) -> None:
        super().__init__()
        self.inner, self.label = inner, nn.Embedding(LABELS, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the output for x at times t with labels."""
        angles = t[:, None] * torch.exp(-torch.arange(32) / 3.5)
        return self.inner(x, self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(labels))


def ours() -> list[Contender]:
    """Return our own networks, as the recipe `image` has them."""
    from fromnoise.cond import Cond
    from fromnoise.nn import DiT, UNet

    def call(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return net(x, t, Cond({"label": labels}))

    return [
        Contender("fromnoise unet (48, 96)", "unet", UNet(SHAPE, classes=LABELS), call),
        Contender("fromnoise unet (64, 128)", "unet", UNet(SHAPE, (64, 128), classes=LABELS), call),
        Contender("fromnoise dit 128 x 5, patch 4", "dit", DiT(SHAPE, classes=LABELS), call),
        Contender("fromnoise dit 192 x 6, patch 4", "dit", DiT(SHAPE, 192, 6, 3, classes=LABELS), call),
    ]


def peers() -> list[Contender]:
    """Return the peers' networks of about as many parameters."""
    diffusers: Any = importlib.import_module("diffusers")
    unets: Any = importlib.import_module("azula.nn.unet")
    vits: Any = importlib.import_module("azula.nn.vit")
    from peers import inert_torchvision

    with inert_torchvision():
        small: Any = importlib.import_module("smalldiffusion")
        small_dit: Any = importlib.import_module("smalldiffusion.model_dit")
        small_unet: Any = importlib.import_module("smalldiffusion.model_unet")

    def published(heads: int) -> nn.Module:
        return diffusers.UNet2DModel(
            sample_size=28, in_channels=1, out_channels=1, block_out_channels=(24, 48, 64), layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8,
            attention_head_dim=heads, num_class_embeds=LABELS,
        )  # fmt: skip

    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=64, in_channels=1, out_channels=1, num_layers=5, sample_size=28,
        patch_size=4, num_embeds_ada_norm=LABELS,
    )  # fmt: skip

    def of_diffusers(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return net(x, t, class_labels=labels).sample

    def of_dit(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return net(x, timestep=t.long(), class_labels=labels).sample

    def of_small(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return net(x, t.reshape(-1, 1, 1, 1), labels)

    def of_azula(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return net(x, t, labels)

    azula_unet = unets.UNet(1, 1, mod_features=128, hid_channels=(32, 64, 96), hid_blocks=(1, 1, 1))
    azula_vit = vits.ViT(1, 1, mod_features=128, hid_channels=128, hid_blocks=5, patch_size=4, attention_heads=2)
    labelled = small.CondEmbedderLabel
    return [
        Contender("diffusers UNet2DModel, heads of 8", "unet", published(8), of_diffusers),
        Contender("diffusers UNet2DModel, one head", "unet", published(48), of_diffusers),
        Contender("azula UNet", "unet", Embedded(azula_unet), of_azula),
        Contender(
            "smalldiffusion Unet", "unet",
            small_unet.Unet(28, 1, 1, 32, (1, 2), 4, 1, (14,), 0.0, cond_embed=labelled(128, LABELS, 0.1)), of_small,
        ),
        Contender("diffusers DiTTransformer2DModel", "dit", dit, of_dit),
        Contender("azula ViT", "dit", Embedded(azula_vit), of_azula),
        Contender(
            "smalldiffusion DiT", "dit",
            small_dit.DiT(28, 1, 4, 5, 64, 2, cond_embed=labelled(128, LABELS, 0.1)), of_small,
        ),
    ]  # fmt: skip


class Rig:
    """A contender with an optimizer and its inputs."""

    def __init__(self, who: Contender, *, bf16: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.who, self.bf16 = who, bf16
        self.x = torch.randn(BATCH, *SHAPE, generator=generator)
        self.t = torch.rand(BATCH, generator=generator) * 900 + 1
        self.labels = torch.randint(LABELS, (BATCH,), generator=generator)
        self.optimizer = torch.optim.AdamW(who.module.parameters(), lr=1e-4, fused=True)

    def forward(self) -> Tensor:
        """Return the output for the batch."""
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            return self.who.call(self.who.module, self.x, self.t, self.labels)

    def train(self) -> None:
        """Do a step."""
        self.who.module.train()
        F.mse_loss(self.forward().float(), self.x).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def sample(self) -> None:
        """Evaluate once."""
        self.who.module.eval()
        with torch.inference_mode():
            self.forward()

    def flops(self) -> float:
        """Return the operations of a training step for a picture."""
        return flops.of_step(self.train) / BATCH


def seconds(work: Callable[[], object], least: float) -> float:
    """Return the time that one call takes, over as many as take `least` seconds."""
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < least or not count:
        work()
        count += 1
    return spent / count


def peak(dtype: torch.dtype, least: float) -> float:
    """Return the most operations a second: the better of a convolution and a matrix product."""
    a, conv = torch.randn(1536, 1536).to(dtype), nn.Conv2d(128, 128, 3, padding=1).to(dtype)
    x = torch.randn(64, 128, 14, 14).to(dtype).to(memory_format=torch.channels_last)
    conv = conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with torch.inference_mode():
        product = 2 * 1536**3 / min(seconds(lambda: a @ a, least) for _ in range(3))
        convolution = 2 * 9 * 128**2 * x[:, 0].numel() / min(seconds(lambda: conv(x), least) for _ in range(3))
    return max(product, convolution)


def measured(contenders: list[Contender], *, bf16: bool, rounds: int, least: float) -> list[dict[str, Any]]:
    """Time all in turns; return a row for each, its ratios being ours of its kind over it."""
    rigs = [Rig(who, bf16=bf16) for who in contenders]
    flops = [rig.flops() for rig in rigs]
    for rig in rigs:
        rig.sample()
    times: list[list[tuple[float, float]]] = [[] for _ in rigs]
    for number in range(rounds):
        for k in range(len(rigs)) if number % 2 else reversed(range(len(rigs))):
            times[k].append((seconds(rigs[k].train, least), seconds(rigs[k].sample, least / 2)))
    best = peak(torch.bfloat16 if bf16 else torch.float32, least)
    first = {kind: next(k for k, who in enumerate(contenders) if who.kind == kind) for kind in ("unet", "dit")}
    rows = []
    for k, who in enumerate(contenders):
        own = first[who.kind]
        faster = [
            statistics.median(theirs[i] / mine[i] for theirs, mine in zip(times[k], times[own], strict=True))
            for i in (0, 1)
        ]
        train, sample = (statistics.median(one[i] for one in times[k]) for i in (0, 1))
        rate = flops[k] * BATCH / train
        rows.append({
            "network": who.name, "kind": who.kind, "bf16": bf16, "mflop": flops[k] / 1e6,
            "parameters": sum(p.numel() for p in who.module.parameters()), "train": BATCH / train,
            "sample": BATCH / sample, "gflops": rate / 1e9, "share": rate / best, "ours_train": faster[0],
            "ours_sample": faster[1], "ours_per_flop": faster[0] * flops[own] / flops[k], "peak": best / 1e9,
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as Markdown."""
    head = (
        "| network | parameters | MFLOP a picture | training, pictures/s | sampling, pictures/s | GFLOP/s | "
        "part of the peak | ours, times as fast: training | sampling | training, per FLOP |\n" + "| --- " * 10 + "|"
    )
    lines = [
        f"| {r['network']} | {r['parameters'] / 1e6:.2f}M | {r['mflop']:.0f} | {r['train']:.0f} | {r['sample']:.0f} | "
        f"{r['gflops']:.0f} | {r['share']:.2f} | {r['ours_train']:.2f} | {r['ours_sample']:.2f} | "
        f"{r['ours_per_flop']:.2f} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--constraints", type=Path, default=HERE.parent / "constraints.txt")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not given.no_peers and not environment.inside():
        raise SystemExit(
            subprocess.run([environment.ready(given.constraints), __file__, *sys.argv[1:]], check=False).returncode
        )
    torch.manual_seed(0)
    contenders = ours() + ([] if given.no_peers else peers())
    rounds, least = (3, 0.3) if given.quick else (9, 0.8)
    every, parts = [], [f"# Networks for pictures\n\n{described()}; {' '.join(sys.argv[1:]) or 'no options'}"]
    for bf16 in (False, True):
        rows = measured(contenders, bf16=bf16, rounds=rounds, least=least)
        every += rows
        parts.append(f"\n## {'bf16' if bf16 else 'float32'}, peak {rows[0]['peak']:.0f} GFLOP/s\n\n{table(rows)}")
        print("\n".join(parts[-1:] if bf16 else parts), flush=True)
    for path, text in ((given.out, "\n".join(parts) + "\n"), (given.json, json.dumps(every, indent=1))):
        if path is not None:
            path.write_text(text)


if __name__ == "__main__":
    main()
