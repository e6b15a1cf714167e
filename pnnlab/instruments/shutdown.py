"""The shutdown process that a `Guard` starts: it switches outputs off if its client fails.

``python -m pnnlab.instruments.shutdown`` reads its targets from standard input, one line of JSON,
and then one message a line: a heartbeat, a goodbye, or a reason to act. The end of the input and a
missing heartbeat are reasons too. It writes its state to standard output, one line of JSON each.
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

GRACE_S = 0.2  # to read heartbeats that came while this process itself was held up
TIMEOUT_MS = 1000
PAUSE_S = 0.1  # between two attempts

Messages: TypeAlias = "queue.SimpleQueue[str]"
Managers: TypeAlias = Mapping[str, pyvisa.ResourceManager]


def main() -> int:
    """Watch the client at standard input; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = io.FileIO(0, closefd=False)  # unbuffered: a thread that waits in it holds no lock
    try:
        asked = json.loads(stream.readline())
        targets = [
            GuardTarget(**{**target, "off": tuple(target["off"])}) for target in asked["targets"]
        ]
        # A library that cannot be loaded must be reported now, not when outputs are to be off.
        managers = {name: pyvisa.ResourceManager(name) for name in {t.library for t in targets}}
        _log(asked["log"], f"watching {', '.join(target.resource for target in targets)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        _report({"state": "refused", "why": _reason(error)})
        return REFUSED
    messages: Messages = queue.SimpleQueue()
    # A computer that shuts down ends this process too: switch off before.
    signal.signal(signal.SIGTERM, lambda *_: messages.put("the guard was told to end"))
    threading.Thread(target=_listen, args=(stream, messages), daemon=True).start()
    _report({"state": "watching"})
    why = watch(messages, asked["patience_s"])
    if why is None:
        return 0
    _report({"state": "acting", "why": why})
    failed = switch_off(targets, managers)
    _report({"state": "acted", "why": why, "failed": failed})
    with contextlib.suppress(OSError):
        outcome = [f"{name} {error}" for name, error in failed.items()] or ["all off"]
        _log(asked["log"], f"{why}: {'; '.join(outcome)}")
    return NOT_OFF if failed else SWITCHED_OFF


def _listen(stream: io.FileIO, messages: Messages) -> None:
    for line in stream:
        messages.put(line.decode(errors="replace").strip())
    messages.put("the client is gone")


def watch(messages: Messages, patience_s: float) -> str | None:
    """Wait for a reason to act, and return it, or None after a goodbye.

    Whatever is neither a goodbye nor a heartbeat is a reason, also a line that a kill cut short.
    """
    while True:
        try:
            message = messages.get(timeout=patience_s)
        except queue.Empty:
            try:
                message = messages.get(timeout=GRACE_S)
            except queue.Empty:
                return f"no heartbeat for {patience_s:g} s"
        if message == GOODBYE:
            return None
        if message != BEAT:
            return message


def switch_off(targets: Sequence[GuardTarget], managers: Managers) -> dict[str, str]:
    """Send every target its ``off`` commands in parallel, repeated until each has confirmed.

    Returns
    -------
    dict
        Why, for each resource that has not confirmed within `INSIST_S`.
    """
    until = time.monotonic() + INSIST_S
    failures = ["its VISA library hangs"] * len(targets)

    def insist(number: int, target: GuardTarget) -> None:
        while failures[number]:
            try:
                _send_off(target, managers[target.library])
                failures[number] = ""
            except Exception as error:  # noqa: BLE001  # any error leaves an output on
                failures[number] = _reason(error)
                if time.monotonic() > until:
                    return
                time.sleep(PAUSE_S)

    # One thread each, so that an instrument that hangs does not delay the others.
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
        for target, error in zip(targets, tuple(failures), strict=True)
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
        # It is answered once the commands before it have been carried out (IEEE 488.2, *OPC?).
        resource.query("*OPC?")


def _report(report: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the client may have ended
        os.write(1, f"{json.dumps(report)}\n".encode())


def _log(path: str | None, text: str) -> None:
    if path is not None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
