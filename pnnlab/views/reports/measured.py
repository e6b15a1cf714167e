"""Still pictures of what was measured of a device."""

import math
from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from pnnlab.views.numbers import BAND, DEVIATION, READ_OUT, liveliest, noise_at_levels, some, swept
from pnnlab.views.reports.drawing import band, panels, styled
from pnnlab.views.style import PALETTE

SHOWN = 4000  # points in a scatter plot; more of them show nothing more


@styled
def repeatability_figure(seen: xr.Dataset, shot: int = 0) -> Figure:
    """One shot with its noise band, and noise beside signal for every output."""
    figure, (left, right) = panels(2, width=9.6)
    band(left, seen.output, seen["mean"][shot], seen["deviation"][shot], "blue")
    left.set(title=f"Shot {shot}, repeated: ± {BAND:g} SD", xlabel="output", ylabel=READ_OUT)
    noise = (seen["deviation"] ** 2).mean("shot") ** 0.5
    right.semilogy(seen.output, seen["mean"].std("shot"), color=PALETTE["blue"], label="signal")
    right.semilogy(seen.output, noise, color=PALETTE["vermillion"], ls="--", label="noise")
    right.set(
        title=f"Signal to noise {float(seen.signal_to_noise):.3g}",
        xlabel="output",
        ylabel=DEVIATION,
    )
    right.legend()
    return figure


@styled
def noise_figure(seen: xr.Dataset) -> Figure:
    """The noise floor: how noisy each output is, and whether the noise grows with the read-out."""
    figure, (left, right) = panels(2, width=9.6)
    floor = float(seen["noise_floor"])
    deviation = seen["deviation"]
    low, high = deviation.quantile(0.1, "shot"), deviation.quantile(0.9, "shot")
    left.fill_between(
        seen.output, low, high, color=PALETTE["sky"], alpha=0.4, lw=0, label="8 of 10 shots"
    )
    rms = (deviation**2).mean("shot") ** 0.5
    left.plot(seen.output, rms, color=PALETTE["blue"], label="rms over shots")
    points = some(deviation.size, SHOWN)
    level, single = seen["mean"].values.ravel()[points], deviation.values.ravel()[points]
    (dots,) = right.plot(level, single, ".", color=PALETTE["sky"], markersize=2.5, alpha=0.6)
    dots.set(rasterized=True, label="one output of one shot")
    right.plot(*noise_at_levels(seen), "o-", color=PALETTE["blue"], label="rms at this level")
    for axes in (left, right):
        axes.axhline(floor, color=PALETTE["vermillion"], ls="--", label="noise floor")
        axes.set_ylim(0, None)
        axes.legend(fontsize="small")
    left.set(title=f"Noise floor {floor:.2g}", xlabel="output", ylabel=DEVIATION)
    right.set(title="Noise and signal", xlabel=READ_OUT)
    return figure


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
    figure.colorbar(image, ax=left, label="rms |dy/dx|")
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
        ylabel="rms |dy/dx|",
        xlim=(-0.5, min(4 * max(length, 2), seen.sizes["lag"]) + 0.5),
    )
    right.legend(fontsize="small")
    return figure


@styled
def drift_figure(seen: xr.Dataset, outputs: int = 4) -> Figure:
    """Change of the outputs that move the most, beside the noise of one read-out and of a point."""
    figure, (axes,) = panels(1, width=7.5)
    change = seen["mean"] - seen["mean"][0]
    for output in liveliest(change, "shots", outputs):
        axes.plot(seen.shots, change.sel(output=output), label=f"output {output}")
    noise = float(seen["noise"])
    error = noise * math.sqrt(2 / int(seen.attrs["every"]))
    axes.axhspan(-noise, noise, color=PALETTE["grey"], alpha=0.12, label="noise of one shot, ± SD")
    axes.axhspan(-error, error, color=PALETTE["grey"], alpha=0.35, label="of a point here, ± SD")
    axes.set(
        title=f"Drift {float(seen['drift']):.2g} rms beside noise {noise:.2g}",
        xlabel="shots taken",
        ylabel="change of y (fraction of full scale)",
    )
    axes.legend(fontsize="small", ncols=2)
    return figure
