"""A bench of sound among faults: no weight changes, and what the marks cost."""

import torch
from torch import nn

from pnnlab.gradients import physics_aware
from pnnlab.instruments.programme import SoundProgramme
from pnnlab.instruments.sound import SoundLimits, open_sound
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.systems import Room
from pnnlab.tasks import vowels
from pnnlab.training import FitSettings, Training
from pnnlab.twins import NeuralTwin, Temporal
from pnnlab.virtual_bench.sound import FAULTS, VirtualSoundCard

PROGRAMME = SoundProgramme(12, 2, 7)


def trained(faults: float) -> tuple[list[torch.Tensor], VirtualSoundCard, dict[str, int]]:
    """Weights of a training on a room without noise, the sound card, and shots taken again."""
    room = Room(0, input_dim=12, noise=False, drift=False)
    card = VirtualSoundCard(room.analog_ports(), SoundLimits())
    with open_sound(card, PROGRAMME) as bench:
        card.faults = faults
        twin = NeuralTwin(bench, Temporal(2, memory=16, tail=8))
        twin.fault = ""  # it need not be good here
        layer = PhysicalLayer(bench, twin, physics_aware, seed=0)
        network = nn.Sequential(layer, Rescale(7, gain=2.0, offset=0.0, elementwise=True))
        settings = FitSettings(epochs=70, batch_size=10, evaluations=1)
        for _ in Training(network, vowels(), settings).records():
            pass
        return [*network.parameters()], card, dict(bench.tally.retaken)


def test_a_thousand_faults_change_no_weight(benchmark):
    weights, whole, _ = trained(0.0)
    among, card, retaken = benchmark.pedantic(lambda: trained(0.6), rounds=1)
    assert not whole.injected
    assert set(card.injected) == set(FAULTS)
    assert card.injected.total() >= 1000
    assert all(torch.equal(one, other) for one, other in zip(weights, among, strict=True))
    benchmark.extra_info["faults"] = dict(card.injected)
    benchmark.extra_info["shots taken again"] = retaken
    benchmark.extra_info["sound beside that without faults"] = card.seconds / whole.seconds
