"""The process that a `Guard` starts: it listens, and switches outputs off when it must.

``python -m pnnlab.instruments.watchman`` reads from its standard input what to guard, one line of
JSON, and then one word a line: a beat, a goodbye, or a reason to act. The end of the input is such
a reason, and so is a silence. It writes to its standard output what it does, JSON line by line.
"""

import contextlib
import io
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pyvisa
from pyvisa.resources import MessageBasedResource

from pnnlab.instruments.guard import (
    BEAT,
    GOODBYE,
    INSIST_S,
    NOT_OFF,
    REFUSED,
    SWITCHED_OFF,
    GuardTarget,
)

GRACE_S = 0.2  # in which beats are read that came while this process itself was held up
TIMEOUT_MS = 1000
PAUSE_S = 0.1  # between two attempts

Words: TypeAlias = "queue.SimpleQueue[str]"
Managers: TypeAlias = Mapping[str, pyvisa.ResourceManager]


def main() -> int:
    """Watch over a client that speaks to standard input; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = io.FileIO(0, closefd=False)  # unbuffered: a thread that waits in it holds no lock
    try:
        asked = json.loads(stream.readline())
        targets = [
            GuardTarget(**{**target, "off": tuple(target["off"])}) for target in asked["targets"]
        ]
        # What can go wrong without the instruments must go wrong now, not when it burns.
        managers = {name: pyvisa.ResourceManager(name) for name in {t.library for t in targets}}
        _log(asked["log"], f"watching over {', '.join(target.resource for target in targets)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        _tell({"state": "refused", "why": _worded(error)})
        return REFUSED
    words: Words = queue.SimpleQueue()
    # Who shuts the computer down ends this process too: first things first.
    signal.signal(signal.SIGTERM, lambda *_: words.put("the guard was told to end"))
    threading.Thread(target=_hear, args=(stream, words), daemon=True).start()
    _tell({"state": "watching"})
    why = watch(words, asked["patience_s"])
    if why is None:
        return 0
    _tell({"state": "acting", "why": why})
    failed = switch_off(targets, managers)
    _tell({"state": "acted", "why": why, "failed": failed})
    with contextlib.suppress(OSError):
        outcome = [f"{name} {error}" for name, error in failed.items()] or ["all off"]
        _log(asked["log"], f"{why}: {'; '.join(outcome)}")
    return NOT_OFF if failed else SWITCHED_OFF


def _hear(stream: io.FileIO, words: Words) -> None:
    for line in stream:
        words.put(line.decode(errors="replace").strip())
    words.put("the client is gone")


def watch(words: Words, patience_s: float) -> str | None:
    """Wait for a reason to act, and return it, or None after a goodbye.

    All that is neither a goodbye nor a beat is a reason: a line cut short by a kill, too.
    """
    while True:
        try:
            word = words.get(timeout=patience_s)
        except queue.Empty:
            try:
                word = words.get(timeout=GRACE_S)
            except queue.Empty:
                return f"no heartbeat for {patience_s:g} s"
        if word == GOODBYE:
            return None
        if word != BEAT:
            return word


def switch_off(targets: Sequence[GuardTarget], managers: Managers) -> dict[str, str]:
    """Send every target its ``off`` commands, all at once and again until each has followed.

    Returns
    -------
    dict
        For each resource that has not followed within `INSIST_S`, what it did instead.
    """
    until = time.monotonic() + INSIST_S
    resistance = ["its VISA library hangs"] * len(targets)

    def insist(number: int, target: GuardTarget) -> None:
        while resistance[number]:
            try:
                _send_off(target, managers[target.library])
                resistance[number] = ""
            except Exception as error:  # noqa: BLE001  # whatever it was, an output is still on
                resistance[number] = _worded(error)
                if time.monotonic() > until:
                    return
                time.sleep(PAUSE_S)

    # An instrument that hangs must not hold up the others.
    threads = [
        threading.Thread(target=insist, args=numbered, daemon=True)
        for numbered in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until + 2 * TIMEOUT_MS / 1000 - time.monotonic(), 0))
    return {
        target.resource: error
        for target, error in zip(targets, tuple(resistance), strict=True)
        if error
    }


def _send_off(target: GuardTarget, manager: pyvisa.ResourceManager) -> None:
    with manager.open_resource(
        target.resource, open_timeout=TIMEOUT_MS, resource_pyclass=MessageBasedResource
    ) as resource:
        assert isinstance(resource, MessageBasedResource)
        resource.timeout = TIMEOUT_MS
        resource.write_termination = target.write_termination
        if target.resource.upper().endswith("::SOCKET"):
            resource.read_termination = "\n"
        else:
            # A client killed amid an upload leaves the instrument waiting for the rest of the
            # block, and would take these commands for it. A socket has a parser of its own.
            with contextlib.suppress(pyvisa.Error, OSError, NotImplementedError):
                resource.clear()
        for command in target.off:
            resource.write(command)
        # The answer tells that the commands before it have been carried out (IEEE 488.2, *OPC?).
        resource.query("*OPC?")


def _tell(report: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to tell
        os.write(1, f"{json.dumps(report)}\n".encode())


def _log(path: str | None, text: str) -> None:
    if path is not None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")


def _worded(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
