"""Records of a training that never was, for tests of whatever drives or shows one."""

import time
from collections.abc import Callable
from typing import Any

from pnnlab.training import Record

EVALUATED: dict[str, Any] = {
    "device_metric": 0.912,
    "device_loss": 0.31,
    "twin_metric": 0.934,
    "twin_loss": 0.25,
    "gap": (0.01, 0.02),
}


def record(step: int, steps: int = 100, **fields: Any) -> Record:
    """Step ``step`` of a training of two physical layers."""
    given = {
        "loss": 2.0 / step,
        "batch_metric": 0.5,
        "clamped": (0.1, 0.2),
        "device_passes": 12_000 + step,
        "seconds": 0.5 * step,
        "seconds_left": 0.5 * (steps - step),
        "steps_per_second": 2.0,
        "learning_rate": 0.01,
    }
    return Record(step=step, steps=steps, epoch=1, **(given | fields))


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> float:
    """Seconds until ``condition`` became true; it is an error if it does not."""
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds, "waited in vain"
        time.sleep(0.001)
    return time.perf_counter() - began


class Scripted:
    """What a session can drive, made of any records."""

    def __init__(self, records, checkpoint=None, training=None) -> None:
        self._records = records
        if checkpoint is not None:
            self.checkpoint = checkpoint
        if training is not None:
            self.training = training

    def records(self):
        return iter(self._records() if callable(self._records) else self._records)
