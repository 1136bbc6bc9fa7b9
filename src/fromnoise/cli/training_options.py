"""The options that `train` and `train-autoencoder` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Samples in each step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The seed of every random number.")]
Size = Annotated[int | None, typer.Option("--size", help="The height and width that pictures are brought to.")]
Fit = Annotated[
    str | None,
    typer.Option("--fit", help="How, where they are no squares: crop their longer side, or pad the shorter."),
]
Flip = Annotated[bool, typer.Option("--flip", help="Train on the pictures' mirror images too.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the data where a picture cannot be read.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings that override the recipe's.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting, such as --set train.batch_size=128.", metavar="K=V")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="How many processor threads to use; by default one for small pictures."),
]
KeepData = Annotated[
    bool, typer.Option("--data/--no-data", help="Whether the run folder holds the samples of your own data.")
]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Measure at the end and write report.html.")]
