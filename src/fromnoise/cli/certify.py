"""`fromnoise certify ddim`: check the laws of samplers against exact answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    Json,
    Plugin,
    SetOption,
    bar,
    load_plugins,
    make_sampler,
    result,
    save_figure,
    text_table,
)
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.certify import Check, Contender
    from fromnoise.samplers import Sampler


def certify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Samplers: ddim, heun, ...; or package.module:callable.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every shipped sampler, at every order.")] = False,
    set_: SetOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw error against evaluations into this file.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Check samplers against exact answers: evaluations, order, error, bias. Exit code 1 if one fails."""
    from fromnoise.certify import certify as check_laws

    load_plugins(plugin)
    contenders = _contenders(names or [], everything, set_)
    found: dict[str, list[Check]] = {}
    with bar("certifying") as progress:
        for k, contender in enumerate(contenders, 1):
            found[contender.name] = check_laws(contender)
            progress(k, len(contenders))
    if plot is not None:
        _draw(contenders, plot)
    passed = all(check.passed for checks in found.values() for check in checks)
    rows: list[dict[str, Any]] = [
        {"sampler": name, "law": c.name, "": "pass" if c.passed else "FAIL", "found": c.found, "asked": c.asked}
        for name, checks in found.items()
        for c in checks
    ]
    data = {
        "passed": passed,
        "samplers": {
            name: [{"law": c.name, "passed": c.passed, "found": c.found, "asked": c.asked} for c in checks]
            for name, checks in found.items()
        },
    }
    failed = sum(not check.passed for checks in found.values() for check in checks)
    verdict = f"{len(found)} samplers, {len(rows)} laws: " + ("all hold" if passed else f"{failed} broken")
    result(data, as_json, f"{text_table(rows)}\n\n{verdict}" + (f"\npicture: {plot}" if plot else ""))
    if not passed:
        raise typer.Exit(1)


def _contenders(names: list[str], everything: bool, settings: list[str] | None) -> list[Contender]:
    from fromnoise.certify import foreign, own
    from fromnoise.certify.contender import shipped

    if everything and (names or settings):
        raise InputError("--all takes every shipped sampler as it is: leave out names and --set")
    if everything:
        return [own(rule) for rule in shipped()]
    if not names:
        raise InputError("name a sampler to certify, such as ddim, or give --all")
    return [foreign(name) if ":" in name else own(_rule(name, settings)) for name in names]


def _rule(name: str, settings: list[str] | None) -> Sampler:
    rule = make_sampler(name, None, settings)
    assert rule is not None  # it has a name
    if rule.of_few_steps:
        raise InputError(f"the laws are those of samplers of a mean, and {name} is for models of few steps alone")
    return rule


def _draw(contenders: list[Contender], path: Path) -> None:
    from fromnoise import plot as pictures
    from fromnoise.certify import errors
    from fromnoise.certify.checks import stochastic

    steps = (3, 5, 7, 10, 14, 20, 28, 40, 80)
    curves = {
        c.name: ([c.evaluations(n) for n in steps], errors(c, steps)) for c in contenders if not stochastic(c)
    }  # a sampler that draws noise has no end point to compare
    if not curves:
        raise InputError("--plot: samplers that draw noise have no exact end points to compare with")
    save_figure(pictures.convergence(curves), path)
