"""Reading a run trusts nothing: every damage is refused in one line, passed over, or of no consequence."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save, save_file

import fromnoise as fn
from fromnoise.errors import FromnoiseError
from fromnoise.run import RunFolder
from fromnoise.run.files import file_sum
from fromnoise.training import TrainConfig

HUGE = 10**9


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small labelled run whose data are stored, with checkpoints at steps 10 and 20."""
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    data = fn.data.open(x.numpy()).conditioned(["a", "b", "c"] * 20)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8, classes=3, fourier=4), fn.LinearBeta(T=50), "v")
    path = tmp_path_factory.mktemp("runs") / "good"
    list(fn.fit(denoiser, data, TrainConfig(steps=20, save_every=10, log_every=5, batch_size=8, keep=2), out=path))
    assert RunFolder(path).steps() == [20, 10]
    return path


@pytest.fixture
def run(good, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(good, tmp_path / "run")


def newest(run):
    return run / "checkpoints/000000020"


def mend(run, step="000000020"):
    """Make the sums of a checkpoint's manifest those of its files, so that only the content is wrong."""
    place = run / "checkpoints" / step
    manifest = json.loads((place / "manifest.json").read_text())
    for name in manifest["files"]:
        if (place / name).is_file():
            manifest["files"][name]["sha256"] = file_sum(place / name)
    (place / "manifest.json").write_text(json.dumps(manifest))


# -- ways to alter a file ----------------------------------------------------------------------------------------------


def config(old, new):
    """Replace a text of config.toml."""

    def alter(run):
        text = (run / "config.toml").read_text()
        assert old in text, old
        (run / "config.toml").write_text(text.replace(old, new, 1))

    return alter


def setting(table, key, value):
    """Put a value, as TOML has it, in place of a setting of a table."""

    def alter(run):
        lines, at = (run / "config.toml").read_text().splitlines(), ""
        kept = []
        for line in lines:
            at = line.removeprefix("[").removesuffix("]") if line.startswith("[") else at
            if at != table or not line.startswith(f"{key} ="):
                kept.append(line)
        place = kept.index(f"[{table}]") + 1 if table else 0
        (run / "config.toml").write_text("\n".join([*kept[:place], f"{key} = {value}", *kept[place:]]))

    return alter


def content(name, written, mended=True):
    """Write bytes in place of a file of the run, or of its newest checkpoint."""

    def alter(run):
        at = run / name if (run / name).exists() else newest(run) / name
        at.write_bytes(written(at.read_bytes()) if callable(written) else written)
        if mended and name != "manifest.json":
            mend(run)

    return alter


def as_json(name, **changes):
    """Change entries of a JSON file of the newest checkpoint."""
    return content(name, lambda old: json.dumps({**json.loads(old), **changes}).encode())


def header(name, change):
    """Change the header of a safetensors file, given and returned as a text or as a tree."""

    def written(old):
        length = struct.unpack("<Q", old[:8])[0]
        tree = json.loads(old[8 : 8 + length])
        new = change(tree)
        text = (new if isinstance(new, str) else json.dumps(new)).encode()
        return struct.pack("<Q", len(text)) + text + old[8 + length :]

    return content(name, written)


def entry(name, tensor, **changes):
    """Change the entry of one tensor in the header of a safetensors file."""
    return header(name, lambda tree: {**tree, tensor: {**tree[tensor], **changes}})


def tensors(name, change):
    """Write other tensors to a safetensors file."""

    def alter(run):
        at = run / name if (run / name).exists() else newest(run) / name
        at.write_bytes(save(change(load_file(at)), metadata={"name": "data"}))
        mend(run)

    return alter


def replaced(name, how):
    """Put something else than a regular file in a file's place."""

    def alter(run):
        at = run / name if (run / name).exists() else newest(run) / name
        if at.is_dir():
            shutil.rmtree(at)
        else:
            at.unlink()
        if how == "folder":
            at.mkdir()
        elif how == "dangling":
            at.symlink_to(run / "nowhere")
        elif how == "pipe":
            os.mkfifo(at)
        elif how == "file":
            at.write_text("not a folder")

    return alter


def sparse(name, size):
    """Make a file as long as `size` bytes, which takes no room on the disk."""

    def alter(run):
        at = run / name if (run / name).exists() else newest(run) / name
        os.truncate(at, size)

    return alter


def doubled(tree):
    return json.dumps(tree)[:-1] + ', "out.bias": ' + json.dumps(tree["out.bias"]) + "}"


def other_data(x):
    """Store other samples, with the sum of these in the configuration."""

    def alter(run):
        save_file({"x": x, "cond.label": torch.arange(len(x)) % 3}, run / "data.safetensors")
        setting("data", "sha256", f'"{hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16]}"')(run)

    return alter


def built_in(**settings):
    """Say that the data are those of a built-in."""

    def alter(run):
        (run / "data.safetensors").unlink()
        setting("data", "sha256", '"x"')(run)
        config('sha256 = "x"\n', "")(run)
        setting("data", "conditions", '"x"')(run)
        config('conditions = "x"\n', "")(run)
        for key, value in settings.items():
            setting("data", key, value)(run)

    return alter


def both(*alterations):
    return lambda run: [alter(run) for alter in alterations]


DEEP = 100_000
MODEL, DATA, STATE, MANIFEST = "ema.safetensors", "data.safetensors", "state.json", "manifest.json"
METRICS, OPTIMIZER, CODEC = "metrics.jsonl", "optimizer.safetensors", "codec.safetensors"

DAMAGES = {
    # the configuration as a file
    "config: gone": (lambda run: (run / "config.toml").unlink(), "refused"),
    "config: empty": (content("config.toml", b""), "refused"),
    "config: a folder": (replaced("config.toml", "folder"), "refused"),
    "config: a dangling link": (replaced("config.toml", "dangling"), "refused"),
    "config: a pipe": (replaced("config.toml", "pipe"), "refused"),
    "config: rubbish": (content("config.toml", bytes(range(256)) * 9), "refused"),
    "config: no UTF-8": (content("config.toml", lambda old: old + b'x = "\xff\xfe"\n'), "refused"),
    "config: 10 GB": (sparse("config.toml", 10**10), "refused"),
    "config: cut": (content("config.toml", lambda old: old[: len(old) // 2]), "refused"),
    "config: a key twice": (config("format_version = 2", "format_version = 2\nformat_version = 2"), "refused"),
    "config: deep lists": (setting("network", "hidden", "[" * DEEP + "]" * DEEP), "refused"),
    "config: deep tables": (setting("network", "hidden", "{a=" * 900 + "1" + "}" * 900), "refused"),
    "config: a dotted key": (setting("", "a" + ".a" * DEEP, "1"), "refused"),
    "config: many dotted tables": (content("config.toml", lambda old: old + b"[q" + b".q" * 99 + b"]\n"), "refused"),
    "config: a key of two lines": (setting("", '"a\\nb"', "1"), "refused"),
    "config: a key of a megabyte": (setting("", "k" * 2**20, "1"), "refused"),
    "config: a wide list": (setting("measured", "mean", "[" + "[]," * 2_500_000 + "]"), "refused"),
    # what it says
    "format: text": (config("format_version = 2", 'format_version = "2"'), "refused"),
    "format: true": (config("format_version = 2", "format_version = true"), "refused"),
    "format: negative": (config("format_version = 2", "format_version = -1"), "refused"),
    "format: missing": (config("format_version = 2\n", ""), "refused"),
    "format: of many digits": (config("format_version = 2", "format_version = 0x" + "f" * 9999), "refused"),
    "format: old in name only": (config("format_version = 2", "format_version = 1"), "fine"),
    "network: a number": (config("[network]", "network = 5\n[other]"), "refused"),
    "network: a list for a name": (setting("network", "name", '["mlp"]'), "refused"),
    "network: another name": (setting("network", "name", '"__import__"'), "refused"),
    "network: a name of a megabyte": (setting("network", "name", f'"{"m" * 2**20}"'), "refused"),
    "network: self": (setting("network", "self", "1"), "refused"),
    "hidden: text": (setting("network", "hidden", '"many"'), "refused"),
    "hidden: NaN": (setting("network", "hidden", "nan"), "refused"),
    "hidden: negative": (setting("network", "hidden", "-8"), "refused"),
    "hidden: of many digits": (setting("network", "hidden", "0x" + "f" * 9999), "refused"),
    "hidden: 10^9": (setting("network", "hidden", HUGE), "refused"),
    "hidden: 2^20": (setting("network", "hidden", 2**20), "refused"),
    "depth: 10^9": (setting("network", "depth", HUGE), "refused"),
    "depth: 4096": (setting("network", "depth", 4096), "refused"),
    "time_dim: 10^9": (setting("network", "time_dim", HUGE), "refused"),
    "time_dim: 2^20": (setting("network", "time_dim", 2**20), "refused"),
    "fourier: 10^9": (setting("network", "fourier", HUGE), "refused"),
    "fourier: 2^20": (setting("network", "fourier", 2**20), "refused"),
    "classes: 10^9": (setting("network", "classes", HUGE), "refused"),
    "classes: 2^20": (setting("network", "classes", 2**20), "refused"),
    "cond_dim: 10^9": (setting("network", "cond_dim", HUGE), "refused"),
    "dim: 2^20": (setting("network", "dim", 2**20), "refused"),
    "schedule: T = 10^9": (setting("schedule", "T", HUGE), "refused"),
    "schedule: a beta of infinity": (setting("schedule", "beta_end", "inf"), "refused"),
    "schedule: a list": (config("[schedule]", "schedule = [1]\n[other]"), "refused"),
    "schedule: a huge table": (setting("schedule", "table", "[" + "0.5," * 3_000_000 + "]"), "refused"),
    "predict: unknown": (setting("predict", "name", '"w"'), "refused"),
    "predict: a number": (setting("predict", "name", "3"), "refused"),
    "conditioners: a number": (setting("", "conditioners", "7"), "refused"),
    "conditioners: none": (config("[[conditioners]]", "[[other]]"), "refused"),
    "conditioners: a huge vector": (config('name = "labels"\n', f'name = "vector"\ndim = {HUGE}\n'), "refused"),
    "measured: a mean of another shape": (setting("measured", "mean", "[1.0, 2.0, 3.0]"), "refused"),
    "measured: a huge shape": (setting("measured", "shape", f"[{HUGE}, {HUGE}]"), "refused"),
    "measured: a std of nothing": (setting("measured", "std", "0.0"), "refused"),
    "measured: a NaN": (setting("measured", "std", "nan"), "refused"),
    "train: a list": (config("[train]", "train = [1]\n[other]"), "refused"),
    "train: steps a text": (setting("train", "steps", '"all"'), "refused"),
    "train: a text for a probability": (setting("train", "drop_cond", '"often"'), "refused"),
    "train: a probability of 3": (setting("train", "drop_cond", "3.0"), "refused"),
    "train: a number for times": (config("[train.times]", "[train.other]"), "refused"),
    "train: a negative batch": (setting("train", "batch_size", "-1"), "refused"),
    "data: a list for a name": (setting("data", "name", "[1]"), "refused"),
    "data: a text for n": (both(built_in(name='"shapes"', n='"many"')), "refused"),
    "data: n = 10^12": (both(built_in(name='"shapes"', n=10**12)), "refused"),
    "data: n = 10^12 of stored ones": (setting("data", "n", 10**12), "refused"),
    "data: seed a list": (both(built_in(name='"shapes"', seed="[1]")), "refused"),
    "data: unknown": (both(built_in(name='"nothing"')), "refused"),
    "data: a built-in": (both(built_in(name='"shapes"', n=30)), "fine"),
    # the stored data
    "stored: gone": (lambda run: (run / DATA).unlink(), "refused"),
    "stored: empty": (content(DATA, b""), "refused"),
    "stored: a folder": (replaced(DATA, "folder"), "refused"),
    "stored: a pipe": (replaced(DATA, "pipe"), "refused"),
    "stored: a dangling link": (replaced(DATA, "dangling"), "refused"),
    "stored: cut": (content(DATA, lambda old: old[:-9]), "refused"),
    "stored: one bit": (content(DATA, lambda old: old[:-1] + bytes([old[-1] ^ 1])), "refused"),
    "stored: a row less": (tensors(DATA, lambda t: {key: value[1:] for key, value in t.items()}), "refused"),
    "stored: no x": (tensors(DATA, lambda t: {"y": t["x"]}), "refused"),
    "stored: no labels": (tensors(DATA, lambda t: {"x": t["x"]}), "refused"),
    "stored: a label out of range": (tensors(DATA, lambda t: {**t, "cond.label": t["cond.label"] + 7}), "refused"),
    "stored: fewer labels": (tensors(DATA, lambda t: {**t, "cond.label": t["cond.label"][:7]}), "refused"),
    "stored: labels of floats": (tensors(DATA, lambda t: {**t, "cond.label": t["cond.label"].float()}), "refused"),
    "stored: float64": (tensors(DATA, lambda t: {**t, "x": t["x"].double()}), "refused"),
    "stored: one axis": (tensors(DATA, lambda t: {**t, "x": t["x"][:, 0].contiguous()}), "refused"),
    "stored: a NaN": (other_data(torch.full((60, 2), torch.nan)), "refused"),
    "stored: another width": (other_data(torch.randn(60, 3)), "refused"),
    "stored: a huge header": (content(DATA, struct.pack("<Q", 2**62) + b"{}"), "refused"),
    "stored: 10^15 rows": (entry(DATA, "x", shape=[10**15, 2]), "refused"),
    # a checkpoint
    "checkpoints: gone": (lambda run: shutil.rmtree(run / "checkpoints"), "refused"),
    "checkpoints: a file": (replaced("checkpoints", "file"), "refused"),
    "checkpoints: strange names": (
        lambda run: [(run / "checkpoints" / name).mkdir() for name in ("²", "7", "-1", "٣" * 9, "9" * 200, "a")],
        "fine",
    ),
    "checkpoint: a file": (replaced("checkpoints/000000020", "file"), "earlier"),
    "checkpoint: of a step to come": (
        lambda run: newest(run).rename(newest(run).with_name("999999999")), "earlier"
    ),
    "checkpoint: empty": (lambda run: [path.unlink() for path in newest(run).iterdir()], "earlier"),
    "manifest: gone": (replaced(MANIFEST, "nothing"), "earlier"),
    "manifest: empty": (content(MANIFEST, b""), "earlier"),
    "manifest: a folder": (replaced(MANIFEST, "folder"), "earlier"),
    "manifest: a pipe": (replaced(MANIFEST, "pipe"), "earlier"),
    "manifest: 10 GB": (sparse(MANIFEST, 10**10), "earlier"),
    "manifest: a list": (content(MANIFEST, b"[1, 2]"), "earlier"),
    "manifest: a number": (content(MANIFEST, b"7"), "earlier"),
    "manifest: deep": (content(MANIFEST, b"[" * DEEP + b"]" * DEEP), "earlier"),
    "manifest: deep objects": (content(MANIFEST, b'{"a":' * 5000 + b"1" + b"}" * 5000), "earlier"),
    "manifest: no UTF-8": (content(MANIFEST, b'{"files": "\xff"}'), "earlier"),
    "manifest: a name twice": (content(MANIFEST, lambda old: old[:-1] + b', "step": 20}'), "earlier"),
    "manifest: files a list": (as_json(MANIFEST, files=[1]), "earlier"),
    "manifest: files of numbers": (as_json(MANIFEST, files={MODEL: 3}), "earlier"),
    "manifest: a sum of a number": (as_json(MANIFEST, files={MODEL: {"sha256": 5}}), "earlier"),
    "manifest: another step": (as_json(MANIFEST, step=21), "earlier"),
    "manifest: a negative step": (as_json(MANIFEST, step=-20), "earlier"),
    "manifest: a format of text": (as_json(MANIFEST, format_version="2"), "earlier"),
    "manifest: a huge number": (content(MANIFEST, b'{"step": ' + b"9" * 9999 + b"}"), "earlier"),
    "manifest: a format to come": (as_json(MANIFEST, format_version=99), "refused"),
    "manifest: an entry more": (as_json(MANIFEST, note="hello"), "fine"),
    "state: gone": (replaced(STATE, "nothing"), "earlier"),
    "state: a list": (content(STATE, b"[]"), "earlier"),
    "state: a NaN": (content(STATE, b'{"step": NaN}'), "earlier"),
    "state: a negative step": (as_json(STATE, step=-1), "earlier"),
    "state: deep": (content(STATE, b"[" * DEEP), "earlier"),
    "model: gone": (replaced(MODEL, "nothing"), "earlier"),
    "model: empty": (content(MODEL, b""), "earlier"),
    "model: a folder": (replaced(MODEL, "folder"), "earlier"),
    "model: a dangling link": (replaced(MODEL, "dangling"), "earlier"),
    "model: a pipe": (replaced(MODEL, "pipe"), "earlier"),
    "model: a terabyte": (sparse(MODEL, 10**12), "earlier"),
    "model: one bit": (content(MODEL, lambda old: old[:-1] + bytes([old[-1] ^ 1]), mended=False), "earlier"),
    "model: a byte more": (content(MODEL, lambda old: old + b"x"), "earlier"),
    "model: rubbish": (content(MODEL, bytes(range(256)) * 40), "earlier"),
    "model: a huge header": (content(MODEL, struct.pack("<Q", 2**63) + b"{}"), "earlier"),
    "model: a header longer than the file": (content(MODEL, struct.pack("<Q", 5000) + b"{}"), "earlier"),
    "model: a header of a list": (header(MODEL, lambda tree: "[1, 2, 3]"), "earlier"),
    "model: a deep header": (header(MODEL, lambda tree: "[" * DEEP + "]" * DEEP), "earlier"),
    "model: a tensor twice": (header(MODEL, doubled), "earlier"),
    "model: a header of numbers": (header(MODEL, lambda tree: dict.fromkeys(tree, 3)), "earlier"),
    "model: metadata a list": (header(MODEL, lambda tree: {**tree, "__metadata__": [1]}), "earlier"),
    "model: a tensor less": (tensors(MODEL, lambda t: {k: v for k, v in t.items() if k != "out.bias"}), "earlier"),
    "model: a tensor more": (tensors(MODEL, lambda t: {**t, "../../evil": torch.ones(1)}), "earlier"),
    "model: another shape": (tensors(MODEL, lambda t: {**t, "out.bias": torch.ones(3)}), "earlier"),
    "model: another dtype": (tensors(MODEL, lambda t: {**t, "out.bias": t["out.bias"].double()}), "earlier"),
    "model: a NaN": (tensors(MODEL, lambda t: {**t, "out.bias": t["out.bias"] * torch.nan}), "earlier"),
    "model: an infinity": (tensors(MODEL, lambda t: {**t, "out.bias": t["out.bias"] + torch.inf}), "earlier"),
    "model: a dtype of its own": (entry(MODEL, "out.bias", dtype="F128"), "earlier"),
    "model: a dtype of a list": (entry(MODEL, "out.bias", dtype=["F32"]), "earlier"),
    "model: a negative length": (entry(MODEL, "out.bias", shape=[-2]), "earlier"),
    "model: a length of a float": (entry(MODEL, "out.bias", shape=[2.0]), "earlier"),
    "model: a length of true": (entry(MODEL, "out.bias", shape=[True, 2]), "earlier"),
    "model: a huge shape": (entry(MODEL, "out.bias", shape=[2**40]), "earlier"),
    "model: a product that overflows": (entry(MODEL, "out.bias", shape=[2**32, 2**32]), "earlier"),
    "model: a place outside": (entry(MODEL, "out.bias", data_offsets=[10**9, 10**9 + 8]), "earlier"),
    "model: a place backwards": (entry(MODEL, "out.bias", data_offsets=[8, 0]), "earlier"),
    "model: a place of another": (
        header(MODEL, lambda tree: {**tree, "out.bias": {**tree["out.bias"], "data_offsets": [0, 8]}}), "earlier"
    ),
    "model: a place of three": (entry(MODEL, "out.bias", data_offsets=[0, 8, 16]), "earlier"),
    "last weights: a NaN": (
        tensors("model.safetensors", lambda t: {**t, "out.bias": t["out.bias"] * torch.nan}), "earlier"
    ),
    # the codec
    "codec: gone": (replaced(CODEC, "nothing"), "refused"),
    "codec: a folder": (replaced(CODEC, "folder"), "refused"),
    "codec: a pipe": (replaced(CODEC, "pipe"), "refused"),
    "codec: empty": (content(CODEC, b""), "refused"),
    "codec: rubbish": (content(CODEC, bytes(range(256)) * 40), "refused"),
    "codec: a terabyte": (sparse(CODEC, 10**12), "refused"),
    "codec: a huge header": (content(CODEC, struct.pack("<Q", 2**63) + b"{}"), "refused"),
    "codec: no std": (tensors(CODEC, lambda t: {"mean": t["mean"]}), "refused"),
    "codec: another shape": (tensors(CODEC, lambda t: {**t, "mean": torch.zeros(3)}), "refused"),
    "codec: another dtype": (tensors(CODEC, lambda t: {**t, "std": t["std"].double()}), "refused"),
    "codec: whole numbers": (tensors(CODEC, lambda t: {k: v.long() + 1 for k, v in t.items()}), "refused"),
    "codec: a NaN": (tensors(CODEC, lambda t: {**t, "mean": t["mean"] * torch.nan}), "refused"),
    "codec: a std of nothing": (tensors(CODEC, lambda t: {**t, "std": t["std"] * 0}), "refused"),
    "codec: of another kind": (setting("codec", "kind", '"rows"'), "refused"),
    "codec: of no name": (setting("codec", "name", '"nothing"'), "refused"),
    # what loading does not need
    "optimizer: gone": (replaced(OPTIMIZER, "nothing"), "fine"),
    "optimizer: rubbish": (content(OPTIMIZER, b"rubbish", mended=False), "fine"),
    "optimizer: a folder": (replaced(OPTIMIZER, "folder"), "fine"),
    "environment: rubbish": (content("environment.json", b"\xff"), "fine"),
    "environment: gone": (lambda run: (run / "environment.json").unlink(), "fine"),
    "metrics: gone": (lambda run: (run / METRICS).unlink(), "fine"),
    "metrics: rubbish": (content(METRICS, bytes(range(256)) * 99), "fine"),
    "metrics: a folder": (replaced(METRICS, "folder"), "fine"),
}  # fmt: skip


def attempt(run):
    """Return what became of loading, what it said, and the step."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            loaded = fn.load(run)
            assert len(loaded.source) > 0  # the data are read when asked for
        except FromnoiseError as error:
            return "refused", str(error), None
    said = [str(one.message) for one in seen if "fell back" in str(one.message)]
    return ("earlier" if said else "fine"), "".join(said), loaded.step


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_refused_passed_over_or_of_no_consequence(run, name):
    damage, expected = DAMAGES[name]
    damage(run)
    outcome, said, step = attempt(run)
    assert outcome == expected, said
    assert step == {"refused": None, "earlier": 10, "fine": 20}[expected]
    assert "\n" not in said
    assert len(said) < 1300
    if expected != "fine":
        assert len(said) > 20


def test_there_are_many_damages():
    assert len(DAMAGES) >= 60
    assert {expected for _, expected in DAMAGES.values()} == {"refused", "earlier", "fine"}


@pytest.mark.parametrize(
    ("name", "command"),
    [("hidden: 10^9", "sample"), ("network: a list for a name", "sample"), ("config: rubbish", "sample"),
     ("codec: a NaN", "sample"), ("stored: a NaN", "evaluate")],
)  # fmt: skip
def test_the_command_line_says_what_is_refused_in_one_line_and_exits_with_2(run, run_cli, name, command):
    DAMAGES[name][0](run)
    code, out, err = run_cli(command, run, "-n", 3)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


# -- memory --------------------------------------------------------------------------------------------------------

HUGE_ONES = [
    name
    for name in DAMAGES
    if any(word in name for word in ("10^", "2^20", "4096", "huge", "10 GB", "terabyte", "wide", "deep", "megabyte"))
]

MEASURE = """
import resource, sys, warnings
import fromnoise as fn
from fromnoise.errors import FromnoiseError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
warnings.simplefilter("ignore")
good, *damaged = sys.argv[1:]
fn.load(good).folder.metrics()
before = peak()
for path in damaged:
    try:
        fn.load(path).source, fn.load(path).loss
    except FromnoiseError:
        pass
    print(peak() - before, path)
"""


@pytest.mark.slow
def test_nothing_huge_takes_memory(good, tmp_path):
    """Megabytes above what the sound run took, after each of the damaged ones in turn."""
    paths = []
    for k, name in enumerate(HUGE_ONES):
        paths.append(shutil.copytree(good, tmp_path / str(k)))
        DAMAGES[name][0](paths[-1])
    paths.append(shutil.copytree(good, tmp_path / "metrics"))
    sparse(METRICS, 2**29)(paths[-1])  # one line of half a gigabyte after the last
    command = [sys.executable, "-c", MEASURE, str(good), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths) > 20
    grown = dict(zip([*HUGE_ONES, "metrics"], (int(line.split()[0]) for line in lines), strict=True))
    assert max(grown.values()) < 200, grown


def test_loading_leaves_the_global_random_numbers_alone(good):
    before = torch.get_rng_state()
    fn.load(good)
    assert torch.equal(before, torch.get_rng_state())


@fn.register.network("of-its-own-values")
class OfItsOwnValues(fn.nn.MLP.__mro__[1]):
    """A network that cannot be built without memory: its constructor looks at its own numbers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.shape = (2,)
        self.first = torch.nn.Linear(2, width)
        self.scale = float(self.first.weight.abs().max().item())
        self.register_buffer("seen", torch.zeros(3, dtype=torch.uint8))
        self.out = torch.nn.Linear(width, 2)

    def forward(self, x, c_noise, cond=None):
        return self.out(torch.tanh(self.first(x)))


def test_a_network_that_the_meta_device_cannot_build_is_built_for_real(tmp_path):
    denoiser = fn.Denoiser(OfItsOwnValues(), fn.LinearBeta(T=50), "v")
    list(fn.fit(denoiser, fn.data.spiral(50), TrainConfig(steps=3, batch_size=8), out=tmp_path / "r"))
    assert fn.load(tmp_path / "r").step == 3


# -- metrics -------------------------------------------------------------------------------------------------------

ODD_LINES = [
    b"", b"7", b"[1]", b"null", b'"step"', b'{"step": 7}', b'{"loss": 1.0}', b'{"step": "7", "loss": 1.0}',
    b'{"step": 7, "loss": "low"}', b'{"step": 7, "loss": NaN}', b'{"step": 7, "loss": Infinity}',
    b'{"step": 7, "loss": 1e999}', b'{"step": 7, "loss": ' + b"9" * 4000 + b"}", b'{"step": -7, "loss": 1.0}',
    b'{"step": true, "loss": 1.0}', b'{"step": 7.5, "loss": 1.0}', b'{"step": 7, "loss": [1.0]}', b"\xff\xfe", b"\0",
    b'{"step": 7, "step": 8, "loss": 1.0}', b"[" * 100_000, b'{"step": 7, "loss": 1.0, "x": "' + b"y" * 10**6 + b'"}',
    b'{"step": 7, "lo',
]  # fmt: skip


@pytest.mark.parametrize("line", ODD_LINES, ids=range(len(ODD_LINES)))
def test_an_odd_line_of_the_metrics_is_skipped(run, line):
    before = RunFolder(run).metrics()
    assert [row["step"] for row in before] == [5, 10, 15, 20]
    first, *rest = (run / METRICS).read_bytes().splitlines()
    (run / METRICS).write_bytes(b"\n".join([line, first, line, *rest, line]))
    assert RunFolder(run).metrics() == before
    assert fn.load(run).loss == before[-1]["loss"]


# -- resuming ------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "gone": replaced(OPTIMIZER, "nothing"),
    "a folder": replaced(OPTIMIZER, "folder"),
    "empty": content(OPTIMIZER, b""),
    "one bit": content(OPTIMIZER, lambda old: old[:-1] + bytes([old[-1] ^ 1]), mended=False),
    "a huge header": content(OPTIMIZER, struct.pack("<Q", 2**62) + b"{}"),
    "no tensors": tensors(OPTIMIZER, lambda t: {}),
    "a moment less": tensors(OPTIMIZER, lambda t: {key: v for key, v in t.items() if key != "first.weight.exp_avg"}),
    "a moment of another shape": tensors(OPTIMIZER, lambda t: {**t, "first.weight.exp_avg": torch.ones(7)}),
    "a moment of another dtype": tensors(
        OPTIMIZER, lambda t: {**t, "first.weight.exp_avg": t["first.weight.exp_avg"].double()}
    ),
    "a parameter too many": tensors(OPTIMIZER, lambda t: {**t, "last.weight.step": torch.tensor(20.0)}),
    "no moment": tensors(OPTIMIZER, lambda t: {**t, "first.weight.momentum": torch.tensor(20.0)}),
    "numbers for names": tensors(OPTIMIZER, lambda t: {f"{k}.{key}": v for k, (key, v) in enumerate(t.items())}),
    "a NaN": tensors(OPTIMIZER, lambda t: {**t, "first.weight.exp_avg": t["first.weight.exp_avg"] * torch.nan}),
    "a negative square": tensors(
        OPTIMIZER, lambda t: {**t, "first.weight.exp_avg_sq": t["first.weight.exp_avg_sq"] - 1}
    ),
    "a negative step": tensors(OPTIMIZER, lambda t: {**t, "first.weight.step": t["first.weight.step"] - 100}),
}


def resumed(run):
    """Go on with a run that was stopped at step 20, up to step 30; return its weights."""
    setting("train", "steps", 30)(run)
    folder = RunFolder(run)
    config = folder.config
    events = fn.fit(folder.denoiser(), folder.data(), TrainConfig(**config.train), out=run, resume=True)
    *_, last = events
    assert last.step == 30
    return last.run.denoiser.network.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_falls_back_where_the_optimizer_is_damaged(run, good, tmp_path, name):
    OPTIMIZERS[name](run)
    assert fn.load(run).step == 20
    with pytest.warns(UserWarning, match="fell back to the checkpoint at step 10"):
        weights = resumed(run)
    whole = resumed(shutil.copytree(good, tmp_path / "whole"))
    assert all(torch.allclose(weights[key], whole[key], atol=1e-2) for key in whole)
    assert [row["step"] for row in RunFolder(run).metrics()] == [5, 10, 15, 20, 25, 30]
