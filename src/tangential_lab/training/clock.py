"""Where a trial's time goes."""

import time

CLOCK_PARTS = ("forward", "backward", "step", "evaluation", "other")


class Clock:
    """Seconds, each given to one part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(CLOCK_PARTS, 0.0)
        self.now = time.perf_counter()

    def lap(self, part: str) -> None:
        """Give the seconds since the last lap to `part`."""
        now = time.perf_counter()
        self.seconds[part] += now - self.now
        self.now = now

    @property
    def training_s(self) -> float:
        """All seconds but those of evaluations."""
        return sum(self.seconds.values()) - self.seconds["evaluation"]
