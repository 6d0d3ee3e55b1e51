"""A study's plan: which optimizers it compares, and in which trials."""

import json
import math
import re
from hashlib import sha256
from typing import Any, NamedTuple, TypedDict

from tangential_lab.studies.typed_json import parse_json
from tangential_lab.training import Metric, Point, Space, Spec

LEAST_DECAY = 0.05  # of lr * weight_decay * steps, for optimizers that differ only by weight decay


class PlannedOptimizer(NamedTuple):
    """What a plan stores about an optimizer: everything except the function that builds it."""

    source: str  # "module:factory" or "FILE.py:FACTORY" of a user's optimizer, else ""
    about: str
    baseline: str | None
    colour: str
    space: Space | None  # a user's own, searched log-uniformly; None: around the published lr
    published: Point  # its settings without tuning
    decay_multiplier: float = 1.0  # times lr * weight_decay that a weight shrinks per step; a mean
    differs_by_decay: bool = False  # without weight decay, it is the same as another optimizer
    leader: str | None = None  # whose point and recorded angles it takes
    resumes: bool = True  # its state_dict holds all that its steps change


class Settings(TypedDict):
    """Software and settings that affect the result of a trial."""

    precision: str
    threads: int
    sharded: bool
    versions: dict[str, str]
    source: str


class Plan(NamedTuple):
    """A study: a search with `tuning_seeds` seeds, then `seeds` test seeds at the best points.

    A sweep is a search alone: its seeds are shown as curves, and nothing is chosen.
    """

    task: str
    options: dict[str, Any]  # options of the task, such as its preset
    about: str
    data: list[str]  # description and checksum
    metric: Metric
    optimizers: dict[str, PlannedOptimizer]
    trials: int  # points of the search, per optimizer, before a grid is widened
    tuning_seeds: int  # every point is trained on each of them
    sweep: bool  # there are no test trials
    seeds: int  # test seeds
    undecayed: bool  # also run every optimizer at its baseline's lr, without weight decay
    epochs: float
    batch_size: int
    steps: int  # of a trial
    invariant: list[str]  # names of the weights that the audit proved scale-invariant
    settings: dict[str, Any]  # as in `Settings`
    given: bool = False  # the user's settings replace published ones
    # by optimizer; they replace its usual one
    chosen_baselines: dict[str, list[str]] = {}  # noqa: RUF012 - it is never changed
    analysis: bool = False  # curves come before the verdict, with a score after every epoch

    def text(self) -> str:
        """The plan as JSON, for the database."""
        optimizers = {name: optimizer._asdict() for name, optimizer in self.optimizers.items()}
        return json.dumps(
            {**self._asdict(), "metric": self.metric._asdict(), "optimizers": optimizers}
        )

    @staticmethod
    def of(text: str) -> "Plan":
        """The plan that `text` returned as JSON; ValueError if it is not one of this version."""
        plan: Plan = parse_json(Plan, text, "plan")
        limits = {
            "data": (len(plan.data) == 2, "a description and a checksum"),
            "trials": (plan.trials >= 0, "an integer >= 0"),
            "seeds": (plan.seeds >= 1 - plan.sweep, "an integer >= 1, or 0 for a sweep"),
            "tuning_seeds": (plan.tuning_seeds >= 1, "an integer >= 1"),
            "steps": (plan.steps >= 1, "an integer >= 1"),
            "epochs": (0 < plan.epochs < math.inf, "a finite number > 0"),
            "batch_size": (plan.batch_size >= 1, "an integer >= 1"),
        }
        for name, (holds, limit) in limits.items():
            if not holds:
                raise ValueError(f"plan.{name} is {getattr(plan, name)!r}, expected {limit}")
        for optimizer in plan.optimizers.values():
            if not re.fullmatch("#[0-9a-fA-F]{6}", optimizer.colour):
                raise ValueError(
                    f"plan has a colour {optimizer.colour!r}, expected # and six digits"
                )
            for name, (low, high) in (optimizer.space or {}).items():
                if not 0 < low <= high < math.inf:
                    raise ValueError(f"plan has a search space of {name} from {low} to {high}")
        return plan

    def key(self, spec: Spec) -> str:
        """Fingerprint of everything that determines the result of a trial."""
        optimizer = self.optimizers[spec.optimizer]
        parts = [self.task, self.options, self.data[1], self.epochs, self.settings, spec]
        if optimizer.source:  # a user's: `about` has the fingerprint of its code
            parts.append(optimizer.about)
        if self.records_angles(spec):
            parts.append("angles")
        if self.analysis:
            parts.append("a score after every epoch")
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def tuned(self) -> list[str]:
        """The optimizers that have points of their own."""
        return [name for name, optimizer in self.optimizers.items() if not optimizer.leader]

    def records_angles(self, spec: Spec) -> bool:
        """Whether another optimizer of this study needs the angles of a trial."""
        leaders = {optimizer.leader for optimizer in self.optimizers.values()}
        return spec.phase != "tune" and spec.optimizer in leaders

    def leader_of(self, spec: Spec) -> Spec | None:
        """The trial whose angles a trial needs."""
        leader = self.optimizers[spec.optimizer].leader
        return spec._replace(optimizer=leader) if leader else None

    def decay_over_run(self, optimizer: str, point: Point) -> float:
        """What weight decay does over a run: the log by which it would shrink a weight."""
        steps = self.steps * self.optimizers[optimizer].decay_multiplier
        return point.get("lr", 0.0) * point.get("weight_decay", 0.0) * steps

    @property
    def title(self) -> str:
        """The name of the task; of a user's task, that of its function."""
        return self.task.rpartition(":")[2]

    def can_differ(self, optimizer: str, point: Point) -> bool:
        """Whether an optimizer can differ from the others at this point.

        One that has only another weight decay cannot, if its decay does almost nothing.
        """
        only_decay = self.optimizers[optimizer].differs_by_decay
        return not only_decay or self.decay_over_run(optimizer, point) >= LEAST_DECAY

    def baselines(self, optimizer: str) -> list[str]:
        """What `optimizer` is compared with in this study, the most important one first."""
        usual = self.optimizers[optimizer].baseline
        chosen = self.chosen_baselines.get(optimizer, [usual] if usual else [])
        return [name for name in chosen if name in self.optimizers]

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Every optimizer with each of its baselines."""
        return [(name, baseline) for name in self.optimizers for baseline in self.baselines(name)]

    def first_baseline(self, optimizer: str) -> str:
        """The optimizer at which the chain of baselines ends; itself if it has no baseline."""
        chain = [self.optimizers[optimizer].leader or optimizer]
        while (more := self.baselines(chain[-1])) and more[0] not in chain:
            chain.append(more[0])
        return chain[-1]
