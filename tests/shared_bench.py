"""A bench with a cable in it that several clients use at once, and random loads of a generator."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from pnnlab.errors import InstrumentError
from pnnlab.instruments import bench as bench_module
from pnnlab.instruments.bench import Bench, open_bench
from pnnlab.instruments.dialects import KEYSIGHT_33500, TEKTRONIX_AFG3000, Encoding
from pnnlab.instruments.generator import Generator, Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.programme import CableProgramme
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench import VirtualBench

LIMITS = Limits(low_v=-2, high_v=2)
NOTHING = torch.zeros(0)
HALF_A_CODE = 0.0063  # of 200 on a screen of 2.5 V, where 2 V are 1


@contextmanager
def opened(there: VirtualBench) -> Iterator[Bench]:
    bench = open_bench(
        there.generator,
        there.oscilloscope,
        CableProgramme(12),
        limits=LIMITS,
        guarded=False,
        delay_s=0.04e-6,
    )
    with bench:
        yield bench


def fight(clients: int, calls: int, noise: bool = False) -> Counter[str]:
    """Clients on one bench that all go on, whatever happens: what became of their calls."""
    found: Counter[str] = Counter()
    with (
        VirtualBench(cable(), noise=noise) as there,
        ExitStack() as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(bench_module, "TRIGGER_TIMEOUT_S", 0.1)
        ready = [stack.enter_context(opened(there)) for _ in range(clients)]

        def call(bench: Bench, seed: int) -> None:
            random = torch.Generator().manual_seed(seed)
            for _ in range(calls // clients):
                x = torch.rand(2, 12, generator=random)
                try:
                    wrong = (bench(x, NOTHING) - x).abs().max() > HALF_A_CODE + 0.05 * noise
                    found["wrong" if wrong else "right"] += 1
                except InstrumentError:
                    found["refused"] += 1
                    with suppress(InstrumentError):
                        bench.rearm()

        threads = [
            threading.Thread(target=call, args=(bench, seed)) for seed, bench in enumerate(ready)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def loads(count: int, make: str, float32: bool) -> int:
    """Load small waveforms far from zero, where a rounded extent stretches most, and play them.

    The number of those that were wrong or beyond the limits at the connector.
    """
    dialect = KEYSIGHT_33500 if make == "keysight" else TEKTRONIX_AFG3000
    if float32:
        encoding = Encoding("SOUR{channel}:DATA:ARB {arb},", "<f4", -1, 1, 32767)
        dialect = replace(dialect, encoding=encoding)
    random, beyond = np.random.default_rng(0), 0
    with (
        VirtualBench(cable(), generator=make, noise=False) as there,
        Generator(Link(there.generator), dialect, limits=Limits(-5, 5)) as generator,
    ):
        generator.apply(1e6, 5.0)
        generator.output(True)
        for _ in range(count):
            width = 10 ** random.uniform(-2.5, 1)
            low = random.uniform(-5, 5 - width)
            volts = low + width * random.random(random.integers(8, 40))
            generator.load(volts.astype(random.choice([np.float32, np.float64])))
            played = there._source.emission(1).volts
            beyond += bool(np.abs(played - volts).max() > 1e-3 or np.abs(played).max() > 5 + 1e-9)
    return beyond
