"""A journey in pictures and words: what each layer did, and what the network makes of it."""

from collections.abc import Callable
from html import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pnnlab.training import Journey, Stage
from pnnlab.views.inputs import Given, Input
from pnnlab.views.lineplot import Line, Panel, number
from pnnlab.views.style import PALETTE, STYLE, Picture
from pnnlab.views.words import percent

READ_OUT = "read-out y (full scale)"
FEW = 60  # points that are marked one by one
Name = Callable[[int], str]


def read_out_panel(stage: Stage) -> Panel:
    """What the device gave, and the twin beside it."""
    lines = [_line("device", stage.measured, "blue")]
    if stage.modelled is not None:
        lines.append(_line("twin", stage.modelled, "vermillion", dash=(6, 3)))
    gap = "" if stage.gap is None else f" · gap {number(100 * stage.gap)} %"
    return Panel(
        title=f"Layer {stage.name}{gap}",
        x_label=f"output{_of_shots(stage)}",
        y_label=READ_OUT,
        lines=lines,
    )


def drive_panel(stage: Stage) -> Panel:
    """What went into the device."""
    clamped = f" · {percent(stage.clamped)} clamped" if stage.clamped else ""
    return Panel(
        title=f"Layer {stage.name}{clamped}",
        x_label=f"input{_of_shots(stage)}",
        y_label="drive x (of its range)",
        lines=[_line("drive", stage.drive, "green")],
        y_range=(0.0, 1.02),
    )


def waiting_panel(number_of_layer: int) -> Panel:
    """A layer that nothing has gone through yet."""
    return Panel(
        title=f"Layer {number_of_layer}",
        x_label="output",
        y_label=READ_OUT,
        note="nothing sent yet",
    )


def verdict(went: Journey, given: Given, name: Name) -> str:
    """What the network says, in words."""
    sure = percent(float(went.probabilities[went.winner]))
    where = "The device reads" if went.stages else "The network reads"
    said = f"{where} {name(went.winner)}, {sure} sure"
    if given.label is not None:
        right = given.label == went.winner
        said += ", and is right" if right else f", but it is {name(given.label)}"
    if went.twin_probabilities is None:
        return f"{said}."
    best = int(went.twin_probabilities.argmax())
    alone = percent(float(went.twin_probabilities[best]))
    return f"{said}. Its twin alone would read {name(best)}, {alone} sure."


def verdict_html(went: Journey, given: Given, source: Input) -> str:
    """`verdict`, spoken by screen readers, with the winner large."""
    mark = "" if given.label is None else ("✓" if given.label == went.winner else "✗")
    return (
        f'<div role="status" class="pnn-verdict"><b aria-hidden="true">'
        f"{escape(source.short(went.winner))} {mark}</b>"
        f"<span>{escape(verdict(went, given, source.name))}</span></div>"
    )


def odds_html(went: Journey, name: Name) -> str:
    """Every class with its probability, a bar as long, and a tick where the twin sees it."""
    twin = went.twin_probabilities
    rows = []
    for label, chance in enumerate(went.probabilities.tolist()):
        tick = spoken = ""
        if twin is not None:
            tick = f'<u style="left:{100 * float(twin[label]):.1f}%"></u>'
            spoken = f'<small class="pnn-spoken">, twin {percent(float(twin[label]))}</small>'
        first = ' class="pnn-first"' if label == went.winner else ""
        rows.append(
            f"<li{first}><span>{escape(name(label))}</span>"
            f'<i><em style="width:{100 * chance:.1f}%"></em>{tick}</i>'
            f"<span>{percent(chance)}{spoken}</span></li>"
        )
    key = "" if twin is None else '<p aria-hidden="true"><i></i> device <u></u> twin alone</p>'
    return f'<ul class="pnn-odds" aria-label="Probability of each class">{"".join(rows)}</ul>{key}'


def travel_figure(source: Input, given: Given, went: Journey, passes: int) -> Picture:
    """The journey as a still picture: the example, the read-outs of the layers, the classes."""
    rows = 1 + (len(went.stages) + 1) // 2
    with rc_context(dict(STYLE)):
        figure = Figure(figsize=(9.6, 0.6 + 2.7 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False)
        source.draw(grid[0, 0], given)
        _odds(grid[0, 1], went, source.short)
        for place, axes in enumerate(grid[1:].flat):
            if place < len(went.stages):
                read_out_panel(went.stages[place]).draw(axes)
            else:
                axes.remove()
        spent = f"   ·   {passes} device passes" if went.stages else ""
        said = f"{verdict(went, given, source.name)}{spent}"
        figure.suptitle(said, fontsize=10, x=0.01, ha="left")
    return Picture(figure)


def _odds(axes: Axes, went: Journey, name: Name) -> None:
    labels = np.arange(len(went.probabilities))
    shown = axes.bar(labels, 100 * went.probabilities.numpy(), 0.6, color=PALETTE["blue"])
    shown[went.winner].set_edgecolor("black")
    shown[0].set_label("device" if went.stages else "network")
    if went.twin_probabilities is not None:
        twin = 100 * went.twin_probabilities.numpy()
        axes.plot(labels, twin, "_", ms=14, mew=2, color=PALETTE["vermillion"], label="twin alone")
    axes.set(title="Out: class probabilities", ylabel="probability (%)", ylim=(0, 105))
    axes.set_xticks(labels, [name(label) for label in labels.tolist()])
    axes.legend(fontsize="small")


def _line(label: str, values: Tensor, color: str, dash: tuple[int, ...] = ()) -> Line:
    y = values.detach().double().cpu().flatten().numpy()
    x = np.arange(len(y))
    return Line(label=label, x=x, y=y, color=color, dash=dash, markers=len(y) <= FEW)


def _of_shots(stage: Stage) -> str:
    return f", {len(stage.drive)} shots in a row" if len(stage.drive) > 1 else ""
