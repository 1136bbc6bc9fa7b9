"""`fromnoise sample runs/spiral -n 300`: draw samples from a run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.common import (
    Device,
    EncoderPlace,
    Eta,
    GuidanceScale,
    ImageOption,
    Json,
    Plugin,
    Precision,
    RunPath,
    SamplerName,
    ScheduleOption,
    SetOption,
    StepsOption,
    bar,
    check_device,
    check_precision,
    finite,
    guided,
    load_plugins,
    make_sampler,
    put_on_path,
    result,
    settle_threads,
)  # fmt: skip
from fromnoise.cli.reading import completing, prompts_from, told
from fromnoise.cli.writers import Known, usual, write, writer_for


def sample(
    run: RunPath,
    n: Annotated[int | None, typer.Option("-n", help="How many samples: 300, or 100 pictures.")] = None,
    sampler: SamplerName = None,
    steps: StepsOption = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label, by name or number.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the pictures are to show, of a run on pictures with captions.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file with a prompt in each line, which the samples take in turn.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="A prompt that guidance moves away from.")] = None,
    text_encoder: EncoderPlace = None,
    guidance: GuidanceScale = None,
    image: ImageOption = None,
    known: Annotated[Path | None, typer.Option(help="A picture to complete, where --mask is white.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture: white where something is to be made.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file: .npy or .npz; of points also .csv, .png, .svg, .pdf; of pictures .png for one sheet, or a "
            "folder. By default in the run's folder."
        ),
    ] = None,
    eta: Eta = None,
    schedule: ScheduleOption = None,
    set_: SetOption = None,
    weights: Annotated[str, typer.Option(help="The weights: ema (averaged) or model (the last ones).")] = "ema",
    ema: Annotated[
        float | None, typer.Option(help="Average the weights over this part of the training, such as 0.1, instead.")
    ] = None,
    precision: Precision = "float32",
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Draw samples from a run, in the data's own units. Sample i is the same for any n."""
    from fromnoise.run import load
    from fromnoise.samplers import sample_chunks, samplers, settled

    load_plugins(plugin)
    asked = make_sampler(sampler, eta, set_)
    trained = load(run, weights=weights, ema=ema, text_encoder=text_encoder)
    trained.denoiser.to(check_device(device))
    settle_threads(trained.denoiser.shape)
    texts = prompts_from(trained.denoiser, prompt, prompts)
    path = put_on_path(trained, asked, schedule)
    denoiser = completing(guided(path, guidance, label, texts, negative), known, mask)
    rule, steps = settled(denoiser, asked, steps)
    form = denoiser.codec.form
    ending, count = usual(form)
    cond = told(denoiser, label, image, texts, n)
    pictures = cond.get("image") if isinstance(cond, dict) else None
    count = len(pictures) if pictures is not None and pictures.dim() > 3 else len(texts) if len(texts) > 1 else count
    n = count if n is None else n
    what = [
        label, texts[0][:40] if len(texts) == 1 else None, None if prompts is None else f"of-{prompts.stem}",
        None if negative is None else f"not-{negative[:40]}", _part("guidance", guidance), _part("on-", schedule),
        _part("n", n if n != count else None),
        "last-weights" if weights != "ema" else None, _part("ema", ema),
        None if image is None else f"from-{image.stem}", None if known is None else f"completed-{known.stem}",
        precision if precision != "float32" else None,
    ]  # fmt: skip
    out = out or run / "samples" / f"{_name(samplers.changed(rule), steps, what, seed)}{ending}"
    writer_for(form, out)  # an ending that nothing writes is refused before anything is drawn
    began = time.perf_counter()
    with bar("sampling") as progress:
        parts = sample_chunks(
            denoiser, n, sampler=rule, steps=steps, cond=cond, seed=seed, precision=check_precision(precision),
            progress=progress,
        )  # fmt: skip
        said = [texts[k % len(texts)] for k in range(n)] if texts else []
        write(finite(parts), n, form, out, Known(said, denoiser.codec.ends))
    seconds = time.perf_counter() - began
    data: dict[str, Any] = {
        "out": str(out), "n": n, "sampler": samplers.settings(rule), "steps": steps, "seed": seed,
        "label": label, "prompts": texts, "negative": negative, "guidance": guidance, "seconds": round(seconds, 3),
    }  # fmt: skip
    name = samplers.settings(rule)["name"]
    result(data, as_json, f"{out}: {n:,} samples by {name} in {steps} steps, {seconds:.2f} s")


def _name(rule: Mapping[str, Any], steps: int, what: Sequence[str | None], seed: int) -> str:
    """Return a file's name that says how its samples were made: what is not the default is part of it."""
    settings = [_part(key.replace("_", "-"), value) for key, value in rule.items() if key != "name"]
    parts = [rule["name"], str(steps), *settings, *what, f"seed{seed}"]
    return "-".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts if part)


def _part(name: str, value: Any) -> str | None:
    if value is None:
        return None
    return f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}"
