"""A study's plan: which optimizers it compares, and in which trials."""

import json
import math
import re
from hashlib import sha256
from typing import Any, NamedTuple, TypedDict

from tangential_lab.studies.search import quasi_random_points
from tangential_lab.studies.typed_json import parse_json
from tangential_lab.training import Metric, Point, Record, Records, Space, Spec

TUNING_SEED = 0
FIRST_TEST_SEED = 1000  # no test seed is the tuning seed


class PlannedOptimizer(NamedTuple):
    """What a plan stores about an optimizer: everything except the function that builds it."""

    source: str  # "module:factory" or "FILE.py:FACTORY" of a user's optimizer, else ""
    about: str
    baseline: str | None
    colour: str
    space: Space
    published: Point  # its settings without tuning
    resumes: bool = True  # its state_dict holds all that its steps change


class Settings(TypedDict):
    """Software and settings that affect the result of a trial."""

    precision: str
    threads: int
    sharded: bool
    versions: dict[str, str]
    source: str


class Plan(NamedTuple):
    """A study: per optimizer `trials` tuning trials, then `seeds` test trials at its best point."""

    task: str
    options: dict[str, Any]  # options of the task, such as its preset
    about: str
    data: list[str]  # description and checksum
    metric: Metric
    optimizers: dict[str, PlannedOptimizer]
    trials: int
    seeds: int
    undecayed: bool  # also run every optimizer at its baseline's lr, without weight decay
    epochs: float
    batch_size: int
    invariant: list[str]  # names of the weights that the audit proved scale-invariant
    settings: dict[str, Any]  # as in `Settings`

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
            "seeds": (plan.seeds >= 1, "an integer >= 1"),
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
            for name, (low, high) in optimizer.space.items():
                if not 0 < low <= high < math.inf:
                    raise ValueError(f"plan has a search space of {name} from {low} to {high}")
        return plan

    def key(self, spec: Spec) -> str:
        """Fingerprint of everything that determines the result of a trial."""
        optimizer = self.optimizers[spec.optimizer]
        parts = [self.task, self.options, self.data[1], self.epochs, self.settings, spec]
        if optimizer.source:  # a user's: `about` has the fingerprint of its code
            parts.append(optimizer.about)
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Number of trials."""
        return len(self.tuning_trials()) + len(self.optimizers) * self.seeds * (1 + self.undecayed)

    def tuning_trials(self) -> list[Spec]:
        """Tuning trials without repetitions; all optimizers get the same points of the unit cube.

        There are fewer if a space is so narrow that points coincide, or if it is empty.
        """
        drawn = {
            name: quasi_random_points(r.space, self.trials) for name, r in self.optimizers.items()
        }
        specs = [
            Spec(optimizer, "tune", TUNING_SEED, tuple(drawn[optimizer][i].items()))
            for i in range(self.trials)
            for optimizer in self.optimizers
        ]
        return list(dict.fromkeys(specs))

    def next_trials(self, records: Records) -> list[Spec]:
        """The tuning trials, or the test trials once all tuning trials are finished."""
        tuning = self.tuning_trials()
        return self.test_trials(records) if all(spec in records for spec in tuning) else tuning

    def test_trials(self, records: Records) -> list[Spec]:
        """Test trials, on the same seeds for all optimizers: at the best point, then undecayed."""
        best = {optimizer: self.best(optimizer, records) for optimizer in self.optimizers}
        specs = [
            Spec(optimizer, "test", 0, tuple(point.items())) for optimizer, point in best.items()
        ]
        if self.undecayed:
            specs += [
                Spec(optimizer, "undecayed", 0, tuple(self._undecayed(optimizer, best).items()))
                for optimizer in self.optimizers
            ]
        return [s._replace(seed=FIRST_TEST_SEED + i) for i in range(self.seeds) for s in specs]

    def _undecayed(self, optimizer: str, best: dict[str, Point]) -> Point:
        lr = best[self.baseline(optimizer) or optimizer].get("lr")
        replaced = {"lr": lr, "weight_decay": 0.0}
        return {
            k: v if (new := replaced.get(k)) is None else new for k, v in best[optimizer].items()
        }

    def baseline(self, optimizer: str) -> str | None:
        """The baseline of `optimizer` if it is in this study, else None."""
        baseline = self.optimizers[optimizer].baseline
        return baseline if baseline in self.optimizers else None

    def best(self, optimizer: str, records: Records) -> Point:
        """The best tuning trial's point of an optimizer; without trials, its published point."""
        tried = [spec for spec in self.tuning_trials() if spec.optimizer == optimizer]
        if not tried:
            return self.optimizers[optimizer].published
        return max(tried, key=lambda spec: self.rank(records[spec])).values

    def rank(self, record: Record) -> tuple[bool, float, float]:
        """A key for sorting: diverged trials first, then by score, then by lower loss."""
        return not record["diverged"], self.metric.oriented(record["score"]), -record["loss"]
