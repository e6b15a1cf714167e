"""An oscilloscope, whatever its dialect: when it triggers, and what it has kept."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.record import Capture, Screen, Signal, converted, seen
from pnnlab.virtual_bench.table import Entry

PULSE_V = 3.3  # a trigger pulse, high; low is 0 V


class SimulatedOscilloscope(SimulatedInstrument):
    """An oscilloscope; a subclass supplies a model and its commands.

    A record is taken at once when its trigger comes. Armed with the sweep on automatic, or while
    the generator runs freely, it takes one at once as well.

    Attributes
    ----------
    look : callable
        Gives the signal that is there without a trigger from the bus: one that runs freely, or,
        if asked with True, whatever there is. The wiring sets it.
    noise : bool
        Whether noise is added; ``seed`` seeds it.
    fault : str
        What is wrong with the next record: "", "hole" or "saturate"; it is then taken back.
    drift_v : float
        Offset of the input that nobody calibrated, V.
    patience_s : float
        A command that waits for a trigger is given up after this time.
    """

    def __init__(
        self,
        identity: str,
        entries: Iterable[Entry],
        *,
        channels: int,
        noise: bool = True,
        seed: int = 0,
        lock: "threading.RLock | None" = None,
    ) -> None:
        self.look: Callable[[bool], Signal | None] = lambda _: None
        self.noise = noise
        self.fault = ""
        self.drift_v = 0.0
        self.patience_s = 30.0
        self.closed = False
        self._seed = seed
        self._records = 0
        self._codes: tuple[object, NDArray[np.uint16]] | None = None
        self.capture: Capture | None = None
        self.run_state = "STOP"
        self.armed = self.armed_event = self.triggered_event = False
        super().__init__(identity, entries, channels=channels, memory_bytes=2**20, lock=lock)
        self.changed = threading.Condition(self.lock)

    # --- what a model supplies ---

    @abstractmethod
    def screen(self, channel: int = 1) -> Screen:
        """The screen as it is set now."""

    @abstractmethod
    def steps(self) -> tuple[float, int]:
        """Volts a code of the eight-bit converter, and the code at the centre of the screen."""

    # --- trigger ---

    def clear_state(self) -> None:
        """``*RST`` forgets the record and stops."""
        self.capture = None
        self.run_state = "STOP"
        self.armed = self.armed_event = self.triggered_event = False

    def trigger(self) -> None:
        """``*TRG``: take a record now."""
        self.force()

    def stop(self, *_: object) -> None:
        """Stop waiting."""
        with self.lock:
            self.armed = False
            self.run_state = "STOP"
            self.changed.notify_all()

    def forget(self, *_: object) -> None:
        """Throw the record away."""
        self.capture = None

    def arm(self, state: Literal["SING", "RUN"]) -> None:
        """Wait for a trigger, once (SING) or again and again (RUN)."""
        self.run_state = state
        if not self.armed:  # an event register sees the edge alone
            self.armed_event = True
        self.armed = True
        signal = self.look(False)
        if signal is not None:
            self.see(signal)
        if self.armed and self.get("sweep") == "AUTO" and state == "SING":
            self.force()

    def force(self, *_: object) -> None:
        """Take a record whatever the trigger says."""
        if not self.armed:
            raise ScpiError(-211)
        signal = self.look(True) or Signal(np.zeros(1), 0.0, 1.0)
        self._take(signal, 0.0)

    def see(self, signal: Signal) -> None:
        """A signal arrives; if armed, and if it triggers, keep it."""
        with self.lock:
            if not self.armed:
                return
            source, level = self.get("trigger source"), self.get("trigger level")
            slope = self.get("trigger slope")
            when: float | None = None
            if source == "EXT" and signal.pulse_s is not None:
                seen = 0 < level + 0.2 < PULSE_V  # a level of zero is crossed by noise
                when = (0.0 if slope == "POS" else signal.pulse_s) if seen else None
            elif source == "CHAN1":
                when = signal.crossing(level / self.gain(1), slope)
            if when is not None:
                self._take(signal, when)

    def listens(self, plays_s: float) -> float | None:
        """How long after a pulse it wants the signal of something that plays so long, s.

        None if it is not armed. A trigger that is not the pulse itself may come at any time while
        it plays; ten screens of that are enough.
        """
        if not self.armed:
            return None
        screen = self.screen()
        end = screen.start_s + screen.width_s
        if self.get("trigger source") == "EXT" and self.get("trigger slope") == "POS":
            return end
        return end + min(plays_s, 10 * screen.width_s)

    def _take(self, signal: Signal, when: float) -> None:
        self._records += 1
        seed = (self._seed, self._records)
        self.capture = Capture(
            signal,
            when,
            self.screen(),
            gain=self.gain(1),
            offset_v=self.drift_v,
            alternating=self.get("coupling") == "AC",
            seed=seed,
            fault=self.fault,
        )
        self.fault = ""
        self._codes = None
        self.triggered_event = True
        if self.run_state == "SING":
            self.run_state = "STOP"
            self.armed = False
        self.changed.notify_all()

    def wait(self) -> None:
        """Block until the record is complete, as the instrument's parser does."""
        self.changed.wait_for(lambda: not self.armed or self.closed, self.patience_s)
        if self.armed:
            self.stop()

    # --- record ---

    def gain(self, channel: int) -> float:
        """What a volt at the connector is called: probe factor and inversion."""
        sign = -1.0 if self.get("invert", channel) else 1.0
        return sign * float(self.get("probe", channel))

    def acquired(self) -> Capture:
        """The record.

        Raises
        ------
        ScpiError
            -230: there is none.
        """
        if self.capture is None:
            raise ScpiError(-230)
        return self.capture

    def codes(self, channel: int, points: int, bits: int = 8) -> NDArray[np.uint16]:
        """The record of a channel as the converter gave it.

        Parameters
        ----------
        channel : int
            Only the first is connected.
        points : int
            How many, evenly over the screen.
        bits : int
            Eight, or more for high resolution.

        Returns
        -------
        array, (points,), uint16
            Codes, eight bits in the high byte; 0 where nothing was taken, 1 where the signal was
            below the converter's range and 0xFF00 where it was above.
        """
        capture = self.acquired()
        key = (capture.seed, channel, points, bits)
        if self._codes is None or self._codes[0] != key:
            volts = seen(capture, channel, points, noise=self.noise)
            self._codes = (key, converted(volts, capture, bits, *self.steps()))
        return self._codes[1]
