"""What a study compares, and in which trials."""

import json
import math
from hashlib import sha256
from typing import Any, NamedTuple

from tangential.lab.engine import points
from tangential.lab.rivals import Space
from tangential.lab.stored import loaded, structured
from tangential.lab.task import Metric

Point = dict[str, float]
Record = dict[str, Any]

TUNING_SEED = 0
FIRST_REPORT_SEED = 1000  # disjoint from the tuning seed
PHASES = {  # and the split that scores each
    "tune": "tune",
    "report": "report",
    "undecayed": "report",  # the baseline's lr, no decay: norms differ by nothing but the update
}


class Spec(NamedTuple):
    """What a trial is; two trials with the same spec are the same trial."""

    rival: str
    phase: str  # one of PHASES
    seed: int
    point: tuple[tuple[str, float], ...]  # of the rival's space: ("lr", .1), ("weight_decay", 1e-4)

    @property
    def values(self) -> Point:
        """The point, by name."""
        return dict(self.point)


Records = dict[Spec, Record]


class Contender(NamedTuple):
    """What a study knows of a rival: all but the function that builds it."""

    source: str  # "module:factory" or "FILE.py:FACTORY" of a user's rival, else ""
    about: str
    baseline: str | None
    colour: str
    space: Space
    published: Point  # its point where nothing is tuned


class Plan(NamedTuple):
    """A study: `trials` tuning trials a rival, then `seeds` paired seeds at its best point."""

    task: str
    options: dict[str, Any]  # of the task: its preset, and others
    about: str
    data: list[str]  # what and whence; checksum
    metric: Metric
    rivals: dict[str, Contender]
    trials: int
    seeds: int
    undecayed: bool  # run every rival once more at its baseline's lr, without decay
    epochs: float
    batch_size: int
    invariant: list[str]  # names of the weights that the audit proved scale-invariant
    settings: dict[str, Any]  # precision, threads, versions: what else decides how a trial ends

    def text(self) -> str:
        """As JSON, for a store."""
        rivals = {name: rival._asdict() for name, rival in self.rivals.items()}
        return json.dumps({**self._asdict(), "metric": self.metric._asdict(), "rivals": rivals})

    @staticmethod
    def of(text: str) -> "Plan":
        """The plan of a `text`.

        Raises:
            ValueError: it is none, or that of another version.
        """
        plan: Plan = structured(Plan, loaded(text), "plan")
        right = {
            "data": len(plan.data) == 2,
            "trials": plan.trials >= 0,
            "seeds": plan.seeds >= 1,
            "epochs": 0 < plan.epochs < math.inf,
            "batch_size": plan.batch_size >= 1,
        }
        for name in (name for name, holds in right.items() if not holds):
            raise ValueError(f"plan.{name} is {getattr(plan, name)!r}, which no study has")
        for rival in plan.rivals.values():
            for name, (low, high) in rival.space.items():
                if not 0 < low <= high < math.inf:
                    raise ValueError(f"plan has a search space of {name} from {low} to {high}")
        return plan

    def key(self, spec: Spec) -> str:
        """Fingerprint of all that decides how a trial ends."""
        parts = [self.task, self.options, self.data[1], self.epochs, self.settings]
        own = [self.rivals[spec.rival].about, spec]
        return sha256(json.dumps([*parts, *own], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Number of trials."""
        return len(self.tuning()) + len(self.rivals) * self.seeds * (1 + self.undecayed)

    def tuning(self) -> list[Spec]:
        """The same points of the unit square for every rival, rivals in turn; none of them twice.

        Where a space is so narrow that points coincide, or has no axis, there are fewer.
        """
        drawn = {name: points(r.space, self.trials) for name, r in self.rivals.items()}
        specs = [
            Spec(rival, "tune", TUNING_SEED, tuple(drawn[rival][i].items()))
            for i in range(self.trials)
            for rival in self.rivals
        ]
        return list(dict.fromkeys(specs))

    def wanted(self, records: Records) -> list[Spec]:
        """The trials of the phase under way: of tuning, and when that is done, of the report."""
        tuning = self.tuning()
        return self.report(records) if all(spec in records for spec in tuning) else tuning

    def report(self, records: Records) -> list[Spec]:
        """The same seeds for every rival, at its best point and, where asked for, undecayed."""
        best = {rival: self.best(rival, records) for rival in self.rivals}
        specs = [Spec(rival, "report", 0, tuple(point.items())) for rival, point in best.items()]
        if self.undecayed:
            specs += [
                Spec(rival, "undecayed", 0, tuple(self._undecayed(rival, best).items()))
                for rival in self.rivals
            ]
        return [s._replace(seed=FIRST_REPORT_SEED + i) for i in range(self.seeds) for s in specs]

    def _undecayed(self, rival: str, best: dict[str, Point]) -> Point:
        lr = best[self.baseline(rival) or rival].get("lr")
        replaced = {"lr": lr, "weight_decay": 0.0}
        return {k: v if (new := replaced.get(k)) is None else new for k, v in best[rival].items()}

    def baseline(self, rival: str) -> str | None:
        """The baseline of `rival`, where it takes part."""
        baseline = self.rivals[rival].baseline
        return baseline if baseline in self.rivals else None

    def best(self, rival: str, records: Records) -> Point:
        """The point of the tuning trial of `rival` that ranks first; without any, the published."""
        tried = [spec for spec in self.tuning() if spec.rival == rival]
        if not tried:
            return self.rivals[rival].published
        return max(tried, key=lambda spec: self.rank(records[spec])).values

    def rank(self, record: Record) -> tuple[bool, float, float]:
        """By score, then by lower loss; diverged trials last."""
        return not record["diverged"], self.metric.oriented(record["score"]), -record["loss"]
