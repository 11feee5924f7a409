"""The controllers that the policies imitate: LQR, value iteration, and a small search.

Each teacher maps a batch of states to actions. Every one takes a generator, so that members of the
cast are taught by different teachers and not only started from different weights.
"""

import numpy as np

from envs import Acrobot, CartPole, Pendulum, rollout


def cartpole(rng):
    """The sign of an LQR controller, with drawn state costs."""

    def f(x, force):
        temp = (force + 0.05 * x[3] ** 2 * np.sin(x[2])) / 1.1
        acc = (9.8 * np.sin(x[2]) - np.cos(x[2]) * temp) / (0.5 * (4 / 3 - 0.1 * np.cos(x[2]) ** 2 / 1.1))
        return x + 0.02 * np.array([x[1], temp - 0.05 * acc * np.cos(x[2]) / 1.1, x[3], acc])

    eps, zero = 1e-6, np.zeros(4)
    a = np.stack([(f(eps * e, 0.0) - f(-eps * e, 0.0)) / (2 * eps) for e in np.eye(4)], 1)
    b = ((f(zero, eps) - f(zero, -eps)) / (2 * eps))[:, None]
    q, r, p = np.diag(rng.uniform(0.5, 2.0, 4)), np.array([[0.01]]), np.eye(4)
    for _ in range(2000):
        k = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        p = q + a.T @ p @ (a - b @ k)
    return lambda s: (-(s @ k[0]) > 0).astype(int)


def acrobot(rng):
    """A linear bang-bang law on the observation, found by the cross-entropy method."""
    d, pop, elite, n = 6, 24, 6, 48

    def act(w, s):
        return np.where(np.einsum("nd,nd->n", Acrobot.observe(s), w) > 0, 2, 0)

    mean, sd, best = rng.normal(size=d), np.ones(d), (1e9, None)
    for _ in range(14):
        ws = mean + sd * rng.normal(size=(pop, d))
        s = np.repeat(rng.uniform(-0.1, 0.1, (1, n, 4)), pop, 0).reshape(-1, 4)
        owner, length = np.repeat(np.arange(pop), n), np.zeros(pop * n)
        live = np.arange(pop * n)
        for _ in range(250):
            ns, _, end = Acrobot.dynamics(s[live], act(ws[owner[live]], s[live]))
            s[live], length[live] = ns, length[live] + 1
            live = live[~end]
            if not len(live):
                break
        cost = (length + 250.0 * np.isin(np.arange(pop * n), live)).reshape(pop, n).mean(1)
        order = np.argsort(cost)[:elite]
        best = min(best, (cost[order[0]], tuple(ws[order[0]])))
        mean, sd = ws[order].mean(0), ws[order].std(0) + 0.05
    w = np.array(best[1])
    return lambda s: act(np.broadcast_to(w, (len(s), d)), s)


def mountain_car(rng):
    """Push the way the car moves, with a drawn small offset of the switching line."""
    bias = rng.uniform(-0.0015, 0.0015)
    return lambda s: np.where(s[:, 1] + bias * np.cos(3 * s[:, 0]) >= 0, 2, 0)


def mountain_car_continuous(rng):
    """The same, as a force that grows quickly with speed."""
    gain = rng.uniform(200, 600)
    return lambda s: np.clip(gain * (s[:, 1] + 0.0005), -1, 1)


def pendulum(rng, nt=181, nv=161, sweeps=260):
    """Value iteration on a grid, then one step of lookahead."""
    gamma = rng.uniform(0.992, 0.998)
    v_axis = np.linspace(-8, 8, nv)
    t_axis = np.arange(nt) * 2 * np.pi / nt - np.pi
    grid = np.stack(np.meshgrid(t_axis, v_axis, indexing="ij"), -1).reshape(-1, 2)
    torques = np.linspace(-2, 2, 17)

    def corners(s):
        x = (s[:, 0] + np.pi) / (2 * np.pi) * nt
        y = (s[:, 1] + 8) / 16 * (nv - 1)
        i, j = np.floor(x).astype(int), np.minimum(np.floor(y).astype(int), nv - 2)
        fx, fy = x - i, y - j
        i0, i1 = i % nt, (i + 1) % nt
        idx = np.stack([i0 * nv + j, i1 * nv + j, i0 * nv + j + 1, i1 * nv + j + 1])
        return idx, np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])

    moves = []
    for u in torques:
        ns, r, _ = Pendulum.dynamics(grid, np.full(len(grid), u))
        moves.append((corners(ns), -r))
    value = np.zeros(len(grid))
    for _ in range(sweeps):
        value = np.min([c + gamma * (w * value[i]).sum(0) for (i, w), c in moves], 0)
    fine = np.linspace(-2, 2, 33)

    def act(s):
        costs = []
        for u in fine:
            ns, r, _ = Pendulum.dynamics(s, np.full(len(s), u))
            i, w = corners(ns)
            costs.append(-r + gamma * (w * value[i]).sum(0))
        return fine[np.argmin(costs, 0)]

    return act


TEACHERS = {
    "CartPole-v1": cartpole,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car_continuous,
    "Pendulum-v1": pendulum,
}

if __name__ == "__main__":
    import time
    from envs import ENVS

    for name, make in TEACHERS.items():
        for seed in range(2):
            t = time.time()
            teacher = make(np.random.default_rng(seed))
            took = time.time() - t
            ok, ret, length = rollout(ENVS[name], lambda s, o: teacher(s), 1000, np.random.default_rng(9))
            print(name, seed, f"{ok.mean():.3f} return {ret.mean():.1f} length {length.mean():.0f}, built in {took:.0f} s")
