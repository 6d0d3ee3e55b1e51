"""AdamP and SGDP in float64 NumPy, step by step as METHOD and paper state them.

It shares no code with src/: here a row is cut out, compared, projected and put back, where the
library works with sums. One `Oracle` holds one weight. Complex weights are given as pairs of reals,
with `axes`, the number of axes before pairing.
"""

import numpy as np


def cosine(x, y, eps):
    """|cos| of the vectors in the last axis, each norm no less than eps."""
    norm_x = np.maximum(np.linalg.norm(x, axis=-1), eps)
    norm_y = np.maximum(np.linalg.norm(y, axis=-1), eps)
    return np.abs(np.sum(x * y, axis=-1)) / (norm_x * norm_y)


def without_radial(x, w, eps):
    """x without its part along w / (|w| + eps); vectors in the last axis."""
    direction = w / (np.linalg.norm(w, axis=-1, keepdims=True) + eps)
    return x - np.sum(x * direction, axis=-1, keepdims=True) * direction


class Oracle:
    """One weight under one rule; `outcome` is what the gate decided last."""

    def __init__(self, weight, rule, axes=None, **options):
        defaults = {
            "adam": {"lr": 1e-3, "betas": (0.9, 0.999)},
            "sgd": {"momentum": 0.0, "dampening": 0.0, "project_buffer": False},
        }[rule]
        defaults |= {"eps": 1e-8, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1}
        defaults |= {"nesterov": False, "maximize": False, "caution": False}
        defaults |= {"row_axis": 0, "row_groups": 1, "projection": "auto"}
        self.o = defaults | options
        self.rule = rule
        self.w = np.array(weight, dtype=np.float64)
        self.axes = self.w.ndim if axes is None else axes
        self.m = np.zeros_like(self.w)
        self.v = np.zeros_like(self.w)
        self.t = 0
        self.outcome = None

    def step(self, gradient):
        """Advance by one step; return the new weight."""
        o, g = self.o, np.array(gradient, dtype=np.float64)
        if o["maximize"]:
            g = -g
        self.t += 1
        u, decay = self._adam(g) if self.rule == "adam" else self._sgd(g)
        self.outcome = self._decide(g)
        u = self._project(u)
        if o.get("project_buffer") and not o["nesterov"]:
            self.m = u.copy()
        if o["caution"]:
            agrees = u * self._project(g) > 0
            share = agrees.sum() / agrees.size if agrees.size else 1.0
            u = self._project(np.where(agrees, u, 0.0) / max(share, 1e-3))
        ratio = 1.0 if self.outcome == "none" else self._wd_ratio()
        self.w = self.w * (1 - o["lr"] * decay * ratio) - o["lr"] * u
        return self.w

    def amend(self, gradient, e):
        """Advance by what another optimizer has added for this gradient; return the new weight."""
        self.outcome = self._decide(np.array(gradient, dtype=np.float64))
        ratio = 1.0 if self.outcome == "none" else self.o["wd_ratio"]
        decay = self.o["lr"] * self.o["weight_decay"] * ratio
        self.w = self.w * (1 - decay) + self._project(np.array(e, dtype=np.float64))
        return self.w

    def _adam(self, g):
        b1, b2 = self.o["betas"]
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        numerator = b1 * self.m + (1 - b1) * g if self.o["nesterov"] else self.m
        mean = numerator / (1 - b1**self.t)
        deviation = np.sqrt(self.v) / np.sqrt(1 - b2**self.t)
        return mean / (deviation + self.o["eps"]), self.o["weight_decay"]

    def _sgd(self, g):
        beta = self.o["momentum"]
        self.m = beta * self.m + (1 - self.o["dampening"]) * g
        u = g + beta * self.m if self.o["nesterov"] else self.m.copy()
        return u, self.o["weight_decay"] / (1 - beta)

    def _wd_ratio(self):
        if self.o["wd_ratio"] != "matched":
            return self.o["wd_ratio"]
        beta = self.o["betas"][0] if self.rule == "adam" else self.o["momentum"]
        return (1 - beta) / (1 + beta)

    def units(self, x):
        """The vectors [units, fan]: rows along the axis, in their groups."""
        rows = np.moveaxis(x, self.o["row_axis"] % self.axes, 0)
        return rows.reshape(rows.shape[0] // self.o["row_groups"], -1)

    def put_back(self, units):
        """The array whose `units` these are."""
        axis = self.o["row_axis"] % self.axes
        return np.moveaxis(units.reshape(np.moveaxis(self.w, axis, 0).shape), 0, axis)

    def _decide(self, g):
        w, o = self.w, self.o
        if o["projection"] == "weight":
            return "weight" if w.size > 1 else "none"
        if o["projection"] == "off" or self.axes < 2 or w.size == 0:
            return "none"
        fan = self.units(w).shape[1]
        if o["projection"] == "row":
            return "row" if fan > 1 else "none"
        if fan > 1 and max(cosine(self.units(w), self.units(g), o["eps"])) < o["delta"] / np.sqrt(
            fan
        ):
            return "row"
        whole = cosine(w.reshape(-1), g.reshape(-1), o["eps"])
        if w.size > 1 and whole < o["delta"] / np.sqrt(w.size):
            return "weight"
        return "none"

    def _project(self, x):
        if self.outcome == "row":
            return self.put_back(without_radial(self.units(x), self.units(self.w), self.o["eps"]))
        if self.outcome == "weight":
            flat = without_radial(x.reshape(-1), self.w.reshape(-1), self.o["eps"])
            return flat.reshape(x.shape)
        return x
