"""Measure samplers on problems whose exact trajectories are known: `python benchmarks/solvers.py`.

Every rule starts from the same noise and spends exactly so many evaluations of the exact denoiser; its error is the
distance of its end points from those of the exact flow. Ours beside diffusers, k-diffusion and azula, each in many
settings, against the best of all of which it is held. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import environment

BUDGETS = (5, 10, 20, 50)
TUNED_ON = ("spiral", "moons", "ring", "mixture-16", "images-64", "images-256", "mnist-784", "cifar-3072")
UNSEEN = ("grid-2", "tree-3", "torus-4", "sparse-8")
"""Problems that no rule was tuned on."""
BARS = {name: (1.0, 1 / 3, 1 / 4, 1.0) if name in ("spiral", "moons") else (1.0, 0.7, 0.6, 1.0) for name in TUNED_ON}
"""The share of the best peer's root mean square error that ours may have, at each budget."""
OURS = "fromnoise"
JUDGED = 2
"""How many of our rows are held to the bars: the default rule, on the default path and on another."""


class Score(NamedTuple):
    """One rule on one problem.

    Attributes:
        problem: its name.
        library: whose rule.
        rule: its name.
        rms: root mean square distance from the exact end points at each budget; None where it cannot spend just that.
        median: the median distance.
    """

    problem: str
    library: str
    rule: str
    rms: tuple[float | None, ...]
    median: tuple[float | None, ...]


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join((*TUNED_ON, *UNSEEN)), help="some of the problems")
    parser.add_argument("-n", type=int, default=4096, help="how many starts; fewer where an exact answer is dear")
    parser.add_argument("--every-start", action="store_true", help="-n starts where an exact answer is dear, too")
    parser.add_argument("--rules", default="", metavar="PARTS", help='only rules with such a part: "edm,UniPC 3,vAB 2"')
    parser.add_argument(
        "--data", type=Path, action="append", default=[], metavar="FILE",
        help="an archive of pictures, for mnist-784 or cifar-3072; may be given twice",
    )  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="fromnoise alone, in this interpreter")
    parser.add_argument("--all", action="store_true", help="show every peer's every rule, not the best three")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--out", type=Path, help="write the tables here, as Markdown")
    parser.add_argument("--constraints", type=Path, default=environment.ROOT / "constraints.txt", help="pins for pip")
    options = parser.parse_args(arguments)
    options.only = _parts(options.only)
    options.rules = _parts(options.rules)
    unknown = sorted(set(options.only) - {*TUNED_ON, *UNSEEN})
    if unknown:
        parser.error(f"--only {','.join(unknown)}: known: {', '.join((*TUNED_ON, *UNSEEN))}")
    for archive in options.data:
        if not archive.is_file():
            parser.error(f"--data {archive}: there is no such file")
    if options.n < 1:
        parser.error("-n must be at least 1")
    return options


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(arguments: list[str]) -> int:
    """Measure, and print the tables."""
    options = parsed(arguments)
    if not options.no_peers and not environment.inside():
        python = environment.ready(options.constraints)
        return subprocess.run([str(python), __file__, *arguments], check=False).returncode
    import problems

    problems.ARCHIVES[:] = options.data
    if options.every_start:
        problems.STARTS.clear()
    scores: list[Score] = []
    tables: list[str] = []
    for _, found in measured(options.only, options.n, peers=not options.no_peers, parts=options.rules):
        scores += found
        tables.append(table(found, everyone=options.all))
        print(tables[-1], end="\n\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps([score._asdict() for score in scores], indent=1) + "\n", encoding="utf-8")
    if options.out:
        options.out.write_text(_page("\n\n".join(tables), options), encoding="utf-8")
    return 0


def measured(
    names: Sequence[str], n: int, *, peers: bool, parts: Sequence[str] = ()
) -> Iterator[tuple[str, list[Score]]]:
    """Yield every rule's score on one problem after the other; with parts, of the rules whose names have one of them.

    Raises:
        SystemExit: if a peer's adapter fails its own test: the wrong number of evaluations, or no convergence; or if no
            rule's name has any of the parts.
    """
    import torch
    from pictures import NoPictures
    from problems import problem

    rules = _rules(peers, parts)
    with torch.inference_mode():
        for name in names:
            try:
                known = problem(name, n)
            except NoPictures as why:
                print(f"{name} is skipped: it {why}", file=sys.stderr, flush=True)
                continue
            print(f"{name}: {len(rules)} rules, {len(known.z):,} starts", file=sys.stderr, flush=True)
            yield name, [_score(rule, known) for rule in rules]


def _score(rule: Any, problem: Any) -> Score:
    found = [_errors(rule, problem, evaluations) for evaluations in BUDGETS]
    return Score(problem.name, rule.library, rule.name, *(tuple(f and f[k] for f in found) for k in (0, 1)))


def _rules(peers: bool, parts: Sequence[str]) -> list[Any]:
    """Return ours and, once each is known to be what it says, the peers'."""
    from solver_ours import ours
    from solver_rule import trouble

    def chosen(rules: Iterable[Any]) -> list[Any]:
        return [rule for rule in rules if not parts or any(part in f"{rule.library} {rule.name}" for part in parts)]

    rules = chosen(ours())
    if peers:
        from solver_peers import PEERS

        for library, make in PEERS.items():
            found = chosen(make())
            print(f"{library}: validating {len(found)} adapters", file=sys.stderr, flush=True)
            for rule in found:
                wrong = trouble(rule)
                if wrong:
                    raise SystemExit(f"the adapter of {library}'s {rule.name} is not what it says: {wrong}")
            rules += found
    if not rules:
        raise SystemExit(f"no rule's name has any of: {', '.join(parts)}")
    return rules


def _errors(rule: Any, problem: Any, evaluations: int) -> tuple[float, float] | None:
    ended = rule.run(problem, evaluations)
    return None if ended is None else problem.error(ended.x, ended.level)


def table(scores: Sequence[Score], *, everyone: bool) -> str:
    """Return one problem's table: ours, the best of each library, and the bars."""
    name = scores[0].problem
    peers = [score for score in scores if score.library != OURS]
    lines = [f"### {name}", "", "| rule | " + " | ".join(f"{n} evaluations" for n in BUDGETS) + " |"]
    lines.append("| --- |" + " --- |" * len(BUDGETS))
    lines += [_row(score) for score in scores if score.library == OURS]
    for library in dict.fromkeys(score.library for score in peers):
        own = [score for score in peers if score.library == library]
        shown = own if everyone else sorted({_best(own, k) for k in range(len(BUDGETS))}, key=own.index)
        lines += [_row(score) for score in shown]
    if peers:
        least = [_best(peers, k).rms[k] or math.inf for k in range(len(BUDGETS))]
        for mine in [score for score in scores if score.library == OURS][:JUDGED]:
            ratios = [(mine.rms[k] or math.inf) / least[k] for k in range(len(BUDGETS))]
            cells = " | ".join(_against(r, name, k) for k, r in enumerate(ratios))
            lines.append(f"| **{mine.rule} / best peer** | {cells} |")
    return "\n".join(lines)


def _best(scores: Sequence[Score], k: int) -> Score:
    """Return the score with the least rms at the k-th budget."""
    return min(scores, key=lambda score: score.rms[k] or math.inf)


def _row(score: Score) -> str:
    pairs = zip(score.rms, score.median, strict=True)
    cells = ("-" if rms is None else f"{rms:.4f} ({median:.4f})" for rms, median in pairs)
    return f"| {score.library} {score.rule} | " + " | ".join(cells) + " |"


def _against(ratio: float, name: str, k: int) -> str:
    if name not in BARS:
        return f"{ratio:.2f}"
    bar = BARS[name][k]
    return f"{ratio:.2f}, {'within' if ratio <= bar else 'above'} {bar:.2f}"


def _page(text: str, options: argparse.Namespace) -> str:
    command = ["python", "benchmarks/solvers.py", "-n", str(options.n), *["--every-start"] * options.every_start]
    command += ["--only", ",".join(options.only)] + ["--rules", ",".join(options.rules)] * bool(options.rules)
    command += [part for archive in options.data for part in ("--data", archive.name)]
    return (
        f"# Samplers against exact trajectories\n\n    {shlex.join(command)}\n\n"
        "Root mean square distance (median in brackets) of the end points from those of the exact flow, in the data's\n"
        "units. Of each library the rules that are its best at one of the budgets. Without `--every-start` mnist-784\n"
        f"has 1,024 starts at most and cifar-3072 256. Nothing was tuned on {', '.join(UNSEEN)}.\n\n{text}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
