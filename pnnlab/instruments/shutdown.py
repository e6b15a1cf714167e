"""A process that switches an output off when the program that drives it dies or hangs.

A `Guard` starts ``python -m pnnlab.instruments.shutdown``, which reads a task from standard input,
a line of JSON, then heartbeats, a goodbye or a reason to act, and prints its states as JSON.
"""

import io
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, Self, final

import pyvisa

from pnnlab.errors import InstrumentError, RangeError
from pnnlab.instruments.link import open_wire, reason

BEAT, GOODBYE = "beat", "goodbye"
INSIST_S = 24 * 3600.0  # how long an instrument that does not answer is tried again
CONFIRM_S = 10.0  # how long a client waits for that
GRACE_S = 0.2  # to read heartbeats that came while the shutdown process itself was held up
TIMEOUT_S = 1.0  # of an instrument that is to switch off
PAUSE_S = 0.1, 5.0  # between two attempts: first, and at most; doubled in between

_START_S = 60.0  # from a slow network disk, pyvisa takes long to import
_BEATS = 6  # within timeout_s, so that a few may be late
_REASON_S = 1.0

_insisting: "list[subprocess.Popen[bytes]]" = []  # they outlive their guards


@final
class TripError(InstrumentError):
    """Somebody or something else has switched the output off; it stays off until `rearm`."""


@final
class Guard:
    """Guard the outputs of an instrument for as long as this process lives.

    As a context manager it closes when the block ends, and trips when an exception leaves it. If
    this process ends without either, as a killed one does, or its heartbeat stops, the other one
    opens sessions of its own and switches the outputs off. Where the instrument does not answer, it
    goes on trying for a day. The heartbeat is a thread's: it stops with the process, not with a
    slow loop. An instrument that takes one connection at a time, as many do over USB, can be
    reached once the client is dead, but not while it hangs.

    ``off`` are commands, such as ``["OUTPut1 OFF"]``; they may be sent more than once. Below a
    second of ``timeout_s`` a busy computer may be taken for a dead one. `InstrumentError`: the
    process could not be started; switch nothing on then.
    """

    def __init__(
        self,
        resource: str,
        off: Sequence[str],
        *,
        library: str = "@py",
        timeout_s: float = 3.0,
    ) -> None:
        if isinstance(off, str) or not off or not all(off):
            raise RangeError(
                f"off is {off!r}; give the commands that switch the outputs of {resource} off, as "
                'in ["OUTPut1 OFF"].'
            )
        if not 0 < timeout_s < math.inf:
            raise RangeError(f"timeout_s is {timeout_s}; give some seconds, such as 3.")
        self.resource = resource
        self.timeout_s = timeout_s
        self._report: dict[str, Any] = {}
        self._output = ""
        self._last_beat = time.monotonic()
        self._reported, self._stopped = threading.Event(), threading.Event()
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
        self._send(json.dumps([resource, library, list(off), timeout_s]))
        if not self._reported.wait(_START_S) or self._report.get("state") != "watching":
            why = self._report.get("why") or self._output or f"no answer within {_START_S:g} s"
            self._process.kill()
            self._end()
            raise InstrumentError(
                f"The process that guards the outputs could not be started ({why}). Nothing is "
                "guarded: switch no output on before this is repaired."
            )
        self._last_beat = time.monotonic()
        self._send(BEAT)
        self._heartbeat.start()

    @property
    def alive(self) -> bool:
        """Whether the outputs are guarded."""
        watching = self._report.get("state") == "watching" and self._process.poll() is None
        return self._recent() and watching and not self._stopped.is_set()

    def check(self) -> None:
        """Raise `TripError` unless the outputs are guarded; call it before each drive."""
        if self.alive:
            return
        self._listener.join(_REASON_S)  # its reason may be under way
        if self._report.get("failed"):
            raise self.still_on()
        why = "the guard was closed, its process has ended, or this one was held up for long"
        what = "Nobody guards the outputs"
        if self._report.get("why"):
            what, why = "The guard has switched the outputs off", self._report["why"]
        raise TripError(
            f"{what}: {why}. Nothing may be driven before somebody has looked at the instruments."
        )

    @property
    def acting(self) -> bool:
        """Whether the outputs are to be switched off, and the instrument has not confirmed it."""
        return self._report.get("state") == "acting" and self._process.poll() is None

    def trip(self, how: str = "on demand", wait_s: float | None = None) -> None:
        """Have the outputs switched off; raise `InstrumentError` unless it is confirmed in time."""
        self._stopped.set()
        self._send(f"tripped {how}")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CONFIRM_S if wait_s is None else wait_s)
            self._listener.join(_REASON_S)
        if self._report.get("failed") != "":
            raise self.still_on()

    def close(self) -> None:
        """End the shutdown process, unless it is switching the outputs off."""
        self._stopped.set()
        self._send(GOODBYE)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self.trip(f"by {kind.__name__}")
        finally:
            self.close()

    def still_on(self) -> TripError:
        """Error of outputs that could not be switched off."""
        error = self._report.get("failed") or self._output or "it does not answer so far"
        insists = ", and goes on trying" if self.acting else ""
        return TripError(
            f"Outputs may still be on, the guard could not switch them off{insists} "
            f"({self.resource}: {error}). Switch them off at the instrument itself."
        )

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended, and `alive` is False
            self._process.stdin.write(f"{line}\n".encode())
            if self._recent():
                self._last_beat = time.monotonic()

    def _recent(self) -> bool:
        # After a pause this long the outputs have been switched off: later beats do not count.
        return time.monotonic() - self._last_beat < self.timeout_s

    def _beat(self) -> None:
        while not self._stopped.wait(self.timeout_s / _BEATS):
            self._send(BEAT)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    self._report = json.loads(line)
                except ValueError:  # a warning, or a traceback
                    self._output = line.decode(errors="replace").strip() or self._output
                else:
                    self._reported.set()
        self._reported.set()

    def _end(self) -> None:
        """Wait for the process, and leave no thread or pipe behind."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._heartbeat.ident is not None:
            self._heartbeat.join()
        try:
            self._process.wait(CONFIRM_S)
        except subprocess.TimeoutExpired:
            if self.acting:
                _insisting.append(self._process)
                return
            self._process.kill()
            self._process.wait()
        self._listener.join()


def main() -> None:
    """Watch the client at standard input; switch the outputs off when there is a reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = io.FileIO(0, closefd=False)  # unbuffered: a thread that waits in it holds no lock
    try:
        resource, library, off, timeout_s = json.loads(stream.readline())
        # A library that cannot be loaded must be reported now, not when outputs are to be off.
        loaded = pyvisa.ResourceManager(library)
    except (OSError, ValueError, TypeError) as error:
        _report(state="refused", why=reason(error))
        return
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()
    # A computer that shuts down ends this process too: switch off before.
    signal.signal(signal.SIGTERM, lambda *_: messages.put("the guard was asked to end"))
    threading.Thread(target=_enqueue, args=(stream, messages), daemon=True).start()
    _report(state="watching")
    why = watch(messages, timeout_s)
    if why is not None:
        _report(state="acting", why=why)
        _report(state="acted", why=why, failed=switch_off(resource, library, off))
    del loaded  # until here


def _enqueue(stream: io.FileIO, messages: "queue.SimpleQueue[str]") -> None:
    for line in stream:
        messages.put(line.decode(errors="replace").strip())
    messages.put("the client is gone")


def watch(messages: "queue.SimpleQueue[str]", timeout_s: float) -> str | None:
    """Wait for a reason to act, and return it, or None after a goodbye.

    Whatever is neither a goodbye nor a heartbeat is a reason, also a line that a kill cut short.
    """
    while True:
        try:
            message = messages.get(timeout=timeout_s)
        except queue.Empty:
            try:
                message = messages.get(timeout=GRACE_S)
            except queue.Empty:
                return f"no heartbeat for {timeout_s:g} s"
        if message == GOODBYE:
            return None
        if message != BEAT:
            return message


def switch_off(resource: str, library: str, off: Sequence[str]) -> str:
    """Send the commands until the instrument confirms; after `INSIST_S` return why it does not."""
    until = time.monotonic() + INSIST_S
    pause, longest = PAUSE_S
    while True:
        try:
            with closing(open_wire(resource, library, TIMEOUT_S)) as wire:
                # A client killed amid an upload leaves the instrument waiting for the rest of the
                # block, and would take these commands for it.
                wire.clear()
                # Answered once the commands before it are carried out (IEEE 488.2, *OPC?).
                wire.write("*CLS", *off, "*OPC?")
                wire.read_line()
                wire.write(":SYST:ERR?")
                error = wire.read_line()
                if int(error.partition(",")[0]) != 0:
                    raise OSError(f"it refused {'; '.join(off)!r}: {error}")
                return ""
        except Exception as error:  # noqa: BLE001  # any error leaves an output on
            if time.monotonic() > until:
                return reason(error)
            time.sleep(pause)
            pause = min(2 * pause, longest)


def _report(**report: object) -> None:
    with suppress(OSError):  # the client may have ended
        os.write(1, f"{json.dumps(report)}\n".encode())


if __name__ == "__main__":
    main()
