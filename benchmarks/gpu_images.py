"""Pictures on a GPU: a U-Net of about 30 million parameters and DiT-B/2, on CIFAR-10 or any pictures.

    python benchmarks/gpu_images.py cifar10-train-jpg.tar.gz --steps 20000 --out runs/gpu
    python benchmarks/gpu_images.py digits --device cpu --steps 20 --small      # that it runs

For each network it prints the pictures a second of the training, the part of the bf16 rate of a matrix product that was
measured in the same run, and the Frechet distance of 5,000 samples in the features of a classifier of the data's own,
beside its floor.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import flops
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.metrics import evaluate
from fromnoise.training.judge import judge_of
from fromnoise.training.plan import prepare

NETWORKS: dict[str, dict[str, Any]] = {
    "U-Net (128, 256, 384), 2 blocks": {"name": "unet", "widths": [128, 256, 384], "blocks": 2, "patch": 1,
                                        "attention": [-1, -2], "embedding": 512},
    "DiT-B/2": {"name": "dit", "width": 768, "depth": 12, "heads": 12, "patch": 2},
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "a small U-Net": {"name": "unet", "widths": [16, 32]},
    "a small DiT": {"name": "dit", "width": 64, "depth": 2, "heads": 2},
}


def matrix_rate(device: torch.device, size: int) -> float:
    """Return the operations a second of a bf16 matrix product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        torch.matmul(a, a)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_of(denoiser: fn.Denoiser, batch: int) -> float:
    """Return the operations of a training step for a picture, forward and backward."""
    net, device = denoiser.network, denoiser.device
    x = torch.randn(batch, *denoiser.shape, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    cond = Cond({"label": labels}) if denoiser.label_names else None
    net.requires_grad_(True)
    with torch.enable_grad():
        total = flops.of_step(lambda: net(x, torch.zeros(batch, device=device), cond).square().mean().backward())
    net.zero_grad(set_to_none=True)
    return total / batch


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--small", action="store_true", help="small networks, to see that it runs")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    rate = matrix_rate(device, 512 if given.small else 8192)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, bf16 matrix product {rate / 1e12:.1f} TFLOP/s\n")
    print(
        "| network | parameters | pictures/s | part of the matrix rate | held-out loss | Frechet distance, in floors |"
    )
    print("| --- " * 6 + "|", flush=True)
    for title, network in (SMALL if given.small else NETWORKS).items():
        train = {"steps": given.steps, "batch_size": given.batch, "lr": 5e-4, "matrix_lr": 0.01, "warmup": 500}
        plan, source = prepare(given.data, None, {"network": network, "train": train})
        training = plan.assemble(source, device=device)
        flops = flops_of(training.denoiser, min(given.batch, 16))
        out = None if given.out is None else given.out / network["name"]
        rates, event = list[float](), None
        for event in training.fit(out, resume=out is not None):
            rates.append(event.rate)
        assert event is not None
        assert event.run is not None
        run, pictures = event.run, sorted(rates)[len(rates) // 2] * given.batch
        rows, held = run.parts()
        labels = torch.arange(given.samples) % max(len(run.denoiser.label_names), 1)
        cond = Cond({"label": labels}) if run.denoiser.label_names else None
        x = fn.sample(run.denoiser, given.samples, cond=cond, steps=18, precision="bf16", seed=1).cpu()
        space = judge_of(source) if run.denoiser.label_names else None
        found = evaluate(x, rows, features=space, held_out=held).measures[0]
        loss = "-" if event.held_out is None else f"{event.held_out.loss:.4f}"
        size = sum(p.numel() for p in run.denoiser.network.parameters())
        print(
            f"| {title} | {size / 1e6:.1f}M | {pictures:,.0f} | {pictures * flops / rate:.2f} | {loss} | "
            f"{found.ratio:.2f} +- {found.ratio_error:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
