"""Second-harmonic generation: the bench, its units, its twins, and the conformance suite."""

from conformance import SystemConformance

from pnnlab.systems.shg import SHG


class TestConformance(SystemConformance):
    def make_system(self):
        return SHG(3)


class TestConformanceWithoutNoise(SystemConformance):
    def make_system(self):
        return SHG(1, input_dim=12, output_dim=7, noise=False, drift=False)


class TestConformanceWithTheDataBetweenTheParameters(SystemConformance):
    def make_system(self):
        return SHG(2, input_dim=12, trained="amplitudes").reshaped(input_dim=25, output_dim=10)
