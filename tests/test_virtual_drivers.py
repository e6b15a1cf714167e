"""The drivers against the virtual bench: what one sends through a cable, the other gets back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from pnnlab.errors import InstrumentError, RangeError
from pnnlab.instruments.dialects import (
    INFINIIVISION,
    KEYSIGHT_33500,
    RIGOL_DS1000Z,
    TEKTRONIX_AFG3000,
    BlockFormat,
    Encoding,
)
from pnnlab.instruments.generator import Generator, Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import Oscilloscope, ScopeSettings, Trace
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench.bench import FaultKind, Faults, VirtualBench, Wiring

FLOAT32 = Encoding("SOUR{channel}:DATA:ARB {arb},", "<f4", -1, 1, 32767)
GENERATORS = {
    "keysight": KEYSIGHT_33500,
    "keysight, float32": replace(KEYSIGHT_33500, encoding=FLOAT32),
    "tektronix": TEKTRONIX_AFG3000,
}
SCOPES = {"keysight": INFINIIVISION, "rigol": RIGOL_DS1000Z}
OTHER_FORMATS = {
    "keysight": BlockFormat("BYTE", 0, "u1", 0x01, 0xFF, hole=0, most_points=4_000_000),
    "rigol": BlockFormat("WORD", 1, "<u2", 0, 255, hole=None, most_points=125_000),
}

SAMPLE_S = 1e-6
DELAY_S = 4e-8  # of the virtual bench
POINTS = 2000
OUTPUT = {"sample_rate_hz": 1 / SAMPLE_S, "amplitude_v": 0.9}
SCREEN = ScopeSettings(
    low_v=-1.0, high_v=1.0, sample_rate_hz=1 / SAMPLE_S, points=POINTS, delay_s=SAMPLE_S + DELAY_S
)
HALF_A_CODE_V = 2.0 / 199 / 2 + 2 * 0.9 / 2**14  # of the oscilloscope, and one of the generator


def wave(points: int = POINTS) -> np.ndarray:
    volts = 0.8 * np.sin(np.arange(points) / 50) * np.cos(np.arange(points) / 331)
    volts[[0, -1]] = 0.0
    return volts


@contextmanager
def bench(
    generator: str = "keysight",
    oscilloscope: str = "keysight",
    *,
    block: BlockFormat | None = None,
    timeout_s: float = 5.0,
    faults: Faults | None = None,
    wiring: Wiring | None = None,
) -> Iterator[tuple[Generator, Oscilloscope]]:
    speaks, shows = GENERATORS[generator], SCOPES[oscilloscope]
    if block is not None:
        shows = replace(shows, format=block)
    with ExitStack() as opened:
        there = opened.enter_context(
            VirtualBench(
                cable(SAMPLE_S),
                generator=generator.partition(",")[0],
                oscilloscope=oscilloscope,
                noise=False,
                delay_s=DELAY_S,
                faults=faults,
                wiring=wiring or Wiring(),
            )
        )
        player = opened.enter_context(Link(there.generator, timeout_s=timeout_s))
        viewer = opened.enter_context(Link(there.oscilloscope, timeout_s=timeout_s))
        yield (
            Generator(player, speaks, limits=Limits(-1, 1)),
            Oscilloscope(viewer, shows),
        )


def shoot(generator: Generator, scope: Oscilloscope, volts: np.ndarray) -> Trace:
    generator.load(volts)
    scope.arm()
    generator.trigger()
    scope.wait(5.0)
    return scope.read()


@pytest.mark.parametrize("formats", [{}, OTHER_FORMATS], ids=["usual", "other"])
@pytest.mark.parametrize("oscilloscope", ["keysight", "rigol"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_volts_come_back(
    generator: str, oscilloscope: str, formats: dict[str, BlockFormat]
) -> None:
    block = formats.get(oscilloscope)
    with bench(generator, oscilloscope, block=block) as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(SCREEN)
        player.output(True)
        for scale in (1.0, 0.3, -1.0):  # of part of the span, too
            trace = shoot(player, viewer, scale * wave())
            assert len(trace.volts) == POINTS
            assert np.abs(trace.volts - scale * wave()).max() < HALF_A_CODE_V
            assert (trace.saturated, trace.missing) == (0, 0)
        player.verify()
        viewer.verify()
        assert player.link.reopened == viewer.link.reopened == 0
        player.close()


@pytest.mark.parametrize("oscilloscope", ["keysight", "rigol"])
def test_long_records(oscilloscope: str) -> None:
    points = 300_000  # more than the second make gives at once
    with bench("keysight", oscilloscope) as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(replace(SCREEN, points=points))
        player.output(True)
        trace = shoot(player, viewer, wave(points))
        assert len(trace.volts) == points
        assert np.abs(trace.volts - wave(points)).max() < HALF_A_CODE_V


def test_channels_that_somebody_left_on_take_no_memory() -> None:
    with bench("keysight", "rigol") as (player, viewer):
        viewer.link.send(":CHAN2:DISP ON", ":CHAN3:DISP ON", ":CHAN4:DISP ON")
        player.apply(**OUTPUT)
        viewer.apply(SCREEN)
        player.output(True)
        assert np.abs(shoot(player, viewer, wave()).volts - wave()).max() < HALF_A_CODE_V
        assert [viewer.link.ask(f":CHAN{n}:DISP?") for n in (1, 2, 3, 4)] == ["1", "0", "0", "1"]
        with pytest.raises(RangeError, match=r"not 4; its channel 4 takes the trigger"):
            Oscilloscope(viewer.link, RIGOL_DS1000Z, channel=4)


@pytest.mark.parametrize("oscilloscope", ["keysight", "rigol"])
def test_what_leaves_the_screen_is_counted(oscilloscope: str) -> None:
    with bench("keysight", oscilloscope) as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(replace(SCREEN, low_v=-0.1, high_v=0.1))
        player.output(True)
        trace = shoot(player, viewer, wave())
        reached = 0.1 * 256 / 200 + 0.001  # the converter sees a little more than the screen
        assert trace.saturated >= int(np.count_nonzero(np.abs(wave()) > reached)) > 0
        assert trace.missing == 0


def test_an_output_that_is_off_drives_nothing() -> None:
    with bench() as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(SCREEN)
        assert np.abs(shoot(player, viewer, wave()).volts).max() < HALF_A_CODE_V


def test_a_missing_trigger_cable_is_told() -> None:
    with bench(wiring=Wiring(trigger=False)) as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(SCREEN)
        player.output(True)
        player.load(wave())
        viewer.arm()
        player.trigger()
        with pytest.raises(InstrumentError, match="no trigger within"):
            viewer.wait(0.1)


def test_what_the_instrument_refuses_is_told() -> None:
    with bench() as (player, _):
        player.limits = Limits(-50, 50)
        player.apply(1e6, 20)
        with pytest.raises(InstrumentError, match=r"-22[12]"):
            player.load(20 * wave())  # it has 10 V into an open circuit
        with pytest.raises(InstrumentError, match=r"-222"):
            player.apply(1e9, 0.9)
        with pytest.raises(InstrumentError, match="-113"):
            player.link.send("MAKE:COFFEE")


@pytest.mark.parametrize("kind", ["drop", "stall", "truncate", "late", "error"])
def test_a_fault_of_the_link_is_mended_or_reported(kind: FaultKind) -> None:
    """Never does a wrong trace come back as if nothing had happened."""
    faults = Faults(seed=1, mean_messages=12, kinds=(kind,), stall_s=0.5, most=6)
    reported = taken = 0
    ready = False
    with bench(faults=faults, timeout_s=0.3) as (player, viewer):
        while faults.injected[kind] < 6 or not taken:
            try:
                if not ready:
                    player.apply(**OUTPUT)
                    viewer.apply(SCREEN)
                    player.output(True)
                    ready = True
                sign = (-1) ** (reported + taken)  # so that no old trace can pass for a new one
                trace = shoot(player, viewer, sign * wave())
            except InstrumentError:
                reported += 1
                ready = False
                continue
            assert np.abs(trace.volts - sign * wave()).max() < HALF_A_CODE_V
            taken += 1
        mended = player.link.reopened + viewer.link.reopened
        player.close()
    assert reported + mended > 0
    assert mended > 0 or kind == "error"
    assert reported > 0 or kind != "error"


@pytest.mark.parametrize("kind", ["hole", "saturate"])
def test_a_fault_of_the_record_is_counted(kind: FaultKind) -> None:
    faults = Faults(seed=2, mean_messages=40, kinds=(kind,), most=3)
    with bench(faults=faults) as (player, viewer):
        player.apply(**OUTPUT)
        viewer.apply(SCREEN)
        player.output(True)
        spoiled = 0
        for _ in range(200):
            trace = shoot(player, viewer, wave())
            sound = np.abs(trace.volts - wave()) < HALF_A_CODE_V
            assert np.count_nonzero(~sound) == trace.missing + trace.saturated
            assert int(np.isnan(trace.volts).sum()) == trace.missing
            spoiled += not sound.all()
            if spoiled == 3:
                break
        assert spoiled == faults.injected[kind] == 3
