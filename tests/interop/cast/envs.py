"""Vectorised copies of gymnasium's five classic-control tasks, for training only.

Whatever is published about a policy is measured with gymnasium itself (measure.py), never with
these. State is float64 as in gymnasium, observations are float32.
"""

import numpy as np


class Env:
    """One batch of episodes. A subclass fills in `reset_state`, `observe` and `dynamics`."""

    steps_max = 200
    actions = None  # number of discrete actions, or None for a continuous one
    obs_dim = 0
    obs_scale = None  # rough size of each observation, folded into the first layer

    def __init__(self, n, rng):
        self.s = self.reset_state(n, rng)

    def success(self, done_step, ended, ret):
        raise NotImplementedError


class CartPole(Env):
    name = "CartPole-v1"
    steps_max, actions, obs_dim = 500, 2, 4
    obs_scale = np.array([1.0, 1.0, 0.1, 1.0])

    def reset_state(self, n, rng):
        return rng.uniform(-0.05, 0.05, (n, 4))

    @staticmethod
    def observe(s):
        return s.astype(np.float32)

    @staticmethod
    def dynamics(s, a):
        x, xd, th, thd = s.T
        force = np.where(a == 1, 10.0, -10.0)
        c, sn = np.cos(th), np.sin(th)
        temp = (force + 0.05 * thd**2 * sn) / 1.1
        thacc = (9.8 * sn - c * temp) / (0.5 * (4.0 / 3.0 - 0.1 * c**2 / 1.1))
        xacc = temp - 0.05 * thacc * c / 1.1
        t = 0.02
        ns = np.stack([x + t * xd, xd + t * xacc, th + t * thd, thd + t * thacc], 1)
        ended = (np.abs(ns[:, 0]) > 2.4) | (np.abs(ns[:, 2]) > 12 * 2 * np.pi / 360)
        return ns, np.ones(len(s)), ended

    @staticmethod
    def success(length, ended, ret):
        return length >= 500


class Acrobot(Env):
    name = "Acrobot-v1"
    steps_max, actions, obs_dim = 500, 3, 6
    obs_scale = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 5.0])

    def reset_state(self, n, rng):
        return rng.uniform(-0.1, 0.1, (n, 4)).astype(np.float32).astype(np.float64)

    @staticmethod
    def observe(s):
        t1, t2, d1, d2 = s.T
        return np.stack([np.cos(t1), np.sin(t1), np.cos(t2), np.sin(t2), d1, d2], 1).astype(np.float32)

    @staticmethod
    def _dsdt(s, tau):
        t1, t2, d1v, d2v = s
        c2, s2 = np.cos(t2), np.sin(t2)
        d1 = 0.25 + (1 + 0.25 + c2) + 2
        d2 = 0.25 + 0.5 * c2 + 1
        phi2 = 0.5 * 9.8 * np.cos(t1 + t2 - np.pi / 2)
        phi1 = -0.5 * d2v**2 * s2 - d2v * d1v * s2 + 1.5 * 9.8 * np.cos(t1 - np.pi / 2) + phi2
        dd2 = (tau + d2 / d1 * phi1 - 0.5 * d1v**2 * s2 - phi2) / (0.25 + 1 - d2**2 / d1)
        dd1 = -(d2 * dd2 + phi1) / d1
        return np.stack([d1v, d2v, dd1, dd2])

    @classmethod
    def dynamics(cls, s, a):
        tau, y, h = a - 1.0, s.T, 0.2
        k1 = cls._dsdt(y, tau)
        k2 = cls._dsdt(y + h / 2 * k1, tau)
        k3 = cls._dsdt(y + h / 2 * k2, tau)
        k4 = cls._dsdt(y + h * k3, tau)
        ns = (y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).T
        ns[:, :2] = (ns[:, :2] + np.pi) % (2 * np.pi) - np.pi
        ns[:, 2] = np.clip(ns[:, 2], -4 * np.pi, 4 * np.pi)
        ns[:, 3] = np.clip(ns[:, 3], -9 * np.pi, 9 * np.pi)
        ended = -np.cos(ns[:, 0]) - np.cos(ns[:, 1] + ns[:, 0]) > 1.0
        return ns, np.where(ended, 0.0, -1.0), ended

    @staticmethod
    def success(length, ended, ret):
        return ended


class MountainCar(Env):
    name = "MountainCar-v0"
    steps_max, actions, obs_dim = 200, 3, 2
    obs_scale = np.array([0.5, 0.03])

    def reset_state(self, n, rng):
        return np.stack([rng.uniform(-0.6, -0.4, n), np.zeros(n)], 1)

    @staticmethod
    def observe(s):
        return s.astype(np.float32)

    @staticmethod
    def _move(s, push):
        v = np.clip(s[:, 1] + push - 0.0025 * np.cos(3 * s[:, 0]), -0.07, 0.07)
        p = np.clip(s[:, 0] + v, -1.2, 0.6)
        v = np.where((p == -1.2) & (v < 0), 0.0, v)
        return np.stack([p, v], 1)

    @classmethod
    def dynamics(cls, s, a):
        ns = cls._move(s, (a - 1) * 0.001)
        return ns, -np.ones(len(s)), (ns[:, 0] >= 0.5) & (ns[:, 1] >= 0)

    @staticmethod
    def success(length, ended, ret):
        return ended


class MountainCarContinuous(MountainCar):
    name = "MountainCarContinuous-v0"
    steps_max, actions = 999, None

    @classmethod
    def dynamics(cls, s, a):
        ns = cls._move(s, np.clip(a, -1, 1) * 0.0015)
        ended = (ns[:, 0] >= 0.45) & (ns[:, 1] >= 0)
        return ns, 100.0 * ended - 0.1 * a**2, ended


class Pendulum(Env):
    name = "Pendulum-v1"
    steps_max, actions, obs_dim = 200, None, 3
    obs_scale = np.array([1.0, 1.0, 4.0])

    def reset_state(self, n, rng):
        return rng.uniform(-1, 1, (n, 2)) * np.array([np.pi, 1.0])

    @staticmethod
    def observe(s):
        return np.stack([np.cos(s[:, 0]), np.sin(s[:, 0]), s[:, 1]], 1).astype(np.float32)

    @staticmethod
    def dynamics(s, a):
        th, thd = s.T
        u = np.clip(a, -2, 2)
        norm = (th + np.pi) % (2 * np.pi) - np.pi
        cost = norm**2 + 0.1 * thd**2 + 0.001 * u**2
        nthd = np.clip(thd + (15.0 * np.sin(th) + 3.0 * u) * 0.05, -8, 8)
        return np.stack([th + nthd * 0.05, nthd], 1), -cost, np.zeros(len(s), bool)

    @staticmethod
    def success(length, ended, ret):
        return ret >= -200


ENVS = {e.name: e for e in (CartPole, Acrobot, MountainCar, MountainCarContinuous, Pendulum)}


def rollout(env, policy, n, rng, keep=False, steps=None):
    """Plays `n` episodes of `policy(state, observation) -> action`.

    Returns success, return, length, and with `keep` the visited states.
    """
    e = env(n, rng)
    s, live = e.s, np.ones(n, bool)
    ret, length, ended, seen = np.zeros(n), np.zeros(n, int), np.zeros(n, bool), []
    for _ in range(steps or env.steps_max):
        idx = np.flatnonzero(live)
        if not len(idx):
            break
        sub = s[idx]
        if keep:
            seen.append(sub)
        ns, r, end = env.dynamics(sub, policy(sub, env.observe(sub)))
        s[idx], ret[idx] = ns, ret[idx] + r
        length[idx] += 1
        ended[idx[end]] = True
        live[idx[end]] = False
    out = env.success(length, ended, ret), ret, length
    return (*out, np.concatenate(seen)) if keep else out
