"""A guard that has outputs switched off when the program that drives them dies or hangs.

A generator goes on playing after its program was killed, and no ``finally`` runs in a killed
process. So a `Guard` starts a second process (`pnnlab.instruments.shutdown`) and sends it a
heartbeat. When the heartbeat stops, or its pipe closes without a goodbye, that process opens VISA
sessions of its own and switches the outputs off.

The heartbeat is sent by a thread: it stops with the process, not with a slow loop. An instrument
that takes one connection at a time, as many do over USB, can be reached once the client is dead,
but not while it hangs.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from pnnlab.errors import InstrumentError, RangeError
from pnnlab.storage import user_path

REFUSED = 2
"""Exit status of a shutdown process that cannot start."""
SWITCHED_OFF = 3
"""Exit status after every output has been switched off."""
NOT_OFF = 4
"""Exit status after some output could not be switched off."""

BEAT, GOODBYE = "beat", "goodbye"
INSIST_S = 10.0  # how long an instrument that does not answer is tried again

_START_S = 60.0  # from a slow network disk, pyvisa takes long to import
_BEATS = 6  # within patience_s, so that a few may be late
_MARGIN_S = 5.0
_REASON_S = 1.0


@final
@dataclass(frozen=True)
class GuardTarget:
    """An instrument, and the commands that switch its outputs off.

    Attributes
    ----------
    resource : str
        Its VISA address, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``.
    library : str
        The VISA library to reach it by, ``"@py"`` for pyvisa-py.
    off : tuple of str
        What to send, such as ``("OUTPut1 OFF",)``; it may be sent more than once.
    write_termination : str
        What ends a message.
    """

    resource: str
    library: str
    off: tuple[str, ...]
    write_termination: str = "\n"

    def __post_init__(self) -> None:
        if isinstance(self.off, str) or not self.off or not all(self.off):
            raise RangeError(
                f"off is {self.off!r}; give the commands that switch the outputs of "
                f'{self.resource} off, as in ("OUTPut1 OFF",).'
            )


@final
class Guard:
    """Guard outputs for as long as this process lives.

    As a context manager it closes when the block ends, and trips when an exception leaves it. If
    this process ends without either, the outputs are switched off.

    Parameters
    ----------
    targets : sequence of GuardTarget
    patience_s : float
        Longest time without a heartbeat, s. Below a second a busy computer may be taken for a dead
        one.
    log : path, optional
        A file to which the shutdown process appends what it did, and when.

    Raises
    ------
    RangeError
        There is nothing to guard, or no patience.
    InstrumentError
        The shutdown process could not be started: switch nothing on then.
    """

    def __init__(
        self,
        targets: Sequence[GuardTarget],
        *,
        patience_s: float = 3.0,
        log: Path | str | None = None,
    ) -> None:
        if not targets:
            raise RangeError("there is nothing to guard; name at least one GuardTarget.")
        if not 0 < patience_s < math.inf:
            raise RangeError(f"patience_s is {patience_s}; give some seconds, such as 3.")
        self.patience_s = patience_s
        self._report: dict[str, Any] = {}
        self._output = ""
        self._last_beat = time.monotonic()
        self._heard, self._stopped = threading.Event(), threading.Event()
        # In a session of its own, neither Ctrl-C nor the end of a terminal or kernel reaches it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pnnlab.instruments.shutdown"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._listener = threading.Thread(target=self._listen, name="guard", daemon=True)
        self._heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._listener.start()
        self._send(
            json.dumps(
                {
                    "targets": [asdict(target) for target in targets],
                    "patience_s": patience_s,
                    "log": None if log is None else str(user_path(log).resolve()),
                }
            )
        )
        if not self._heard.wait(_START_S) or self._report.get("state") != "watching":
            why = self._report.get("why") or self._output or f"no answer within {_START_S:g} s"
            self._process.kill()
            self._end()
            raise InstrumentError(
                f"The process that guards the outputs could not be started ({why}). Nothing is "
                "guarded: switch no output on before that is mended."
            )
        self._last_beat = time.monotonic()
        self._send(BEAT)
        self._heartbeat.start()

    @property
    def alive(self) -> bool:
        """Whether the outputs are guarded."""
        watching = self._report.get("state") == "watching" and self._process.poll() is None
        return self._recent() and watching and not self._stopped.is_set()

    @property
    def pid(self) -> int:
        """Process id of the shutdown process."""
        return self._process.pid

    def check(self) -> None:
        """Raise `InstrumentError` unless the outputs are guarded; call it before each drive."""
        if self.alive:
            return
        self._listener.join(_REASON_S)  # its reason may be under way
        if self._report.get("failed"):
            raise self._still_on()
        why = self._report.get("why")
        if why:
            what = f"The guard has switched the outputs off: {why}."
        else:
            what = (
                "Nobody guards the outputs: the guard was closed, its process has ended, or this "
                "one was held up for long."
            )
        raise InstrumentError(
            f"{what} Nothing may be driven before there is a new guard and the instruments are set "
            "up anew; a bench sees to both when it goes on."
        )

    def trip(self, how: str = "on demand") -> None:
        """Have the shutdown process switch every output off now, and wait until that is done.

        Raises
        ------
        InstrumentError
            It could not be done, or was not confirmed.
        """
        self._stopped.set()
        self._send(f"tripped {how}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(INSIST_S + _MARGIN_S)
        self._listener.join(_MARGIN_S)
        if self._process.poll() != SWITCHED_OFF:
            raise self._still_on()

    def close(self) -> None:
        """End the shutdown process without switching the outputs off."""
        self._stopped.set()
        self._send(GOODBYE)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                self.trip(f"by {kind.__name__}")
        finally:
            self.close()

    def _still_on(self) -> InstrumentError:
        failed = self._report.get("failed") or {
            "the guard": self._output or "its process has ended"
        }
        told = "; ".join(f"{name}: {error}" for name, error in failed.items())
        return InstrumentError(
            f"Outputs may still be on, the guard could not switch them off ({told}). Switch them "
            "off at the instrument itself."
        )

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: `alive` tells
            self._process.stdin.write(f"{line}\n".encode())
            if self._recent():
                self._last_beat = time.monotonic()

    def _recent(self) -> bool:
        # After a pause this long the outputs have been switched off: later beats do not count.
        return time.monotonic() - self._last_beat < self.patience_s

    def _beat(self) -> None:
        while not self._stopped.wait(self.patience_s / _BEATS):
            self._send(BEAT)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._report = json.loads(line)
            except ValueError:  # a warning, or a traceback
                self._output = line.decode(errors="replace").strip() or self._output
            else:
                self._heard.set()
        self._heard.set()

    def _end(self) -> None:
        """Wait for the process, and leave no thread or pipe behind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(INSIST_S + _MARGIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._heartbeat.ident is not None:
            self._heartbeat.join()
        self._listener.join()
        self._process.stdout.close()
