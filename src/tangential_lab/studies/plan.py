"""What a study compares, and in which trials."""

import json
import math
import re
from hashlib import sha256
from typing import Any, NamedTuple

from tangential_lab.studies.engine import quasi_random_points
from tangential_lab.studies.stored import parse_json, typed
from tangential_lab.training import Metric, Point, Record, Records, Space, Spec

TUNING_SEED = 0
FIRST_TEST_SEED = 1000  # disjoint from the tuning seed


class PlannedOptimizer(NamedTuple):
    """What a study knows of an optimizer: all but the function that builds it."""

    source: str  # "module:factory" or "FILE.py:FACTORY" of a user's optimizer, else ""
    about: str
    baseline: str | None
    colour: str
    space: Space
    published: Point  # its point where nothing is tuned
    resumes: bool = True  # its state_dict has all that its steps change


class Plan(NamedTuple):
    """A study: `trials` tuning trials an optimizer, then `seeds` paired seeds at its best point."""

    task: str
    options: dict[str, Any]  # of the task: its preset, and others
    about: str
    data: list[str]  # what and whence; checksum
    metric: Metric
    optimizers: dict[str, PlannedOptimizer]
    trials: int
    seeds: int
    undecayed: bool  # run every optimizer once more at its baseline's lr, without decay
    epochs: float
    batch_size: int
    invariant: list[str]  # names of the weights that the audit proved scale-invariant
    settings: dict[str, Any]  # precision, threads, versions: what else decides how a trial ends

    def text(self) -> str:
        """As JSON, for a store."""
        optimizers = {name: optimizer._asdict() for name, optimizer in self.optimizers.items()}
        return json.dumps(
            {**self._asdict(), "metric": self.metric._asdict(), "optimizers": optimizers}
        )

    @staticmethod
    def of(text: str) -> "Plan":
        """The plan of a `text`.

        Raises:
            ValueError: it is none, or that of another version.
        """
        plan: Plan = typed(Plan, parse_json(text), "plan")
        right = {
            "data": len(plan.data) == 2,
            "trials": plan.trials >= 0,
            "seeds": plan.seeds >= 1,
            "epochs": 0 < plan.epochs < math.inf,
            "batch_size": plan.batch_size >= 1,
        }
        for name in (name for name, holds in right.items() if not holds):
            raise ValueError(f"plan.{name} is {getattr(plan, name)!r}, which no study has")
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
        """Fingerprint of all that decides how a trial ends."""
        parts = [self.task, self.options, self.data[1], self.epochs, self.settings]
        own = [self.optimizers[spec.optimizer].about, spec]
        return sha256(json.dumps([*parts, *own], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Number of trials."""
        return len(self.tuning_trials()) + len(self.optimizers) * self.seeds * (1 + self.undecayed)

    def tuning_trials(self) -> list[Spec]:
        """The same points of the unit square for every optimizer, in turn; none of them twice.

        Where a space is so narrow that points coincide, or has no axis, there are fewer.
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
        """The trials of the phase under way: of tuning, and when that is done, of the report."""
        tuning = self.tuning_trials()
        return self.test_trials(records) if all(spec in records for spec in tuning) else tuning

    def test_trials(self, records: Records) -> list[Spec]:
        """The same seeds for every optimizer, at its best point and, where asked for, undecayed."""
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
        """The baseline of `optimizer`, where it takes part."""
        baseline = self.optimizers[optimizer].baseline
        return baseline if baseline in self.optimizers else None

    def best(self, optimizer: str, records: Records) -> Point:
        """The point of the best tuning trial of `optimizer`; without trials, the published one."""
        tried = [spec for spec in self.tuning_trials() if spec.optimizer == optimizer]
        if not tried:
            return self.optimizers[optimizer].published
        return max(tried, key=lambda spec: self.rank(records[spec])).values

    def rank(self, record: Record) -> tuple[bool, float, float]:
        """By score, then by lower loss; diverged trials last."""
        return not record["diverged"], self.metric.oriented(record["score"]), -record["loss"]
