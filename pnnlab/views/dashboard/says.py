"""What a dashboard says of a session, in words and numbers."""

from html import escape

from pnnlab.background import Session
from pnnlab.errors import PnnlabError
from pnnlab.views.lineplot import number
from pnnlab.views.words import count, duration

TITLES = {
    "ready": "Ready",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}
REQUESTS = {"pause": "Pausing after this step", "stop": "Stopping after this step"}


def summary(session: Session) -> str:
    """A session in one line of text."""
    latest = session.latest
    if latest is None:
        return f"{TITLES[session.status]}, before the first step"
    parts = [f"{TITLES[session.status]} at step {count(latest.step)} of {count(latest.steps)}"]
    if evaluated := session.evaluations:
        last = evaluated[-1]
        where = "device" if latest.clamped else "validation"
        parts.append(f"{where} {session.labels.text(last.device_metric)}")
        if last.twin_metric is not None:
            parts.append(f"twin {session.labels.text(last.twin_metric)}")
    if latest.clamped:
        parts.append(f"{count(latest.device_passes)} device passes")
    return "   ·   ".join([*parts, duration(latest.seconds)])


def state_html(session: Session) -> str:
    """Status, what is asked and what became of the last checkpoint; spoken by screen readers."""
    asked = [text for request, text in REQUESTS.items() if request in session.asked]
    title = asked[-1] if asked else TITLES[session.status]
    tasks = session.tasks  # read once: the training goes on meanwhile
    doing = f"{tasks[0]} …" if tasks else session.notice
    return (
        f'<div role="status" class="pnn-state pnn-{session.status}"><i aria-hidden="true"></i>'
        f"<b>{title}</b><span>{escape(doing)}</span></div>"
    )


def error_html(session: Session) -> str:
    """What a failed session failed of and what to do; empty for any other."""
    if session.error is None:
        return ""
    step = session.latest.step if session.latest is not None else 0
    said = f"<b>{type(session.error).__name__}</b>: {escape(str(session.error))}"
    if not isinstance(session.error, PnnlabError):
        said += (
            f"\nThe network holds the weights of step {step}, the last that was whole. "
            "<code>await session.done()</code> shows where the error arose; mend it, then train "
            "on with a new session over the same training."
        )
    return f'<div role="alert" class="pnn-error">{said}</div>'


def tiles_html(session: Session) -> str:
    """The numbers of the moment, and how far the run is."""
    latest = session.latest
    if latest is None:
        return ""
    evaluated = session.evaluations
    last = evaluated[-1] if evaluated else latest
    name = session.labels.metric.capitalize()
    tiles = [("Step", f"{count(latest.step)} <small>of {count(latest.steps)}</small>")]
    if latest.clamped:
        tiles += [
            (f"{name} on device", session.labels.text(last.device_metric)),
            (f"{name} on twin", session.labels.text(last.twin_metric)),
            ("Device passes", count(latest.device_passes)),
        ]
    else:
        tiles += [(name, session.labels.text(last.device_metric))]
    tiles += [
        ("Steps per second", number(latest.steps_per_second)),
        ("Time left", duration(latest.seconds_left))
        if session.active
        else ("Training time", duration(latest.seconds)),
    ]
    items = "".join(f"<div><span>{name}</span>{value}</div>" for name, value in tiles)
    return (
        f'<div class="pnn-tiles">{items}</div><progress class="pnn-progress" '
        f'aria-label="Steps done" value="{latest.step}" max="{latest.steps}"></progress>'
    )
