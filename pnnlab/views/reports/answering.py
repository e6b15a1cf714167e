"""Still pictures of what a device answers, and how long it remembers."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from pnnlab.views.numbers import BAND, READ_OUT, SLOPE, liveliest, swept
from pnnlab.views.reports.drawing import band, panels, styled
from pnnlab.views.style import PALETTE


@styled
def response_figure(seen: xr.Dataset, outputs: Sequence[int] | None = None) -> Figure:
    """Each swept element's curves at a few outputs: by default the three that move the most."""
    figure, axes = panels(seen.sizes["element"], 3.0)
    for panel, element in zip(axes, seen.element.values, strict=True):
        curves = seen.sel(element=element)
        chosen = sorted(liveliest(curves["mean"], "value", 3)) if outputs is None else outputs
        for colour, output in zip(("blue", "vermillion", "green", "purple"), chosen, strict=False):
            one = curves.sel(output=output)
            band(panel, one.value, one["mean"], one["deviation"], colour, f"output {output}")
        panel.set(title=f"Sweep of {element}", xlabel=f"{element} (fraction of range)")
        panel.legend(fontsize="small")
    axes[0].set_ylabel(READ_OUT)
    figure.suptitle(f"Response around a working point, ± {BAND:g} SD", x=0.01, ha="left")
    return figure


@styled
def surface_figure(seen: xr.Dataset, element: str | None = None) -> Figure:
    """All outputs against one swept element, such as ``"x[3]"``: by default the first one."""
    name = swept(seen, element)
    mean = seen["mean"].sel(element=name)
    figure, (axes,) = panels(1, width=7.5)
    image = axes.pcolormesh(mean.output, mean.value, mean, rasterized=True)
    figure.colorbar(image, ax=axes, label=READ_OUT)
    axes.set(
        title=f"Response of all outputs to {name}",
        xlabel="output",
        ylabel=f"{name} (fraction of range)",
    )
    axes.grid(visible=False)
    return figure


@styled
def memory_figure(seen: xr.Dataset) -> Figure:
    """Which output feels which input element, and how the response fades with the lag."""
    figure, (left, right) = panels(2, width=9.6)
    image = left.imshow(seen["jacobian"], aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=left, label=SLOPE)
    left.set(title="Sensitivity", xlabel="output", ylabel="moved input element")
    left.set_yticks(range(seen.sizes["element"]), [str(e) for e in seen.element.values])
    left.grid(visible=False)
    response, length = seen["response"], int(seen["length"])
    heard = response.where(response > 0)
    right.semilogy(seen.lag, heard, "o-", markersize=3, color=PALETTE["blue"], label="response")
    if float(seen["certain"].max()) > 0:
        right.semilogy(seen.lag, seen["certain"], color=PALETTE["grey"], label="noise limit")
    level = float(seen.attrs["fraction"]) * float(response.max())
    right.axhline(level, color=PALETTE["vermillion"], ls=":", label=f"{seen.attrs['fraction']:.0%}")
    right.axvline(length, color=PALETTE["green"], ls="--", label=f"memory: {length}")
    right.set(
        title="Fading",
        xlabel="lag (input elements)",
        ylabel=SLOPE,
        xlim=(-0.5, min(4 * max(length, 2), seen.sizes["lag"]) + 0.5),
    )
    right.legend(fontsize="small")
    return figure
