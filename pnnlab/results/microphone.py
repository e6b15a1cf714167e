"""The smart microphone of notebook 10: its network, its twin, and digital networks beside it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.characterize import measured
from pnnlab.gradients import RULES, ideal
from pnnlab.layers import PhysicalLayer
from pnnlab.plain import seeded
from pnnlab.results.baselines import digital_baseline, linear_baseline, result_row
from pnnlab.results.rows import Row
from pnnlab.results.setups import Logits
from pnnlab.runs import train
from pnnlab.systems import Resonators
from pnnlab.systems.resonators import FULL_DRIVE, RATE_HZ
from pnnlab.tasks import Split, Task
from pnnlab.training import FitSettings, Training
from pnnlab.twins import PhysicsTwin, ResonatorEquations, fit_physics

AS_BUILT = "as built"  # untrained, with the same read-out
BURST, SHOTS = 1024, 160  # samples of a shot that a twin is fitted to, and shots
WINDOW, HOP, BINS = 256, 128, 129  # samples of a spectrum
BANDS, PARTS = 20, 8  # of the log-mel features: bands, and averages over time
STEEP = 1.5  # a tenth of what logits begin at, of a read-out's full scale


def microphone_twin(system: Resonators, x: Tensor, *, seed: int = 0) -> PhysicsTwin:
    """Fit the equations to bursts of the sounds ``x``, each with parameters of its own."""
    random = seeded(seed)
    rows = torch.randint(len(x), (SHOTS,), generator=random)
    shape: dict[str, Any] = {"hidden": system.hidden, "full_drive": system.full_drive}
    burst = Resonators(
        system.unit,
        input_dim=BURST,
        output_dim=system.output_dim,
        tolerance=system.tolerance,
        **shape,
    )
    theta = torch.rand(SHOTS, system.param_dim, generator=random)
    data = measured(burst, x[rows, BURST // 2 : BURST // 2 + BURST], theta)
    fit = fit_physics(PhysicsTwin(burst, ResonatorEquations(**shape)), data, shots=SHOTS)
    return fit.twin.reprogrammed(system)


def spectral(task: Task, bands: int, parts: int) -> Task:
    """The same task in log energies of mel bands, averaged over equal parts of the time."""
    known = _log_mel(task.train.x, bands, parts)
    low, high = known.amin(0), known.amax(0)
    splits: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        split = getattr(task, name)
        features = (_log_mel(split.x, bands, parts) - low) / (high - low)
        splits[name] = Split(features.clamp(0, 1), split.targets)
    return replace(task, **splits, feature_names=())


def _log_mel(x: Tensor, bands: int, parts: int) -> Tensor:
    frames = (x - 0.5).unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames).abs().square()
    # Triangles, equally wide in mel (O'Shaughnessy): 2595 log10(1 + f / 700).
    mel = 2595 * np.log10(1 + np.arange(BINS) * RATE_HZ / WINDOW / 700)
    place = torch.from_numpy(mel / mel[-1] * (bands + 1)).float()
    weights = (1 - (place[:, None] - torch.arange(1, bands + 1)).abs()).clamp(min=0)
    energies = functional.adaptive_avg_pool1d((power @ weights).mT, parts)
    return (energies + 1e-4).log().flatten(1)


def digital_networks(task: Task, parameters: int, epochs: int, seed: int = 0) -> dict[str, float]:
    """Test accuracies of digital networks on log energies of mel bands of the same sounds."""
    loop: dict[str, Any] = {"epochs": epochs, "seed": seed}
    return {
        "log-mel + linear": linear_baseline(spectral(task, BANDS, PARTS), **loop),
        "MLP, as many parameters": digital_baseline(spectral(task, 8, 2), parameters, **loop),
        "fixed filter bank + linear": linear_baseline(spectral(task, task.classes, 1), **loop),
    }


def microphone_rows(
    task: Task, settings: FitSettings, *, unit: int, twin: PhysicsTwin | None
) -> tuple[list[Row], Mapping[str, float], nn.Module]:
    """Train one unit by each method, beside digital networks: rows, theirs, the first network.

    Without a ``twin`` one is fitted first.
    """
    device = partial(Resonators, unit, output_dim=task.classes, seed=settings.seed)
    twin = twin or microphone_twin(device(), task.train.x, seed=settings.seed)
    beside = digital_networks(task, device().param_dim + 1, settings.epochs, settings.seed)
    found = [
        microphone_row(task, settings, device(), method, twin)
        for method in ("PAT", "noise-aware", "ideal", AS_BUILT)
    ]
    mlp, linear = beside["MLP, as many parameters"], beside["log-mel + linear"]
    rows = [replace(row, digital_baseline=mlp, linear_baseline=linear) for row, _ in found]
    return rows, beside, found[0][1]


def microphone_row(
    task: Task, settings: FitSettings, system: Resonators, method: str, twin: PhysicsTwin
) -> tuple[Row, nn.Module]:
    """Train one unit by one method: its row, named by how the unit is built, and the network."""
    rule = RULES.get(method, ideal)
    layer = PhysicalLayer(system, None if rule is ideal else twin, rule, seed=settings.seed)
    network: nn.Module = nn.Sequential(layer, Logits(STEEP))
    training = Training(network, task, settings)
    if method != AS_BUILT:
        training = train(network, task, settings, progress=False)
    built = "resonators"
    if system.hidden:
        built += f", {system.hidden} slow nodes"
    if system.full_drive != FULL_DRIVE:
        built += f", drive {system.full_drive:g}"
    known = None if rule is ideal else "physics twin"
    return result_row(training, task, system=built, method=method, twin=known), network
