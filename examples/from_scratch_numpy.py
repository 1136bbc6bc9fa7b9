"""Build a complete 2-D diffusion model in NumPy alone: schedule, network, training, samplers, guidance.

Step index k = 0..T-1 is what the network sees; time j = k+1 in 0..T, where j = 0 is clean data.
alpha = sqrt(alpha_bar), ALWAYS, and sigma = sqrt(1 - alpha_bar), so x_t = alpha x0 + sigma eps.
Random numbers come from `rng`; arrays take the dtype of the parameters (float64 to check gradients).
Sources: [H] Ho et al. 2020 (DDPM), [N] Nichol & Dhariwal 2021 (improved DDPM), [S] Song et al. 2021
(DDIM), [G] Ho & Salimans 2022 (classifier-free guidance). abar_k below is alpha_bar at index k.
"""

import argparse
import itertools
import math
import time
from functools import partial

import numpy as np  # on a busy machine, OPENBLAS_NUM_THREADS=1 in the environment may well be faster


# ---- data ----
def points(shape, n, rng, jitter=0.05):
    """Draw n jittered points of a two-turn spiral, of circles of radii 1 and 2, or of two half circles."""
    u, side, centre = rng.random(n), rng.integers(0, 2, n), 0.0
    if shape == "spiral":
        theta, r = 4 * np.pi * u, 2 * u  # r = theta / (4 pi) * 2
    elif shape == "circles":
        theta, r = 2 * np.pi * u, 1 + side
    else:  # moons: the lower one is minus the upper one
        theta, r = np.pi * u, 2 * side - 1
        centre = -r[:, None] * np.array([0.5, 0.25])
    curve = r[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1) + centre
    return curve + jitter * rng.standard_normal((n, 2))


def labelled(n, rng, shapes=("spiral", "circles", "moons")):
    """Draw n points of every shape; return the points and their integer labels."""
    x = np.concatenate([points(shape, n, rng) for shape in shapes])
    return x, np.repeat(np.arange(len(shapes)), n)


# ---- schedules, in float64; alpha_bars = np.cumprod(1 - betas) ([H] eq. 4) ----
def linear_betas(T=1000, first=1e-4, last=0.02):
    """Return the linear schedule ([H] section 4)."""
    return np.linspace(first, last, T)


def cosine_betas(T=1000, s=0.008):
    """Return the cosine schedule ([N] eq. 17): beta_k = min(1 - f(k+1)/f(k), 0.999)."""
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def corrupt(x0, k, eps, alpha_bars):
    """Return x_t = sqrt(abar_k) x0 + sqrt(1 - abar_k) eps, with one k per row ([H] eq. 4)."""
    abar = alpha_bars[k][:, None]
    return np.sqrt(abar).astype(x0.dtype) * x0 + np.sqrt(1 - abar).astype(x0.dtype) * eps


# ---- network ----
def embed(k, width=64, dtype=np.float64):
    """Return [sin(k f), cos(k f)], f_i = 10000^(-i / (width/2)) (after Vaswani et al. 2017, section 3.5)."""
    half = width // 2
    angles = np.multiply.outer(k, np.exp(-math.log(10000) * np.arange(half) / half))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(dtype)


def init_params(rng, classes=0, hidden=256, width=64, dtype: type = np.float32):
    """Draw weights [out, in] and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    params, sizes = {}, [2 + width, hidden, hidden, 2]
    for i in (1, 2, 3):
        bound = 1 / math.sqrt(sizes[i - 1])
        params[f"w{i}"] = rng.uniform(-bound, bound, (sizes[i], sizes[i - 1])).astype(dtype)
        params[f"b{i}"] = rng.uniform(-bound, bound, sizes[i]).astype(dtype)
    if classes:  # one row per class, then the null label: "no class given" ([G] section 3.2)
        params["label"] = (0.02 * rng.standard_normal((classes + 1, hidden))).astype(dtype)
    return params


def slope(z):
    """Return the derivative of LeakyReLU(z) = max(z, 0.01 z): 1 where z > 0, else 0.01."""
    return np.maximum((z > 0).astype(z.dtype), 0.01)


def forward(params, x_t, k, label=None):
    """Predict the noise in x_t [B, 2] at k (int or [B]); return eps_hat and what `backward` needs."""
    p, dtype, width = params, params["w1"].dtype, params["w1"].shape[1] - 2
    emb = np.broadcast_to(embed(k, width, dtype), (len(x_t), width))
    h0 = np.concatenate([x_t.astype(dtype, copy=False), emb], axis=1)
    z1 = h0 @ p["w1"].T + p["b1"]
    if "label" in p:
        label = np.broadcast_to(len(p["label"]) - 1 if label is None else label, len(x_t))
        z1 = z1 + p["label"][label]
    h1 = np.maximum(z1, 0.01 * z1)  # LeakyReLU
    z2 = h1 @ p["w2"].T + p["b2"]
    h2 = np.maximum(z2, 0.01 * z2)
    return h2 @ p["w3"].T + p["b3"], (h0, z1, h1, z2, h2, label)


def backward(params, cache, d_out):
    """Carry d_out = dL/d eps_hat back to every parameter by the chain rule; return the gradients."""
    h0, z1, h1, z2, h2, label = cache
    dz2 = d_out @ params["w3"] * slope(z2)
    dz1 = dz2 @ params["w2"] * slope(z1)
    grads = {"w1": dz1.T @ h0, "w2": dz2.T @ h1, "w3": d_out.T @ h2}
    grads |= {"b1": dz1.sum(0), "b2": dz2.sum(0), "b3": d_out.sum(0)}
    if "label" in params:  # each row of the table collects dz1 of the points that looked it up
        one_hot = np.arange(len(params["label"]))[:, None] == label
        grads["label"] = one_hot.astype(dz1.dtype) @ dz1
    return grads


# ---- training ----
def loss_and_grads(params, x0, k, eps, alpha_bars, label=None):
    """Return L_simple = mean (eps - eps_hat(x_t, k))^2 over all coordinates ([H] eq. 14), and gradients."""
    eps_hat, cache = forward(params, corrupt(x0, k, eps, alpha_bars), k, label)
    error = eps_hat - eps
    return float(np.mean(error**2)), backward(params, cache, 2 * error / error.size)


def adam(params, grads, state=(0, {}, {}), lr=1e-3, beta1=0.9, beta2=0.999, tiny=1e-8):
    """Return new parameters and new state (updates, m, v) (Kingma & Ba 2015, algorithm 1)."""
    n, m, v, new = state[0] + 1, {}, {}, {}
    for name, g in grads.items():
        m[name] = beta1 * state[1].get(name, 0.0) + (1 - beta1) * g
        v[name] = beta2 * state[2].get(name, 0.0) + (1 - beta2) * g * g
        m_hat, v_hat = m[name] / (1 - beta1**n), v[name] / (1 - beta2**n)
        new[name] = params[name] - lr * m_hat / (np.sqrt(v_hat) + tiny)
    return new, (n, m, v)


def ema(average, params, n, decay=0.999):
    """Return the running average after update n = 0, 1, ..., with decay min(0.999, (1+n)/(10+n))."""
    d = min(decay, (1 + n) / (10 + n))
    return {name: d * average[name] + (1 - d) * p for name, p in params.items()}


def draw_batch(data, T, batch, rng, labels=None, drop=0.1):
    """Draw x0, k ~ U{0..T-1}, eps ~ N(0, I); make labels null with probability drop ([G] algorithm 1)."""
    rows, k = rng.integers(0, len(data), batch), rng.integers(0, T, batch)
    eps = rng.standard_normal((batch, 2), data.dtype)
    if labels is not None:
        labels = np.where(rng.random(batch) < drop, labels.max() + 1, labels[rows])
    return data[rows], k, eps, labels


def train(params, data, alpha_bars, rng, steps, batch=512, lr=7e-3, labels=None, drop=0.1):
    """Train with Adam, lr falling linearly to 0; return the averaged parameters and every loss."""
    data, average, state, losses = data.astype(params["w1"].dtype), params, (0, {}, {}), []
    for n in range(steps):
        x0, k, eps, label = draw_batch(data, len(alpha_bars), batch, rng, labels, drop)
        loss, grads = loss_and_grads(params, x0, k, eps, alpha_bars, label)
        params, state = adam(params, grads, state, lr * (1 - n / steps))
        average = ema(average, params, n)
        losses.append(loss)
    return average, losses


def optimal_eps(x_t, k, data, alpha_bars, allowed=True):
    """Return the best prediction there is, (x_t - alpha E[x0|x_t]) / sigma: Bayes' rule over finite data.

    E[x0|x_t] = sum_i w_i x_i with w = softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)); `allowed` [B, N]
    says which points may explain which row (those of its label).
    """
    alpha, sigma = np.sqrt(alpha_bars[k])[:, None], np.sqrt(1 - alpha_bars[k])[:, None]
    logits = (alpha * x_t @ data.T - alpha**2 * (data**2).sum(1) / 2) / sigma**2  # |x_t|^2 cancels in w
    logits = np.where(allowed, logits, -np.inf)
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (x_t - alpha * (w @ data / w.sum(axis=1, keepdims=True))) / sigma


def loss_and_floor(params, data, alpha_bars, rng, labels=None, drop=0.1, rounds=100, batch=1000):
    """Estimate the expected loss of params and, on the same draws, the lowest loss any network can reach."""
    losses, floors = [], []
    for _ in range(rounds):
        x0, k, eps, label = draw_batch(data, len(alpha_bars), batch, rng, labels, drop)
        x_t = corrupt(x0, k, eps, alpha_bars)
        allowed = label is None or labels is None or (label[:, None] == labels) | (label[:, None] > labels.max())
        losses.append(np.mean((forward(params, x_t, k, label)[0] - eps) ** 2))
        floors.append(np.mean((optimal_eps(x_t, k, data, alpha_bars, allowed) - eps) ** 2))
    return float(np.mean(losses)), float(np.mean(floors))


def gradient_check(seed=0, entries=20, h=1e-5):
    """Return the largest |backward - central difference|, over the largest gradient in the same tensor."""
    rng, worst = np.random.default_rng(seed), 0.0
    params, k, label = init_params(rng, classes=3, dtype=np.float64), rng.integers(0, 1000, 4), np.arange(4)
    x0, eps = rng.standard_normal((2, 4, 2))
    args = x0, k, eps, np.cumprod(1 - linear_betas()), label
    grads = loss_and_grads(params, *args)[1]
    for name, p in params.items():
        index = rng.integers(0, p.size, entries)
        bumps = [h * (np.arange(p.size) == i).reshape(p.shape) for i in index]
        up, down = ([loss_and_grads(params | {name: p + s * b}, *args)[0] for b in bumps] for s in (1, -1))
        exact, numeric = grads[name].flat[index], np.subtract(up, down) / (2 * h)
        worst = max(worst, np.abs(exact - numeric).max() / np.abs(exact).max())
    return float(worst)


# ---- sampling ----
def time_grid(T, steps):
    """Return times round(T - i T/steps), i = 0..steps, from T (noise) to 0 (clean), for 1 <= steps <= T."""
    return [round(T - i * T / steps) for i in range(steps + 1)]


def step(x_t, eps_hat, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """Go from time t to an earlier time s; eta scales the standard deviation ([S] eq. 12 and 16)."""
    alpha_t, sigma_t, alpha_s, sigma_s = map(float, (alpha_t, sigma_t, alpha_s, sigma_s))
    x0_hat = (x_t - sigma_t * eps_hat) / alpha_t
    std = eta * sigma_s / sigma_t * math.sqrt(1 - (alpha_t / alpha_s) ** 2)
    # eta = 0 is deterministic DDIM. eta = 1 is DDPM: with beta = 1 - alpha_t^2 / alpha_s^2,
    #   std^2 = sigma_s^2 / sigma_t^2 beta, which is the posterior variance beta~ ([H] eq. 7), and
    #   sqrt(sigma_s^2 - std^2) = sigma_s^2 alpha_t / (alpha_s sigma_t), so that the terms without noise
    #   add up to alpha_s/alpha_t (x_t - beta/sigma_t eps_hat), the mean of ancestral sampling ([H] eq. 11).
    return alpha_s * x0_hat + math.sqrt(max(sigma_s**2 - std**2, 0.0)) * eps_hat + std * noise


def sample(eps_model, alpha_bars, steps, eta, x_start, noises=None):
    """Go from x_start to x0 with `steps` calls eps_model(x_t, k); noises: [steps, n, 2] or a Generator."""
    abar = np.concatenate([[1.0], alpha_bars])  # indexed by time j = k + 1; j = 0 is clean data
    alpha, sigma, x_t = np.sqrt(abar), np.sqrt(1 - abar), x_start
    if noises is None or isinstance(noises, np.random.Generator):
        noises = noises.standard_normal((steps, *x_t.shape), x_t.dtype) if noises else np.zeros(steps)
    for i, (t, s) in enumerate(itertools.pairwise(time_grid(len(alpha_bars), steps))):
        eps_hat, noise = eps_model(x_t, t - 1), noises[i] if eta else 0.0
        x_t = step(x_t, eps_hat, alpha[t], sigma[t], alpha[s], sigma[s], eta, noise)
    return x_t


def guided(params, x_t, k, label, w):
    """Return eps_hat = uncond + w (cond - uncond), in one batch of 2B ([G] eq. 6, whose w is our w - 1)."""
    both = np.concatenate([label, np.full(len(x_t), len(params["label"]) - 1)])  # the last row is null
    cond, uncond = np.split(forward(params, np.concatenate([x_t, x_t]), k, both)[0], 2)
    return uncond + w * (cond - uncond)


def sliced_distance(a, b, directions=64):
    """Return the mean over directions of the Wasserstein-1 distance between equally many projected points."""
    u = np.stack([f(np.arange(directions) * np.pi / directions) for f in (np.cos, np.sin)])
    return float(np.mean(np.abs(np.sort(a @ u, axis=0) - np.sort(b @ u, axis=0))))


# ---- the script ----
def experiment(shapes, updates, m, jobs, rng):
    """Train on 300 points per shape, print losses and distances of 300 m samples; return what to draw."""
    abars, (data, labels) = np.cumprod(1 - linear_betas()), labelled(300, rng, shapes)
    labels = labels if len(shapes) > 1 else None
    net, seed = init_params(rng, classes=0 if labels is None else len(shapes)), rng.integers(2**32)
    loss, floor = loss_and_floor(net, data, abars, np.random.default_rng(seed), labels)
    print(f"\n{', '.join(shapes)}\n  untrained           loss {loss:.4f}  floor {floor:.4f}", flush=True)
    net, losses = train(net, data, abars, rng, updates, labels=labels)
    final, _ = loss_and_floor(net, data, abars, np.random.default_rng(seed), labels)
    for i, loss in enumerate([*np.reshape(losses, (5, -1)).mean(axis=1), final], 1):
        name = f"until update {i * updates // 5}" if i <= 5 else "averaged weights"
        print(f"  {name:18s}  loss {loss:.4f}  floor {floor:.4f}")
    (fresh, y), (again, _) = (labelled(300 * m, rng, shapes) for _ in range(2))
    panels = {"second fresh draw": again, "training data": np.repeat(data, m, axis=0)}
    for name, steps, eta, w in [(name, 0, 0, 0) for name in panels] + jobs:
        clock, x_start = time.perf_counter(), rng.standard_normal(fresh.shape, np.float32)
        if steps:  # a sampler, not one of the two point sets above
            model = partial(guided, net, label=y, w=w) if w else lambda x_t, k: forward(net, x_t, k)[0]
            panels[name] = sample(model, abars, steps, eta, x_start, rng)
        far = np.mean([sliced_distance(panels[name][y == c], fresh[y == c]) for c in np.unique(y)])
        print(f"  {name:18s}  distance to fresh data {far:.4f}  {time.perf_counter() - clock:4.1f} s")
    return y, panels


def picture(blocks, path):
    """Save one row of panels per shape: the training data, then what each sampler makes."""
    from matplotlib.figure import Figure

    rows = [(list(panels.items())[1:], y == c) for y, panels in blocks for c in np.unique(y)]
    fig = Figure(figsize=(10, 2.65 * len(rows)), layout="constrained")
    for (panels, chosen), line in zip(rows, fig.subplots(len(rows), 4), strict=True):
        for (name, x), ax in zip(panels, line, strict=True):
            ax.scatter(*x[chosen].T, s=3, lw=0, color="0.35" if name == "training data" else "C0")
            ax.set(title=name, xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    fig.savefig(path, dpi=120)


def main(argv=None):
    """Train on one spiral and on three classes; sample, measure and draw both."""
    parser = argparse.ArgumentParser(description="Diffusion models in NumPy alone.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, poor samples")
    parser.add_argument("--no-plot", action="store_true", help="save no picture")
    parser.add_argument("--out", default="from_scratch.png", help="where to save the picture")
    parser.add_argument("--seed", type=int, default=0)
    args, start = parser.parse_args(argv), time.perf_counter()
    rng = np.random.default_rng(args.seed)
    print(f"gradient check: largest relative error {gradient_check():.1e}")
    free = [("DDPM 1000", 1000, 1.0, 0), ("DDIM 50", 50, 0.0, 0), ("DDIM 10", 10, 0.0, 0)]  # w = 0: none
    steered = [(f"guided w={w}", 50, 0.0, w) for w in (1, 3, 5)]
    updates, m = ((300, 300), 1) if args.quick else ((8000, 14000), 5)
    blocks = [experiment(("spiral",), updates[0], m, free, rng)]
    blocks += [experiment(("spiral", "circles", "moons"), updates[1], m, steered, rng)]
    print(f"total {time.perf_counter() - start:.0f} s")
    if not args.no_plot:
        picture(blocks, args.out)


if __name__ == "__main__":
    main()
