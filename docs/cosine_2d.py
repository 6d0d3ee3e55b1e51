"""Draw docs/cosine_2d.png: the slowdown in the plane, with the library's own optimizers."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from tangential import SGDP
from tangential.toys import cosine_2d

RUNS = {
    "SGD": ("#999999", lambda w: torch.optim.SGD(w, lr=0.01)),
    "SGD, momentum .9": ("#56b4e9", lambda w: torch.optim.SGD(w, lr=0.01, momentum=0.9)),
    "SGDP, momentum .9": ("#0072b2", lambda w: SGDP(w, lr=0.01, momentum=0.9)),
}


def main():
    """Trajectories, norms and losses side by side."""
    plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 11}
    figure, (plane, norm, loss) = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    plane.add_patch(plt.Circle((0, 0), 1, fill=False, color="#cccccc"))
    plane.plot([0, 0], [0, -3.2], color="#009e73", linestyle=":")
    plane.annotate("optimal\ndirection", (-1.2, -2.6), color="#009e73")
    for name, (colour, build) in RUNS.items():
        path = cosine_2d(build)
        plane.plot(*path.weights.T, color=colour, linewidth=2)
        plane.scatter(*path.weights[::50].T, color=colour, s=14)
        norm.plot(path.norms, color=colour, linewidth=2, label=name)
        loss.plot(path.losses, color=colour, linewidth=2)
    plane.set(title="path of the weight, a dot every 50 steps", aspect="equal", xlabel="$w_1$")
    plane.set(ylabel="$w_2$", xlim=(-1.3, 2.9), ylim=(-3.2, 1.6))
    norm.set(title="norm of the weight", xlabel="step", ylabel=r"$\|w\|$", ylim=(0.9, 3.1))
    norm.legend(frameon=False)
    loss.set(title="loss", xlabel="step", ylabel=r"$(1-\cos)^2$", yscale="log", ylim=(1e-6, 6))
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
