import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import ConfigChanged, ConfigError, Diverged, InputError, RunExists
from fromnoise.run import RunFolder
from fromnoise.training import EMA, Floor, Interrupted, Plan, Stop, stop_on_signals
from fromnoise.training.config import rate_at
from fromnoise.training.weighting import weightings


def config(**options):
    return fn.TrainConfig(**{"steps": 60, "batch_size": 16, "log_every": 7, "save_every": 20, "lr": 1e-3, **options})


def denoiser(seed=0, **options):
    torch.manual_seed(seed)
    return fn.Denoiser(fn.nn.MLP(2, 16, **options), fn.LinearBeta(), "eps")


def drain(events):
    return list(events)


def weights(path):
    return fn.load(path).denoiser.network.state_dict() | {
        f"model.{k}": v for k, v in fn.load(path, weights="model").denoiser.network.state_dict().items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_events_tell_loss_floor_and_share(tmp_path):
    events = drain(fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "r"))
    assert [e.step for e in events] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert events[-1].run is not None
    for e in events:
        assert math.isfinite(e.loss)
        assert e.floor is not None
        way = (e.floor.zero_output_loss - e.loss) / (e.floor.zero_output_loss - e.floor.value)
        assert e.progress == pytest.approx(min(way, 1))
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [e.step for e in events]
    assert [r["loss"] for r in rows] == [e.loss for e in events]
    assert events[-1].run.history == rows
    assert events[-1].run.loss == pytest.approx((events[-2].loss + events[-1].loss) / 2)  # of steps above 54
    assert fn.load(tmp_path / "r").loss == events[-1].run.loss
    in_memory = fn.train(fn.data.spiral(100), steps=20, network={"name": "mlp", "hidden": 8})
    assert [row["step"] for row in in_memory.history] == [20]
    assert in_memory.loss == in_memory.history[0]["loss"]


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        drain(fn.fit(denoiser(), fn.data.spiral(100), config(seed=seed), out=tmp_path / name))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("stop_after", [3, 20, 33, 59])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1, "optimizer": "adamw", "weight_decay": 0.1, "warmup": 9}])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, stop_after, options):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    drain(fn.fit(denoiser(), fn.data.spiral(100), config(**options), out=whole))
    stop = Stop()
    events = fn.fit(denoiser(), fn.data.spiral(100), config(log_every=1, **options), out=halves, stop=stop)
    with pytest.raises(Interrupted):
        for event in events:
            stop.asked = event.step == stop_after
    assert RunFolder(halves).steps()[0] == stop_after
    # the second half starts from other weights in memory: all must come from the folder
    drain(fn.fit(denoiser(seed=9), fn.data.spiral(100), config(**options), out=halves, resume=True))
    assert same(weights(whole), weights(halves))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_step_is_honoured_after_it(tmp_path, number):
    d, calls = denoiser(), []

    def kill_at_13(*_):
        calls.append(None)
        if len(calls) == 13:
            os.kill(os.getpid(), number)

    d.network.register_forward_hook(kill_at_13)
    with pytest.raises(Interrupted, match="stopped after step 13"):
        drain(fn.fit(d, fn.data.spiral(100), config(), out=tmp_path / "r"))
    assert RunFolder(tmp_path / "r").steps()[0] == 13


@pytest.fixture
def interruptible():
    """Let SIGINT interrupt as in a terminal; a process started in a shell's background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_between_two_events_signals_act_on_the_callers_code(interruptible):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    events = fn.fit(denoiser(), fn.data.spiral(100), config())
    next(events)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert type(caught.value) is KeyboardInterrupt
    assert next(events).step == 14


def test_a_caller_may_hold_the_signals_over_the_whole_loop(tmp_path):
    with stop_on_signals() as stop, pytest.raises(Interrupted):
        for event in fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "r", stop=stop):
            if event.step == 14:
                os.kill(os.getpid(), signal.SIGTERM)
    assert RunFolder(tmp_path / "r").steps()[0] == 14


@pytest.mark.parametrize("loss", ["denoising", "sliced", "hybrid"])
@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_batch_computed_in_parts_is_the_whole_batch_to_rounding(loss, together):
    """In float64, whose rounding Adam's first steps cannot make large."""

    def trained(parts_together):
        torch.manual_seed(0)
        network = fn.nn.MLP(2, 16, classes=3, learned_variance=loss == "hybrid").double()
        d = fn.Denoiser(network, fn.LinearBeta(), "eps")
        options = config(steps=30, batch_size=24, drop_cond=0.2, loss=loss, parts_together=parts_together, log_every=1)
        losses = [event.loss for event in fn.fit(d, fn.data.shapes(99), options)]
        return losses, d.network.state_dict()

    (whole, weights_whole), (parts, weights_parts) = trained(0), trained(together)
    assert parts == pytest.approx(whole, rel=1e-6)
    for name, value in weights_whole.items():
        torch.testing.assert_close(weights_parts[name], value, rtol=1e-4, atol=1e-5)


def test_parts_must_divide_those_of_the_batch():
    for size, together in ((24, 3), (24, 5), (12, 8), (7, 2)):
        with pytest.raises(ConfigError, match="parts_together must divide"):
            drain(fn.fit(denoiser(), fn.data.spiral(100), config(batch_size=size, parts_together=together)))
    drain(fn.fit(denoiser(), fn.data.spiral(100), config(steps=3, batch_size=7, parts_together=1)))


SCRIPT = """
import sys, torch, fromnoise as fn
torch.set_num_threads(1)
torch.manual_seed(int(sys.argv[2]))
d = fn.Denoiser(fn.nn.MLP(2, 16, classes=3), fn.LinearBeta(), "eps")
c = fn.TrainConfig(steps=1500, batch_size=16, log_every=10, save_every=100, drop_cond=0.1)
for e in fn.fit(d, fn.data.shapes(99), c, out=sys.argv[1], resume=True):
    print(e.step, flush=True)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_again_and_again_equals_the_uninterrupted_one(tmp_path):
    def start(path, seed):
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start(tmp_path / "whole", 0)
    assert whole.communicate(timeout=240)[1] == ""
    kills, seed = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT], 0
    for k, kill in enumerate(kills):
        process = start(tmp_path / "killed", seed)
        assert process.stdout is not None
        for line in process.stdout:  # let it get on, then kill it at no particular place
            if int(line) >= 250 * (k + 1):
                break
        time.sleep(0.013 * k)
        process.send_signal(kill)
        process.communicate(timeout=60)
        assert process.returncode != 0
        seed += 0 if not RunFolder(tmp_path / "killed").steps() else 1
    last = start(tmp_path / "killed", 77)
    assert last.communicate(timeout=240)[1] == ""
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    steps = [row["step"] for row in RunFolder(tmp_path / "killed").metrics()]
    assert steps == sorted(set(steps))


def test_another_run_in_the_folder_is_refused(tmp_path):
    drain(fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "r"))
    before = (tmp_path / "r" / "config.toml").read_bytes()
    with pytest.raises(RunExists, match="--resume"):
        drain(fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "r"))
    assert (tmp_path / "r" / "config.toml").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(RunExists, match="not a run"):
        drain(fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "other"))


def test_a_changed_configuration_is_named(tmp_path):
    drain(fn.fit(denoiser(), fn.data.spiral(100), config(), out=tmp_path / "r"))
    for change, words in [
        (config(lr=2e-3), "train.lr was 0.001 and is now 0.002"),
        (config(weighting="snr"), "train.weighting.name was 'uniform' and is now 'snr'"),
    ]:
        with pytest.raises(ConfigChanged, match=words):
            drain(fn.fit(denoiser(), fn.data.spiral(100), change, out=tmp_path / "r", resume=True))
    with pytest.raises(ConfigChanged, match=r"data.n was 100 and is now 101"):
        drain(fn.fit(denoiser(), fn.data.spiral(101), config(), out=tmp_path / "r", resume=True))
    with pytest.raises(ConfigChanged, match=r"network.hidden"):
        other = fn.Denoiser(fn.nn.MLP(2, 17), fn.LinearBeta())
        drain(fn.fit(other, fn.data.spiral(100), config(), out=tmp_path / "r", resume=True))
    drain(fn.fit(denoiser(), fn.data.spiral(100), config(keep=9, log_every=3), out=tmp_path / "r", resume=True))


def test_a_nan_stops_with_its_step_and_keeps_the_good_checkpoint(tmp_path):
    d = denoiser()
    events = fn.fit(d, fn.data.spiral(100), config(steps=200), out=tmp_path / "r")
    with pytest.raises(Diverged, match=r"at step (5[0-9])") as caught:
        for event in events:
            if event.step == 49:
                with torch.no_grad():
                    d.network.out.bias.fill_(torch.nan)
    assert "step 50" in str(caught.value)
    assert RunFolder(tmp_path / "r").steps()[0] == 40
    assert fn.load(tmp_path / "r").step == 40


@pytest.mark.unchecked
def test_the_loss_never_falls_below_its_floor_on_average():
    # a network far too large for 12 points: it gets close to the floor and stays above it
    data = fn.data.spiral(12)
    torch.manual_seed(0)
    d = fn.Denoiser(fn.nn.MLP(2, 128, fourier=32), fn.CosineBeta(T=50), "v")
    events = drain(fn.fit(d, data, fn.TrainConfig(steps=3000, batch_size=256, lr=3e-3, log_every=50)))
    floor = events[-1].floor
    late = torch.tensor([e.loss for e in events if e.step > 2000])
    error = float(late.std()) / len(late) ** 0.5
    assert float(late.mean()) > floor.value - 4 * (error + floor.error)
    assert events[-1].progress > 0.9


def test_ema_follows_with_a_warm_up():
    torch.manual_seed(0)
    net = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(net, 0.9)
    expected = net.weight.item()
    for k in range(200):
        with torch.no_grad():
            net.weight.add_(1.0)
        decay = min(0.9, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * net.weight.item()
        ema.update(k)
        assert ema.averages["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_warms_up_and_decays():
    c = fn.TrainConfig(steps=100, warmup=10)
    rates = [rate_at(c, k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates[-1] < 1e-3
    assert rate_at(fn.TrainConfig(steps=9, decay="constant"), 8) == 1
    linear = fn.TrainConfig(steps=100, decay="linear", decay_part=0.2)
    assert [rate_at(linear, k) for k in (0, 79, 80, 90, 99)] == pytest.approx([1, 1, 1, 0.5, 0.05])


def test_checkpointing_changes_nothing_but_memory_and_is_for_networks_that_can():
    digits = fn.data.digits(n=60)
    given = {"steps": 3, "batch_size": 8, "network": {"name": "unet", "widths": (8, 16)}, "precision": "float32"}
    plain, again = (fn.train(digits, checkpointing=c, **given).denoiser for c in (False, True))
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ConfigError, match="checkpointing is for networks of pictures"):
        fn.train(fn.data.moons(50), steps=1, checkpointing=True)


def test_labels_are_dropped_as_often_as_asked():
    d = fn.Denoiser(fn.nn.MLP(2, 8, classes=3), fn.CosineBeta(), "v")
    seen = []
    d.network.condition.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    drain(fn.fit(d, fn.data.shapes(300), config(steps=100, batch_size=100, drop_cond=0.25)))
    given = torch.cat([cond.mask("label") for cond in seen])
    assert float((~given).float().mean()) == pytest.approx(0.25, abs=0.02)  # 10,000 draws: error 0.004
    assert set(torch.cat([cond.values["label"] for cond in seen]).tolist()) == {0, 1, 2}


def test_bf16_trains():
    events = drain(fn.fit(denoiser(), fn.data.spiral(100), config(steps=1000, precision="bf16")))
    assert events[-1].loss < 0.5 * events[0].loss


@pytest.mark.parametrize(
    ("options", "words"),
    [({"lr": math.nan}, "lr"), ({"lr": 0}, "lr"), ({"steps": 0}, "steps"), ({"ema": 1.0}, "ema"),
     ({"seed": -1}, "seed"),
     ({"weighting": "minsnr"}, "did you mean 'min-snr'"), ({"batchsize": 3}, "batchsize is not a setting"),
     ({"times": {"name": "log-normal", "sd": -1}}, "sd")],
)  # fmt: skip
def test_wrong_settings_are_refused(options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        fn.TrainConfig(**options)
    assert "\n" not in str(caught.value)


def test_dropping_labels_needs_labels():
    with pytest.raises(ConfigError, match="drop_cond"):
        drain(fn.fit(denoiser(), fn.data.spiral(100), config(drop_cond=0.1)))


def test_the_first_example_of_the_readme_in_small(tmp_path):
    points = fn.data.spiral(n=300, seed=0)
    run = fn.train(points, schedule=fn.LinearBeta(T=1000), predict="eps", out=tmp_path / "spiral", seed=0, steps=30)
    assert run.config.train["weighting"] == {"name": "uniform"}
    x = fn.sample(run.denoiser, n=300, sampler=fn.DDIM(), steps=50, seed=1)
    assert x.shape == (300, 2)
    fn.plot.scatter(x).savefig(tmp_path / "spiral.png")
    with pytest.raises(InputError, match="network 'mlp' is for points"):
        fn.train(torch.randn(5, 1, 4, 4), network="mlp")
    with pytest.raises(InputError, match="network 'unet' is for pictures"):
        fn.train(points, network="unet")


def test_labels_are_left_out_now_and_then_unless_the_settings_say_how_often():
    shapes = fn.data.labelled(spiral=fn.data.spiral(30), moons=fn.data.moons(30))
    assert fn.train(shapes, steps=2, batch_size=8).config.train["drop_cond"] == 0.1
    plain = fn.train(shapes, steps=2, batch_size=8, network=fn.nn.MLP(2, 8))  # a network that knows no labels
    assert plain.config.train["drop_cond"] == 0
    assert Plan.from_recipe("points", {"train": {"drop_cond": 0.0}}).assemble(shapes).config.drop_cond == 0


def test_every_component_is_taken_as_an_object_a_name_or_settings():
    x = fn.data.spiral(100)
    given = {"schedule": "cosine", "predict": "v", "network": "mlp", "codec": "affine"}
    settings = {
        "schedule": {"name": "cosine", "T": 50}, "predict": {"name": "v"},
        "network": {"name": "mlp", "hidden": 16}, "codec": {"name": "affine", "kind": "columns"},
    }  # fmt: skip
    objects = {"schedule": fn.CosineBeta(T=50), "network": fn.nn.MLP(2, 16), "codec": fn.data.Affine("columns")}
    named, set_, made = (fn.train(x, steps=2, **components) for components in (given, settings, objects))
    assert named.config.schedule["T"] == 1000
    for run in (set_, made):
        assert run.config.schedule["T"] == 50
        assert run.config.network["hidden"] == 16
        assert run.denoiser.codec.std.shape == (2,)
    with pytest.raises(InputError, match="hiden"):
        fn.train(x, steps=2, network={"name": "mlp", "hiden": 16})


def test_train_takes_every_setting_of_a_training_by_its_name():
    x = fn.data.spiral(100)
    weighting = weightings.build({"name": "min-snr", "gamma": 3.0})
    run = fn.train(
        x, steps=4, batch_size=16, ema=0.5, held_out=0.2, weighting=weighting, times="uniform", decay="constant"
    )
    train = run.config.train
    assert (train["ema"], train["held_out"], train["decay"], train["steps"]) == (0.5, 0.2, "constant", 4)
    assert train["weighting"] == {"name": "min-snr", "gamma": 3.0}
    assert train["times"]["name"] == "uniform"
    for wrong, words in [
        ({"emma": 0.5}, "emma is not a setting of train .did you mean ema"),
        ({"hidden": 5}, "hidden is not a setting of train$"),
        ({"flip": True}, r"flip is said of the data: give fn.data.open\(data, settings=\{'flip': True\}\)"),
        ({"ema": 2}, "ema should be less than 1"),
        ({"loss": "sliced-bread"}, "unknown loss"),
    ]:
        with pytest.raises(InputError, match=words):
            fn.train(x, **wrong)


def test_a_training_under_no_grad_is_as_without(tmp_path):
    plain = fn.train(fn.data.spiral(200), steps=20)
    with torch.no_grad():
        switched = fn.train(fn.data.spiral(200), steps=20)
    assert torch.equal(fn.sample(plain.denoiser, 5), fn.sample(switched.denoiser, 5))
    with torch.inference_mode(), pytest.raises(InputError, match="inference_mode"):
        fn.train(fn.data.spiral(200), steps=20, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_the_least_loss_is_the_one_that_a_training_shows():
    data = fn.data.labelled(a=fn.data.spiral(300), b=fn.data.moons(300))
    *_, last = fn.fit(fn.Denoiser(fn.nn.MLP(2, classes=2), fn.VP(), "v"), data, fn.TrainConfig(steps=5, drop_cond=0.1))
    floor = fn.loss_floor(data, fn.VP(), "v", drop_cond=0.1)
    assert last.floor.value == pytest.approx(floor.value, abs=3 * floor.error)


def test_a_run_goes_on_to_more_steps_than_it_was_begun_with(tmp_path):
    fn.train(fn.data.spiral(100), steps=20, out=tmp_path / "r", resume=True)
    run = fn.train(fn.data.spiral(100), steps=30, out=tmp_path / "r", resume=True)
    assert run.step == 30
    again = fn.load(tmp_path / "r")
    assert (again.step, again.config.train["steps"]) == (30, 30)
    fn.train(fn.data.spiral(100), steps=30, out=tmp_path / "r", resume=True)
    with pytest.raises(InputError, match="has done 30 steps already"):
        fn.train(fn.data.spiral(100), steps=20, out=tmp_path / "r", resume=True)
    assert fn.load(tmp_path / "r").config.train["steps"] == 30
    with pytest.raises(ConfigChanged, match="lr"):
        fn.train(fn.data.spiral(100), steps=40, lr=0.1, out=tmp_path / "r", resume=True)
    assert fn.load(tmp_path / "r").config.train["steps"] == 30


def test_progress_ends_at_the_floor_and_is_silent_where_the_floor_is_not_known():
    floor = Floor(value=0.2, error=0.001, zero_output_loss=1.0, note="the law")
    assert floor.progress(0.6) == pytest.approx(0.5)
    assert floor.describe(0.6) == "50.0% of the way"
    assert floor.progress(0.15) == 1.0
    assert floor.describe(0.15) == floor.describe(0.2015) == "at the floor"
    for unknown in (floor._replace(error=0.05), floor._replace(zero_output_loss=0.2)):
        assert unknown.progress(0.6) is None
        assert "not known" in unknown.describe(0.6)


def test_a_tables_columns_are_trained_alike_whatever_their_units(tmp_path):
    """A column in millions must not be all that is learned."""
    x = torch.randn(400, 1).double() @ torch.tensor([[1.0, -1.0, 2.0]]).double() + 0.1 * torch.randn(400, 3).double()
    units = torch.tensor([1e6, 1.0, 1e-3]).double()
    run = fn.train(x * units, steps=400, batch_size=64, out=tmp_path / "run")
    assert run.denoiser.codec.kind == "columns"
    assert fn.load(tmp_path / "run").denoiser.codec.kind == "columns"
    of_samples = torch.corrcoef((fn.sample(run.denoiser, 500, steps=10) / units).T)
    torch.testing.assert_close(of_samples, torch.corrcoef(x.T), rtol=0, atol=0.05)
    known = fn.loss_floor(x * units, run.denoiser.schedule, **_settings(run))
    other = fn.loss_floor(x, run.denoiser.schedule, **_settings(run))
    assert known.value == pytest.approx(other.value, rel=1e-3)
    told = fn.train(x * units, steps=2, codec=fn.data.Affine("isotropic"))
    assert told.denoiser.codec.std.dim() == 0


def _settings(run):
    train = run.config.train
    return {"predict": run.denoiser.predict, "weighting": train["weighting"], "times": train["times"]}


def test_an_older_run_of_a_table_goes_on_with_its_own_codec(tmp_path):
    """It was begun when one standard deviation was every table's default."""
    x = torch.randn(200, 3) * torch.tensor([1.0, 50.0, 0.1])
    fn.train(x, steps=3, out=tmp_path / "run", codec=fn.data.Affine("isotropic"))
    again = fn.train(x, steps=5, out=tmp_path / "run", resume=True)
    assert (again.step, again.denoiser.codec.kind) == (5, "isotropic")
    with pytest.raises(ConfigChanged, match=r"codec.kind was 'isotropic' and is now 'columns'"):
        fn.train(x, steps=5, out=tmp_path / "run", resume=True, codec=fn.data.Affine("columns"))


def test_a_setting_that_is_none_is_not_taken_for_one_that_was_not_given():
    with pytest.raises(ConfigError, match="ema"):
        fn.train(fn.data.spiral(50), steps=1, ema=None)


@pytest.mark.parametrize("held", [3, None, {}, {"loss": 1.0, "levels": 3, "losses": [1.0]}])
def test_an_odd_held_out_loss_in_the_log_is_passed_over(tmp_path, held):
    fn.train(fn.data.spiral(50), steps=4, held_out=0.5, check_every=2, out=tmp_path / "run")
    with (tmp_path / "run/metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 4, "loss": 1.0, "held_out": held}) + "\n")
    again = fn.train(fn.data.spiral(50), steps=6, held_out=0.5, check_every=2, out=tmp_path / "run", resume=True)
    assert again.step == 6


def test_the_time_that_steps_wait_for_data_is_told():
    class Slow:
        """A source that takes its time."""

        base = fn.data.moons(50)

        def __getattr__(self, name):
            return getattr(self.base, name)

        def __len__(self):
            return 50

        def read(self, rows):
            time.sleep(0.01)
            return self.base.read(rows)

        def resident(self, device, budget):
            return self

    d = fn.training.Plan.from_recipe("points", {"network": {"name": "mlp", "hidden": 8}}).assemble(fn.data.moons(50))
    for source, low, high in ((fn.data.moons(50), 0.0, 0.5), (Slow(), 0.5, 1.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fromnoise.training.loop._budget", lambda device: 0.0)
            last = drain(fn.fit(d.denoiser, source, config(steps=5, batch_size=1000)))[-1]
        assert low < last.waiting < high
