"""A training that is broken off at any moment, by a power cut, a full disk or a kill, goes on to the same bits."""

import errno
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from recorded import rebuilt, recorded

import fromnoise as fn
from fromnoise.errors import RunError, RunExists
from fromnoise.run import RunFolder

DATA = fn.Dataset(torch.randn(40, 2, generator=torch.Generator().manual_seed(1)), labels=[0, 1] * 20)
CONFIG = fn.TrainConfig(steps=6, batch_size=8, log_every=1, save_every=2, keep=1, drop_cond=0.1)


def train(path, resume=True, config=CONFIG):
    torch.manual_seed(0)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 4, 1, classes=2, time_dim=4), fn.LinearBeta(), "eps")
    events = list(fn.fit(denoiser, DATA, config, out=path, resume=resume))
    return events[-1].run


def refused(path):
    """Return what a training says that cannot write; None where it can."""
    try:
        train(path)
    except RunError as error:
        return str(error)
    return None


def bits(path):
    """Everything that a finished run keeps, but for the machine and the speed."""
    folder = RunFolder(path)
    checkpoint = folder.load(folder.denoiser(), optimizer=True)
    rows = [{key: row[key] for key in ("step", "loss", "lr")} for row in folder.metrics()]
    tensors = {name: getattr(checkpoint, name) for name in ("model", "ema", "optimizer")}
    return checkpoint.step, rows, checkpoint.state, tensors


def same(one, other):
    assert one[:3] == other[:3]
    assert all(torch.equal(one[3][kind][name], other[3][kind][name]) for kind in one[3] for name in one[3][kind])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path)
    return bits(path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file descriptors are looked up in /proc")
def test_every_state_that_a_power_cut_leaves_loads_and_goes_on_to_the_same_bits(tmp_path, whole):
    root = tmp_path / "disk"
    root.mkdir()
    done = []  # how many states there were when a checkpoint was promised to stand
    with recorded(root) as record:
        save = RunFolder.save

        def saved(folder, checkpoint, keep):
            place = save(folder, checkpoint, keep)
            done.append((len(record.states), checkpoint.step))
            return place

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "save", saved)
            train(root / "runs" / "run")
    same(bits(root / "runs" / "run"), whole)
    assert len(record.states) > 150
    for k, (what, tree) in enumerate(record.states):
        place = rebuilt(tree, tmp_path / f"crash{k}")
        promised = max((step for count, step in done if count <= k), default=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of falling back to the checkpoint before
            if promised is not None:
                assert fn.load(place / "runs" / "run").step >= promised, what
            assert refused(place / "runs" / "run") is None, what
            same(bits(place / "runs" / "run"), whole)


@pytest.mark.slow
def test_a_full_disk_at_any_write_ends_in_a_line_and_the_training_goes_on_when_there_is_space(tmp_path, whole):
    failed = 0
    for call in range(1, 1000):
        root = tmp_path / f"disk{call}"
        root.mkdir()
        with recorded(root, fail_at=call) as record:
            record.note = lambda what: None  # no states are needed here
            refusal = refused(root / "run")
        if refusal is not None:
            failed += 1
            assert "No space left on device" in refusal
            assert "\n" not in refusal
        elif record.calls < call:
            break
        train(root / "run")
        same(bits(root / "run"), whole)
    assert failed > 30


def test_a_run_that_was_broken_off_at_its_beginning_begins_again_and_others_folders_are_left_alone(tmp_path):
    run = tmp_path / "run"
    train(run)
    (run / "config.toml").unlink()
    for place in (run / "checkpoints", run / "metrics.jsonl"):
        subprocess.run(["rm", "-r", str(place)], check=True)
    assert train(run, resume=False).step == 6
    for k, files in enumerate((["data.safetensors"], ["mine.txt", "environment.json"], [".git"])):
        place = tmp_path / f"mine{k}"
        place.mkdir()
        for name in files:
            (place / name).write_text('{"fromnoise": "0"}' if name == "environment.json" else "mine")
        with pytest.raises(RunExists, match="is not a run"):
            train(place)
        assert sorted(path.name for path in place.iterdir()) == sorted(files)


READ_ONLY = """
import os, sys
from fromnoise.errors import RunError
from test_crash import CONFIG, train
train(sys.argv[1])  # everything is imported before its files cannot be read any more
if os.geteuid() == 0:
    os.setuid(65534)
for place in sys.argv[2:]:
    try:
        train(place, config=CONFIG.model_copy(update={"steps": 8}))
    except RunError as error:
        print(error)
"""


def test_a_folder_that_may_not_be_written_is_refused_in_a_line(tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    locked, run = tmp_path / "locked", tmp_path / "run"
    locked.mkdir()
    train(run)
    for place in (locked, *(path for path in run.rglob("*") if path.is_dir()), run):
        place.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, *map(str, (tmp_path / "warm", locked / "run", run))],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    for line, place in zip(lines, (locked / "run", run), strict=True):
        assert str(place) in line
        assert "cannot be written: Permission denied" in line
    assert fn.load(run).step == 6
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode & 0o777 for path in run.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}


KILLED = """
import os, random, signal, sys, time
import torch
import fromnoise as fn
from test_crash import bits, same, train
torch.set_num_threads(1)
root, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = fn.TrainConfig(steps=300, batch_size=8, log_every=3, save_every=5, keep=2, drop_cond=0.1)
moments = random.Random(seed)

def child(path):
    number = os.fork()
    if number == 0:
        try:
            train(path, config=config)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return number

began = time.perf_counter()
train(root + "/whole", config=config)  # here, so that no child imports anything
longest = max(0.2, (time.perf_counter() - began) / 10)  # on a slow machine too every try gets somewhere
whole, killed, runs = bits(root + "/whole"), 0, 0
while killed < kills:
    path, over = f"{root}/run{runs}", False
    while not over:
        number = child(path)
        if killed < kills:  # the last one may end in peace
            time.sleep(moments.uniform(0.0, longest))
            os.kill(number, signal.SIGKILL)
        status = os.waitpid(number, 0)[1]
        over = status == 0
        killed += os.WIFSIGNALED(status)
        assert over or os.WIFSIGNALED(status), status
    same(bits(path), whole)
    runs += 1
print(killed, runs)
"""


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_change_no_bit(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "200", "0"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    killed, runs = map(int, done.stdout.split())
    assert killed == 200
    assert runs >= 1


def test_what_a_broken_off_beginning_leaves_is_not_taken_for_the_new_runs(tmp_path):
    other = fn.Dataset(torch.randn(30, 3))
    fn.train(other, steps=1, out=tmp_path / "other")
    for name, data, options in (("built-in", fn.data.spiral(60), {}), ("none", DATA, {"keep_data": False})):
        run = tmp_path / name
        run.mkdir()
        for left in ("environment.json", "codec.safetensors", "data.safetensors"):
            (run / left).write_bytes((tmp_path / "other" / left).read_bytes())
        fn.train(data, steps=1, out=run, **options)
        assert not (run / "data.safetensors").exists()
        assert fn.load(run).holds_data == (name == "built-in")
    fn.train(DATA, steps=2, out=tmp_path / "kept")
    fn.train(DATA, steps=3, out=tmp_path / "kept", resume=True, keep_data=False)
    assert not (tmp_path / "kept" / "data.safetensors").exists()


def test_a_second_training_finds_the_folder_held_from_the_first_write_on(tmp_path, monkeypatch):
    from fromnoise.run import folder

    refusals = []

    def begun(path, tensors, metadata=None):
        if not refusals:
            refusals.append(refused(tmp_path / "run"))
        return save(path, tensors, metadata)

    save = folder.save_tensors
    monkeypatch.setattr(folder, "save_tensors", begun)
    train(tmp_path / "run")
    assert "another training is at work" in refusals[0]


@pytest.mark.parametrize(("number", "known"), [(errno.EINVAL, True), (errno.EIO, False)])
@pytest.mark.skipif(sys.platform != "linux", reason="file descriptors are looked up in /proc")
def test_only_a_file_system_that_cannot_flush_folders_is_forgiven(tmp_path, monkeypatch, number, known):
    flush = os.fsync

    def fails(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    assert (refused(tmp_path / "run") is None) == known
