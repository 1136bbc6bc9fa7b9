"""The studio from outside: a real server and real trainings, no mocks."""

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from live_studio import ENVIRONMENT, Studio

import fromnoise as fn
from fromnoise.run import RunFolder
from fromnoise.studio import address, jobs
from fromnoise.studio.form import _settings
from fromnoise.studio.trainings import Listener

QUICK = {"train.steps": 300, "train.batch_size": 64, "network.hidden": 32, "data.n": 2000}
LONG = {**QUICK, "train.steps": 2_000_000}


@pytest.fixture(scope="module")
def shown(tmp_path_factory, trained, trained_shapes):
    """A studio that shows two runs, and a browser."""
    studio = Studio(tmp_path_factory.mktemp("shown"), trained, trained_shapes)
    with studio.client() as browser:
        studio.browser = browser
        studio.runs = {run["name"]: run["id"] for run in browser.get("/api/runs").json()["runs"]}
        yield studio
    studio.stop()


def start(browser, data="spiral", **changes):
    answer = browser.post("/api/trainings", json={"data": data, "changes": changes or QUICK})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def states(browser):
    return {run["id"]: run["state"] for run in browser.get("/api/runs").json()["runs"]}


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def unpacked(text):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())


# -- the way in --


def test_the_link_works_once_and_leaves_a_cookie(studio, trained):
    studio = studio(trained)
    with studio.client() as browser:
        kept = browser.get("/").headers  # the cookie opens the page
        assert kept["content-type"] == "text/html; charset=utf-8"
        again = browser.get(f"/?token={studio.token}")
        assert (again.status_code, again.headers["location"]) == (303, "/")
    import httpx

    with httpx.Client(base_url=studio.origin, trust_env=False) as other:
        refused = other.get(f"/?token={studio.token}")
        assert refused.status_code == 403
        assert "was used already" in refused.text
        assert "set-cookie" not in refused.headers
        assert other.get("/").status_code == 403
        assert other.get("/api/runs").json()["error"].startswith("the studio opens with the link")


def test_the_cookie_is_http_only_and_same_site(studio, trained):
    import httpx

    studio = studio(trained)
    with httpx.Client(base_url=studio.origin, trust_env=False) as browser:
        assert browser.head(f"/?token={studio.token}").status_code == 403  # looking at a link does not use it up
        answer = browser.get(f"/?token={studio.token}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        name, *flags = answer.headers["set-cookie"].split("; ")
        assert name.startswith(f"fromnoise-{studio.port}=")
        assert set(flags) == {"HttpOnly", "SameSite=Strict", "Path=/"}
        assert studio.token not in name


def test_the_page_runs_its_own_scripts_alone(shown):
    nonces = set()
    for _ in range(3):
        answer = shown.browser.get("/")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        nonce = re.search(r"script-src 'nonce-([\w-]+)' 'wasm-unsafe-eval';", policy)[1]
        assert f'nonce="{nonce}"' in answer.text
        scripts = re.findall(r"<script(?![^>]*application/json)[^>]*>", answer.text)
        assert scripts
        assert all(f'nonce="{nonce}"' in script for script in scripts)
        nonces.add(nonce)
    assert len(nonces) == 3
    payload = json.loads(re.search(r'<script type="application/json" id="payload">(.*?)</script>', answer.text)[1])
    assert payload["live"] == {"api": "/api"}
    assert [run["id"] for run in payload["runs"]] == [shown.runs["spiral"]]  # it asks for the others itself


# -- looking --


def test_runs_and_what_is_in_them(shown, trained):
    runs = shown.browser.get("/api/runs").json()["runs"]
    assert [(run["name"], run["state"], run["step"], run["steps"]) for run in runs] == [
        ("spiral", "done", 300, 300),
        ("shapes", "done", 600, 600),
    ]
    assert all(re.fullmatch("[a-z0-9-]{1,64}", run["id"]) for run in runs)
    found = shown.browser.get(f"/api/runs/{shown.runs['spiral']}").json()
    assert (found["name"], found["id"], found["step"]) == ("spiral", shown.runs["spiral"], 300)
    state = fn.load(trained).denoiser.network.state_dict()
    for name, tensor in found["network"]["tensors"].items():
        assert torch.equal(unpacked(tensor["data"]).reshape(tensor["shape"]), state[name])
    answer = shown.browser.get("/api/runs/nothing-here")
    assert answer.status_code == 404
    assert "no run of that name" in answer.json()["error"]


def test_the_form_is_made_from_the_schema(shown):
    form = shown.browser.get("/api/form").json()
    assert form["data"] == sorted({*fn.data.names()} - {"digits"})
    assert set(form["recipes"]) == {"article", "improved", "ncsn", "points"}
    points = form["recipes"]["points"]
    assert (points["train.steps"], points["schedule.name"], points["network.hidden"]) == (7500, "edm", 128)
    train = form["schema"]["train"]["properties"]
    assert set(train) == set(fn.TrainConfig.model_fields)
    assert all(train[name].get("description") for name in train)
    assert train["decay"]["enum"] == ["cosine", "linear", "constant"]
    assert train["ema"]["exclusiveMaximum"] == 1
    network = form["schema"]["components"]["network"]["mlp"]["properties"]
    assert network["hidden"]["description"] == "H, the width of every hidden layer."
    assert "dim" not in network
    assert form["schema"]["components"]["schedule"]["linear"]["properties"]["T"]["maximum"] == 1_000_000
    assert set(form["schema"]["components"]["predict"]) >= {"eps", "x0", "v", "flow", "score", "edm"}
    assert form["schema"]["components"]["predict"]["eps"]["description"].startswith("The noise")
    for recipe, settings in form["recipes"].items():  # what the form shows is what the recipe trains
        job = jobs.Job.from_post({"data": "spiral", "recipe": recipe, "changes": settings})
        assert _settings(job.check()) == settings


def test_a_run_that_is_removed_or_damaged_is_reported(studio, trained, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / name)
    studio = studio("a", "b", "--out", "none")
    with studio.client() as browser:
        a, b = (run["id"] for run in browser.get("/api/runs").json()["runs"])
        assert browser.get(f"/api/runs/{a}").status_code == browser.get(f"/api/runs/{b}").status_code == 200
        shutil.rmtree(tmp_path / "a")
        gone = browser.get(f"/api/runs/{a}")
        assert gone.status_code == 404
        assert "gone from the disk" in gone.json()["error"]
        assert browser.get(f"/api/runs/{a}/walk?n=3").status_code == 404
        for step in RunFolder(tmp_path / "b").steps():
            file = tmp_path / "b" / "checkpoints" / f"{step:09d}" / "ema.safetensors"
            file.write_bytes(file.read_bytes()[:-4])
        config = tmp_path / "b" / "config.toml"
        config.write_text(config.read_text())
        damaged = browser.get(f"/api/runs/{b}")
        assert damaged.status_code == 409
        assert "truncated or was edited" in damaged.json()["error"]
        config.write_text("nonsense")
        assert states(browser) == {a: "gone", b: "damaged"}
        assert browser.get("/").status_code == 200  # without them


def test_without_arguments_all_runs_under_out_are_shown(studio, trained, tmp_path):
    studio = studio()
    with studio.client() as browser:
        assert browser.get("/api/runs").json() == {"runs": []}
        assert browser.get("/").status_code == 200
        shutil.copytree(trained, tmp_path / "runs" / "later")
        (tmp_path / "runs" / "empty").mkdir()
        assert [run["name"] for run in browser.get("/api/runs").json()["runs"]] == ["later"]


# -- sampling --


def walked(browser, run_id, **query):
    with browser.stream("GET", f"/api/runs/{run_id}/walk", params=query) as answer:
        assert answer.status_code == 200, answer.read()
        return [json.loads(line) for line in answer.iter_lines()]


def test_a_walk_is_the_librarys_own_sampling(shown, trained):
    run = fn.load(trained)
    linear = run.denoiser.on(fn.LinearBeta())
    cases = (
        ({"sampler": "ddim", "steps": 50, "seed": 0, "n": 300}, linear, fn.DDIM(), {}),
        ({"sampler": "ddim", "steps": 7, "seed": 3, "n": 700, "eta": 0.5}, linear, fn.DDIM(eta=0.5), {}),
        ({"sampler": "ddpm", "steps": 20, "seed": 1, "n": 2000}, linear, fn.DDPM(), {}),
        ({"steps": 10, "n": 5, "label": "", "guidance": "", "eta": ""}, run.denoiser, fn.Multistep(), {}),
        ({"sampler": "heun", "steps": 4, "n": 3, "schedule": "vp"}, run.denoiser.on(fn.VP()), fn.Heun(), {}),
    )
    for query, denoiser, sampler, more in cases:
        lines = walked(shown.browser, shown.runs["spiral"], **query)
        steps, n = query["steps"], query["n"]
        assert len(lines) == steps + 1
        assert lines[0]["shape"] == [n, 2]
        x = fn.sample(denoiser, n, sampler=sampler, steps=steps, seed=query.get("seed", 0), **more)
        assert torch.equal(unpacked(lines[-1]["x"]).reshape(n, 2), x)
        way = fn.trajectory(denoiser, n, sampler=sampler, steps=steps, seed=query.get("seed", 0), **more)
        for k, line in enumerate(lines):
            assert (line["t"], line["alpha"], line["sigma"]) == (way.times[k], way.alphas[k], way.sigmas[k])
            assert torch.equal(unpacked(line["x"]).reshape(n, 2), way.x[k])
            assert ("x0_hat" in line) == (k > 0)
            if k:
                assert torch.equal(unpacked(line["x0_hat"]).reshape(n, 2), way.x0_hat[k - 1])


def test_a_guided_walk_is_the_librarys_guided_sampling(shown, trained_shapes):
    lines = walked(shown.browser, shown.runs["shapes"], steps=5, n=20, label="moons", guidance=2, seed=4)
    denoiser = fn.Guided(fn.load(trained_shapes).denoiser, 2.0)
    x = fn.sample(denoiser, 20, cond="moons", steps=5, seed=4)
    assert torch.equal(unpacked(lines[-1]["x"]).reshape(20, 2), x)
    answer = shown.browser.get(f"/api/runs/{shown.runs['shapes']}/walk?guidance=2")
    assert answer.status_code == 422
    assert "spiral, circles, moons" in answer.json()["error"]


@pytest.mark.alone
def test_two_walks_run_at_a_time_and_an_abandoned_one_frees_its_place(shown):
    run, browser = shown.runs["spiral"], shown.browser
    long = {"sampler": "heun", "steps": 1000, "n": 2000}  # takes six seconds or more
    with browser.stream("GET", f"/api/runs/{run}/walk", params=long) as one:
        lines = one.iter_lines()
        next(lines)
        with browser.stream("GET", f"/api/runs/{run}/walk", params=long) as two:
            more = two.iter_lines()
            next(more)
            third = browser.get(f"/api/runs/{run}/walk", params={"n": 3})
            assert third.status_code == 503
            assert "2 walks are being drawn" in third.json()["error"]
    began = time.perf_counter()
    until(lambda: browser.get(f"/api/runs/{run}/walk", params={"n": 3, "steps": 2}).status_code == 200)
    assert time.perf_counter() - began < 4  # neither was drawn to its end


# -- training --


@pytest.mark.slow
def test_a_training_from_click_to_samples(studio, tmp_path):
    studio = studio("--out", "made")
    with studio.client() as browser:
        first = start(browser)
        news = list(studio.news(browser, first))
        kinds = [kind for kind, _ in news]
        assert kinds[-1] == "done"
        assert news[-1][1] == {"step": 300}
        assert kinds.count("progress") > 10
        assert kinds.count("checkpoint") > 1
        for kind, told in news:
            if kind == "progress":
                assert set(told) == {"step", "steps", "loss", "floor", "progress", "rate", "seconds_left"}
                assert told["steps"] == 300
                assert told["loss"] > 0
        assert list(studio.news(browser, first))[-1] == ("done", {"step": 300})  # for those who come late
        run = browser.get(f"/api/runs/{first}").json()
        assert (run["step"], run["name"], len(run["training"]["steps"])) == (300, "spiral", 50)
        assert states(browser) == {first: "done"}
        second = start(browser)  # beside the first, never over it
        assert list(studio.news(browser, second))[-1][0] == "done"
        assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["spiral", "spiral-2"]
        made = RunFolder(tmp_path / "made" / "spiral")
        assert made.config.data == {"name": "spiral", "n": 2000, "seed": 0}
        assert json.loads((made.path / "environment.json").read_text())["command"].startswith("fromnoise train spiral")
        lines = walked(browser, first, steps=5, n=10)
        x = fn.sample(fn.load(made.path).denoiser, 10, steps=5)
        assert torch.equal(unpacked(lines[-1]["x"]).reshape(10, 2), x)
    assert studio.stop() == 130
    assert list((tmp_path / "tmp").glob("fromnoise*")) == []


@pytest.mark.alone
@pytest.mark.slow
def test_a_page_that_is_told_of_a_checkpoint_finds_it(studio):
    studio = studio()
    with studio.client() as browser:
        run = start(browser, **{**LONG, "train.save_every": 500})
        seen = []
        for kind, told in studio.news(browser, run):
            if kind == "checkpoint":
                began = time.perf_counter()
                found = browser.get(f"/api/runs/{run}").json()
                seen.append((told["step"], found["step"], time.perf_counter() - began))
            if len(seen) == 5:
                break
        assert browser.post(f"/api/trainings/{run}/stop", json={}).status_code == 200
        assert len({step for step, *_ in seen}) == 5
        assert all(step <= found for step, found, _ in seen)
        assert sorted(seconds for *_, seconds in seen)[len(seen) // 2] < 0.2


@pytest.mark.slow
def test_drawn_points_are_trained_on(studio, tmp_path):
    studio = studio()
    angles = np.linspace(0, 2 * np.pi, 60)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).tolist()
    settings = {key: value for key, value in QUICK.items() if key != "data.n"}
    with studio.client() as browser:
        plain = start(browser, {"name": "Mein Kreis!", "points": points}, **settings)
        labelled = start(browser, {"points": points, "labels": ["up"] * 30 + ["down"] * 30}, **settings)
        assert plain.startswith("mein-kreis-")
        assert list(studio.news(browser, plain))[-1][0] == "done"
        assert list(studio.news(browser, labelled))[-1][0] == "done"
        found = browser.get(f"/api/runs/{labelled}").json()
        assert found["labels"] == ["up", "down"]
        assert len(walked(browser, labelled, steps=3, n=4, label="up")) == 4
    run = fn.load(tmp_path / "runs" / "mein-kreis")
    assert torch.equal(run.source.x, torch.tensor(points))
    assert run.source.name == "Mein Kreis!"
    assert fn.load(tmp_path / "runs" / "drawing").config.train["drop_cond"] == 0.1  # as fromnoise train has it


@pytest.mark.slow
def test_one_trains_two_wait_and_the_next_is_refused(studio, tmp_path):
    studio = studio()
    with studio.client() as browser:
        answers = [browser.post("/api/trainings", json={"data": "moons", "changes": LONG}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 409]
        ids = [answer.json()["id"] for answer in answers[:3]]
        assert [answer.json()["position"] for answer in answers[:3]] == [0, 1, 2]
        assert len(set(ids)) == 3
        assert "one training runs and 2 wait" in answers[3].json()["error"]
        assert list(states(browser).values()) == ["training", "queued", "queued"]
        assert browser.post(f"/api/trainings/{ids[1]}/stop", json={}).json() == {"id": ids[1], "state": "stopped"}
        assert list(studio.news(browser, ids[1])) == [("stopped", {"step": 0})]
        until(lambda: any(run["step"] > 0 for run in browser.get("/api/runs").json()["runs"]))
        assert browser.post(f"/api/trainings/{ids[0]}/stop", json={}).json()["state"] == "training"
        browser.post(f"/api/trainings/{ids[0]}/stop", json={})  # twice does no harm
        *_, checkpoint, (kind, told) = studio.news(browser, ids[0])
        assert kind == "stopped"
        assert checkpoint == ("checkpoint", told)
        assert RunFolder(tmp_path / "runs" / "moons").steps()[0] == told["step"] > 0
        assert states(browser)[ids[0]] == "stopped"
        until(lambda: states(browser)[ids[2]] == "training")  # the next one's turn
        nobody = browser.post("/api/trainings/moons-0123456789/stop", json={})
        assert nobody.status_code == 404
        resumed = browser.post("/api/trainings", json={"resume": ids[0]})
        assert resumed.json() == {"id": ids[0], "position": 1}
        assert browser.post("/api/trainings", json={"resume": ids[0]}).status_code == 409


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_end(studio, tmp_path):
    settings = {**QUICK, "train.steps": 3000}
    studio = studio()
    with studio.client() as browser:
        whole, cut = start(browser, **settings), start(browser, **settings)
        assert list(studio.news(browser, whole))[-1][0] == "done"
        for kind, told in studio.news(browser, cut):
            if kind == "progress" and told["step"] >= 500:
                browser.post(f"/api/trainings/{cut}/stop", json={})
        assert kind == "stopped"
        assert 500 <= told["step"] < 3000
        assert browser.post("/api/trainings", json={"resume": whole}).status_code == 409  # it is at its end
        assert browser.post("/api/trainings", json={"resume": cut}).status_code == 202
        assert list(studio.news(browser, cut))[-1] == ("done", {"step": 3000})
    one, two = (fn.load(tmp_path / "runs" / name).denoiser.state_dict() for name in ("spiral", "spiral-2"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({"data": "spirla"}, ["unknown data set", "did you mean 'spiral'"]),
        ({"data": "spiral", "recipe": "artcle"}, ["unknown recipe", "did you mean 'article'"]),
        ({"data": "spiral", "changes": {"train": {"steps": 0}}}, "steps should be greater than or equal to 1"),
        ({"data": "spiral", "changes": {"train.stepps": 3}}, "stepps is not a setting of train"),
        ({"data": "spiral", "changes": {"train": 3}}, "train is a group"),
        ({"data": "spiral", "changes": {"schedule": "cosin"}}, "did you mean 'cosine'"),
        ({"data": "spiral", "changes": {"schedule": "flow", "predict": "eps"}}, 'predict "v"'),
        ({"data": "spiral", "changes": {"network": {"hiden": 3}}}, "hiden is not a setting of network 'mlp'"),
        ({"data": "spiral", "changes": {"network.hidden": 9999}}, "parameters"),
        ({"data": "spiral", "changes": {"network.depth": 10**9}}, "network.depth"),
        ({"data": "spiral", "changes": {"train.drop_cond": 0.1}}, "drop_cond needs a network with classes"),
        ({"data": "spiral", "changes": {"train.loss": "hybrid"}}, "learned variance"),
        (
            {"data": "spiral", "changes": {"train.times": {"name": "geometric-levels", "low": 9, "high": 1}}},
            "low must lie below",
        ),
        ({"data": "spiral", "changes": {"data.n": 0}}, "n must be a whole number of at least 1"),
        ({"data": "spiral", "changes": {"data.n": 10**9}}, "up to 1,000,000 points"),
        ({"data": {"points": [[0, 0]] * 9}}, "at least 10 items"),
        ({"data": {"points": [[0, 0]] * 12, "labels": ["a"]}}, "one of at most 64 for each of 12 points"),
        ({"data": {"points": [[0, 0]] * 12}, "changes": {"data.n": 3}}, "go with a built-in data set"),
        ({"data": "spiral", "out": "/tmp/x"}, "out is not a setting of the training"),
        ({"resume": "nothing"}, "no run of that name"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(shown, posted, words):
    answer = shown.browser.post("/api/trainings", json=posted)
    assert answer.status_code == (404 if "resume" in posted else 422)
    error = answer.json()["error"]
    for word in [words] if isinstance(words, str) else words:
        assert word in error
    assert "\n" not in error
    assert not (shown.folder / "runs").exists()


@pytest.mark.slow
def test_a_training_that_fails_says_why(studio, tmp_path):
    studio = studio()
    (tmp_path / "runs").touch()  # where the folder should be
    with studio.client() as browser:
        run = start(browser)
        (kind, told), *_ = reversed(list(studio.news(browser, run)))
        assert kind == "failed"
        assert "cannot be written" in told["error"]
        row = next(row for row in browser.get("/api/runs").json()["runs"] if row["id"] == run)
        assert (row["state"], row["error"]) == ("failed", told["error"])
        diverged = start(browser, **{**QUICK, "train.lr": 1e30})
        assert list(studio.news(browser, diverged))[-1][0] == "failed"


@pytest.mark.slow
def test_a_component_of_a_plugin_can_be_trained(studio, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nimport numpy as np\n"
        "from fromnoise.schedule import TableSchedule, schedules\n\n"
        "@schedules.register('mine')\n@dataclass(frozen=True)\nclass Mine(TableSchedule):\n"
        '    """A table of my own."""\n\n    T: int = 200\n\n'
        "    @property\n    def betas(self):\n        return np.linspace(5e-4, 0.1, self.T)\n\n"
        "@schedules.register('odd')\nclass Odd(TableSchedule):\n"
        "    def __init__(self, f: np.ndarray):\n        self.f = f\n"
    )
    studio = studio("--plugin", "mine.py")
    with studio.client() as browser:
        components = browser.get("/api/form").json()["schema"]["components"]["schedule"]
        assert components["mine"]["description"] == "A table of my own."
        assert "odd" not in components  # a form cannot hold an array
        run = start(browser, **QUICK, schedule="mine", predict="v")
        assert list(studio.news(browser, run))[-1] == ("done", {"step": 300})
        why_not = browser.get(f"/api/runs/{run}").json()["why_not"]
        assert why_not == "the page does not know this run's schedule or prediction"
        assert len(walked(browser, run, steps=3, n=2)) == 4  # but the server does


def test_a_slow_listener_misses_old_news_and_not_the_end():
    listener = Listener()
    for step in range(1000):
        listener.tell(("progress", {"step": step}))
    listener.tell(("done", {"step": 1000}))
    assert len(listener._news) == 64
    assert listener._news[0][1]["step"] > 900
    assert listener._news[-1][0] == "done"


def test_a_worker_without_its_studio_saves_and_stops(tmp_path):
    job = {"data": "spiral", "changes": LONG}
    asked = {"out": str(tmp_path / "run"), "job": job}
    (tmp_path / "job.json").write_text(json.dumps(asked))
    words = [sys.executable, "-m", "fromnoise.studio.worker", str(tmp_path / "job.json")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as worker:
        assert json.loads(worker.stdout.readline())["event"] == "progress"
        worker.stdout.close()  # as when the server is killed
        worker.wait(60)
    assert RunFolder(tmp_path / "run").steps()[0] > 0


# -- the command --


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_saves_the_training_and_says_how_to_go_on(studio, tmp_path):
    studio = studio("--out", "runs")
    points = [[k % 7, k % 5] for k in range(40)]
    drawn = {key: value for key, value in QUICK.items() if key != "data.n"}
    with studio.client() as browser:
        run = start(browser, **LONG)
        waiting = start(browser, {"points": points}, **drawn)
        until(lambda: states(browser)[run] == "training" and (RunFolder(tmp_path / "runs" / "spiral").metrics()))
        with browser.stream("GET", f"/api/trainings/{run}/events") as news:
            lines = news.iter_lines()
            assert next(lines) == "event: progress"
            began = time.perf_counter()
            assert studio.stop(signal.SIGINT) == 130
            assert time.perf_counter() - began < 10
            assert "event: stopped" in list(lines)
    assert waiting.startswith("drawing-")
    steps = RunFolder(tmp_path / "runs" / "spiral").steps()
    said = "".join(studio.said)
    found = re.search(r"runs/spiral: stopped after step (\d+); go on with: (fromnoise train spiral .*--resume)\n", said)
    assert int(found[1]) == steps[0] > 0
    assert "runs/drawing: stopped before its first step" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs" / "drawing").exists()
    import shlex

    words = [sys.executable, "-m", *shlex.split(found[2])]
    with subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as again:
        until(lambda: RunFolder(tmp_path / "runs" / "spiral").metrics()[-1]["step"] > steps[0])
        again.send_signal(signal.SIGINT)
        assert "stopped after step" in again.communicate(timeout=60)[1]


@pytest.mark.slow
def test_a_drawing_is_continued_by_the_printed_command(studio, tmp_path):
    studio = studio()
    settings = {key: value for key, value in {**QUICK, "train.steps": 40_000}.items() if key != "data.n"}
    with studio.client() as browser:
        start(browser, {"points": [[k % 7, k % 5] for k in range(40)]}, **settings)
        until(lambda: len(RunFolder(tmp_path / "runs" / "drawing").metrics()) > 1)
        assert studio.stop(signal.SIGTERM) == 130
    command = re.search(r"go on with: (.*)\n", "".join(studio.said))[1]
    step = RunFolder(tmp_path / "runs" / "drawing").steps()[0]
    with subprocess.Popen(
        command.split(), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as again:
        assert json.loads(again.stdout.readline())["step"] > step
        again.send_signal(signal.SIGTERM)
        assert '"stopped"' in again.communicate(timeout=60)[0]


def refused(result, *words):
    code, out, err = result
    assert (code, out) == (2, ""), err
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_a_taken_port_is_reported_with_the_process_that_holds_it(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run_cli("studio", "--port", port, "--no-open"), f"port {port} is taken", f"--port {port + 1}")
        if Path("/proc/net/tcp").exists():
            import os

            assert f"(process {os.getpid()})" in address.holder(port)
        assert address.holder(1) is None
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_wrong_input(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run_cli("studio", "nowhere", "--no-open"), "no run at nowhere")
    refused(run_cli("studio", "--host", "0.0.0.0"), "anyone who reaches this machine", "not encrypted", "--yes")
    refused(run_cli("studio", "--host", "192.0.2.7"), "--yes")
    for host in ("192.0.2.7", "no such host"):
        code, _, err = run_cli("studio", "--host", host, "--yes", "--no-open")
        assert code == 2
        assert err.splitlines()[-1].startswith(f"error: --host {host}")
    refused(run_cli("studio", "--port", "70000"), "--port")
    refused(run_cli("studio", "--plugin", "nowhere.py"), "no such file")
    monkeypatch.setattr("fromnoise.cli.studio.find_spec", lambda name: None)
    refused(run_cli("studio"), "pip install 'fromnoise[studio]'")
    assert list(tmp_path.iterdir()) == []


def test_only_this_machine_can_reach_it(shown):
    own = [name for name in address._own_names() if re.fullmatch(r"[\d.]+", name)]
    for name in own:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((name, shown.port), timeout=5)


def test_with_yes_other_machines_can_reach_it(studio, trained):
    studio = studio(trained, "--host", "0.0.0.0", "--yes")
    assert any("not encrypted" in line for line in studio.said)
    with studio.client() as browser:
        assert browser.get("/api/runs").status_code == 200
        assert browser.get("/api/runs", headers={"host": "evil.example", "origin": ""}).status_code == 403


def test_the_host_names_that_are_accepted():
    assert address.hosts("127.0.0.1", 80) == ["127.0.0.1", "localhost", "[::1]"]
    assert address.hosts("localhost", 8417)[0] == "localhost:8417"
    assert address.hosts("::1", 8417) == ["[::1]:8417", "127.0.0.1:8417", "localhost:8417"]
    assert address.hosts("192.0.2.7", 8417) == ["192.0.2.7:8417"]
    assert [address.is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "host.x")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_help_imports_nothing_heavy():
    code = (
        "import sys, fromnoise.cli.main as m; m.main(['--help']); m.main(['studio', '--help']); "
        "print([n for n in ('torch', 'numpy', 'scipy', 'starlette', 'uvicorn', 'anyio') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
