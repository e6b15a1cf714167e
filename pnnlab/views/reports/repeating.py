"""Still pictures of how well a device repeats itself: at once, and over time."""

import math

import xarray as xr
from matplotlib.figure import Figure

from pnnlab.views.numbers import BAND, DEVIATION, READ_OUT, liveliest, noise_at_levels, some
from pnnlab.views.reports.drawing import SHOWN, band, panels, styled
from pnnlab.views.style import PALETTE


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
