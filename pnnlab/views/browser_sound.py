"""Loudspeaker and microphone of the computer whose browser shows a notebook."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, final
from uuid import uuid4

import numpy as np
import traitlets

from pnnlab.errors import InstrumentError
from pnnlab.instruments.sound import TAIL_S, SoundLimits
from pnnlab.systems.analog import Volts
from pnnlab.views.parts import PageWidget, assets

BEAT_S = 0.01  # a page ends a sound within some beats of the kernel, as regular as they arrive
PATIENCE_S = 5.0  # beyond the length of a record
TRIES = 5  # to play a sound whose beats came late


@final
class BrowserSound(PageWidget):
    """A `pnnlab.instruments.sound.SoundPort` that is shown at the end of a cell.

    The page asks before it makes a sound: a click on Start opens loudspeaker and microphone, with
    all processing switched off. A page that is closed, muted or refused raises `InstrumentError`
    with the reason, and `refused` holds it; after another click on Start the bench goes on.
    """

    _esm, _css = assets("sound", "listening")
    wanted_hz = traitlets.Float(48_000.0).tag(sync=True)
    level = traitlets.Float().tag(sync=True)
    rate = traitlets.Float(0.0).tag(sync=True)
    refused = traitlets.Unicode("The sound of this page is not started: start it.").tag(sync=True)

    def __init__(self, limits: SoundLimits | None = None) -> None:
        self.limits = limits or SoundLimits()
        super().__init__(level=self.limits.level)
        self._key = ""  # of the sound that is being played
        self._record: Volts | None = None
        self._stopped = False  # by `silence`: not to be played again
        self._ended = threading.Event()
        self.observe(lambda _: self._ended.set(), "refused")

    @property
    def sample_rate_hz(self) -> float:
        """The rate that the browser granted; `InstrumentError` where it is not started."""
        if self.refused:
            raise InstrumentError(self.refused)
        return self.rate

    async def started(self) -> None:
        """Wait, as a cell does, until the page was allowed to make a sound."""
        while self.refused:
            await asyncio.sleep(0.1)

    def play(self, sound: Volts, tail_s: float = TAIL_S) -> Volts:
        """Play a sound in the page, and record what is heard from its beginning on.

        Raises
        ------
        LimitError
            It exceeds the limits; nothing was played.
        InstrumentError
            The page cannot play or record, is gone, or was stopped; the text says why.
        """
        if threading.current_thread() is threading.main_thread():
            raise InstrumentError(
                "While a cell waits, no message of the page arrives. Ask in a thread: "
                "await asyncio.to_thread(bench, x, theta)."
            )
        rate = self.sample_rate_hz
        self.limits.check(sound, rate)
        length = len(sound) + round(tail_s * rate)
        self._stopped = False
        for _ in range(TRIES):
            self._play_once(sound, length, rate)
            if self._record is not None:
                return self._record
            if self.refused or self._stopped:
                raise InstrumentError(self.refused or "The sound was stopped.")
        raise InstrumentError(
            f"The page ended a sound {TRIES} times, because it did not hear of the kernel in time: "
            "this computer, or the way to the kernel, is too busy. Try again later."
        )

    def _play_once(self, sound: Volts, length: int, rate: float) -> None:
        self._record, self._key = None, uuid4().hex
        self._ended.clear()
        content = {"play": self._key, "length": length}
        self.send(content, [sound.astype("<f4").tobytes()])
        if self._stopped:  # between two tries: what was just sent must not sound
            self.silence()
        latest = time.monotonic() + length / rate + PATIENCE_S
        try:
            while not self._ended.wait(BEAT_S):
                self.send({"beat": self._key})
                if time.monotonic() > latest:
                    self.refused = (
                        "The page does not answer: open the notebook in a browser, and start the "
                        "sound again."
                    )
        except BaseException:
            self.silence()
            raise

    def silence(self) -> None:
        """Be silent at once; for any thread. A `play` that is under way raises then."""
        self._stopped = True
        self.send({"stop": True})
        self._ended.set()

    def _on_message(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        if content.get("heard") == self._key:
            if buffers:  # none, if the page ended the sound because beats of the kernel were late
                self._record = np.frombuffer(buffers[0], dtype="<f4").astype(np.float64)
            self._ended.set()
