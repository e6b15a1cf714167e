r"""A smart microphone: sound rings tuned resonators, and the loudest of a few nodes is the answer.

.. math::
   \dot a_k = (i \omega_k - \gamma_k)\, a_k + g_k u, \qquad r_k = \sqrt{|a_k|^2 + v^2} - v,

.. math::
   n_c = \sum_k C_{ck} r_k + b_c, \qquad
   q_c = \tfrac12 \left(n_c + \sqrt{n_c^2 + s^2}\right), \qquad E_c = \langle q_c^2 \rangle .

The wave u drives all resonators at once: the imaginary part of :math:`a_k / \omega_k` is the
displacement of :math:`\ddot z + 2 \gamma \dot z + (\omega^2 + \gamma^2) z = g u`. A detector with
a rounded knee v gives its envelope, averaged over 8 ms; conductances of either sign (of the two
ways round of a diode) add the envelopes at one node a class; a second rectifier, with a knee s,
follows. One energy a node is read, on a scale of 40 dB: the largest is the answer. There may be
slow nodes in between: what is behind their rectifiers is averaged by a resistor and a capacitor,
and conductances of their own add it at the nodes that are read. The level of the drive decides how
much of all this is nonlinear: a weak one stays below the knees.

What is trained is what such a machine has: the tuning of each resonator, within a quarter of an
octave either way as of a varactor, the conductances, and a bias of each node. Sound cannot be
multiplied sample by sample, so there is no other drive.

What is idealised: a detector follows the envelope, without ripple; conductances are ideal, and
load no resonator; nothing rings before a shot.

Source: resonators, detectors and weights on their envelopes are those of analog voice detectors,
such as K. M. H. Badami et al., IEEE J. Solid-State Circuits 51, 291 (2016); the constants are ours.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.compiling import compiled
from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import NO_POWER, Cost, Group
from pnnlab.plain import real, whole
from pnnlab.systems.units import Adjoint, Array, BuiltSystem, RandomStream, with_adjoint

RATE_HZ = 8000.0  # of the samples
RESONATORS = 24
LOWEST_HZ, HIGHEST_HZ = 200.0, 3000.0  # in equal steps of pitch
OCTAVES = 0.25  # by which a resonator is tuned, either way
QUALITY = 6.0
FULL_DRIVE = 16.0  # drive of a sample 1 above the middle of x
SLOW_S = 0.1  # time constant of a slow node, as long as a sound of speech
EMPHASIS_HZ = 700.0  # where the gain is one; it rises by 6 dB an octave as speech falls
KNEE, NODE_KNEE = 0.3, 0.4  # v and s
CONDUCTANCE, BIAS = 1.5, 0.75  # largest either way
FLOOR = 1e-4  # energy, of one, from which on the logarithm is one
FRAME = 64  # samples over which a detector averages

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Bank:
    """Resonators and detectors; all are 1 on paper but the knee."""

    tuning: Vector  # (24,), times the frequency
    gain: Vector  # (24,)
    loss: float | Vector = 1.0
    knee: float = KNEE
    conductance: float | Vector = 1.0  # or of each, in the order of theta
    crosstalk: float = 0.0  # part of both neighbours' envelopes that a detector adds


NOMINAL = Bank(np.ones(RESONATORS), np.ones(RESONATORS))


@dataclass(frozen=True)
class ResonatorImperfections:
    """What a built microphone adds to its equations; customary sizes, from no particular page."""

    conductance: float = 0.05  # of each, standard deviation; resistors of class J, IEC 60062
    knee: float = 0.1  # likewise, of the detectors of a unit: some 10 mV of a diode's 0.1 V
    crosstalk: float = 0.02  # of coils side by side
    noise: float = 0.003  # of full scale, rms, of each read-out: 0.1 dB


def fabricate(
    unit: int,
    tolerance: float,
    nodes: int,
    parts: ResonatorImperfections | None = None,
    *,
    hidden: int = 0,
) -> Bank:
    """Draw one built copy, whose number is the seed.

    Coils and capacitors lie anywhere in their tolerance band, with equal chance (IEC 60062: J is 5
    %); losses and gains have twice the band.
    """
    parts = parts or ResonatorImperfections()
    random = np.random.default_rng((unit, 11))
    coil, capacitor, loss, gain = 1 + tolerance * random.uniform(-1, 1, (4, RESONATORS))
    conductances = sum(count * sources for count, sources in stages(nodes, hidden))
    normal = random.standard_normal(1 + conductances)
    return Bank(
        1 / np.sqrt(coil * capacitor),
        2 * gain - 1,
        2 * loss - 1,
        KNEE * math.exp(parts.knee * normal[0]),
        1 + parts.conductance * normal[1:],
        parts.crosstalk,
    )


def frequencies() -> Vector:
    """Frequencies on paper of the resonators in the middle of their tuning, (24,), Hz."""
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, RESONATORS)


def stages(nodes: int, hidden: int) -> list[tuple[int, int]]:
    """How many nodes a stage has, and of how many each takes what it adds."""
    return [(hidden, RESONATORS), (nodes, hidden)] if hidden else [(nodes, RESONATORS)]


def param_dim(nodes: int, hidden: int = 0) -> int:
    """Length of theta: tunings, conductances node by node, biases."""
    return RESONATORS + sum(count * (sources + 1) for count, sources in stages(nodes, hidden))


def amplitudes_table(tuning: Tensor, bank: Bank) -> Tensor:
    """Pole and gain of a sample, (rows, 4, 24), of tunings (rows, 24); exact for a held drive."""
    paper = torch.as_tensor(2 * math.pi / RATE_HZ * frequencies()).to(tuning)
    emphasis = torch.as_tensor(frequencies() / EMPHASIS_HZ * bank.gain).to(tuning)
    omega = paper * torch.as_tensor(bank.tuning).to(tuning) * 2 ** (OCTAVES * (2 * tuning - 1))
    gamma = paper / (2 * QUALITY) * torch.as_tensor(bank.loss).to(tuning)
    rate = torch.complex(-gamma.expand_as(omega), omega)
    pole = rate.exp()
    gain = gamma * emphasis * (pole - 1) / rate
    return torch.stack([pole.real, pole.imag, gain.real, gain.imag], 1)


def envelopes(drive: Tensor, table: Tensor, knee: float = KNEE) -> Tensor:
    """Detected envelopes, (batch, frames, 24), of a drive (batch, samples); differentiable.

    The table is that of `amplitudes_table`, with one row or one a shot.
    """
    batch, samples = drive.shape
    joined = torch.cat([drive, table.flatten(1).expand(batch, -1)], 1)

    def solve(given: Array, keep: bool) -> tuple[Array, Adjoint]:
        wave = np.ascontiguousarray(given[:, :samples])
        poles = np.ascontiguousarray(given[:, samples:]).reshape(batch, 4, -1)
        resonators = poles.shape[2]
        level = np.empty((batch, samples // FRAME, resonators), given.dtype)
        shape = (batch, samples + 1) if keep else (1, 2)
        path = np.empty((*shape, 2, resonators), given.dtype)
        ring(wave, poles, knee, path, level)

        def adjoint(grad: Array, by: Array) -> None:
            by_drive, by_poles = np.empty_like(wave), np.empty_like(poles)
            ring_adjoint(wave, poles, knee, path, grad, by_drive, by_poles)
            by[:, :samples], by[:, samples:] = by_drive, by_poles.reshape(batch, -1)

        return level, adjoint

    return with_adjoint(joined, solve)


@compiled(fastmath={"contract", "reassoc"})
def ring(drive: Array, table: Array, knee: float, path: Array, level: Array) -> None:
    """Drive resonators, (batch, samples), from rest, and detect how strongly they ring.

    The ``table``, (batch, 4, resonators), holds pole and gain, real and imaginary parts: in a
    sample an amplitude becomes pole * amplitude + gain * drive. ``level``, (batch, samples //
    FRAME, resonators), takes means of ``sqrt(|amplitude|^2 + knee^2) - knee``, and ``path``,
    (batch, samples + 1, 2, resonators), the amplitudes; one of (1, 2, 2, resonators) is scratch.
    """
    batch, samples = drive.shape
    keep = len(path) == batch and path.shape[1] == samples + 1
    threshold = level.dtype.type(knee)
    share = level.dtype.type(1 / FRAME)
    level[:] = level.dtype.type(0)
    for b in range(batch):
        rows = path[b if keep else 0]
        rows[0] = level.dtype.type(0)
        poles = table[b]
        for n in range(samples):
            old = rows[n if keep else n % 2]
            new = rows[n + 1 if keep else (n + 1) % 2]
            force, mean = drive[b, n], level[b, n // FRAME]
            for k in range(table.shape[2]):
                real = poles[0, k] * old[0, k] - poles[1, k] * old[1, k] + poles[2, k] * force
                imag = poles[1, k] * old[0, k] + poles[0, k] * old[1, k] + poles[3, k] * force
                new[0, k] = real
                new[1, k] = imag
                size = math.sqrt(real * real + imag * imag + threshold * threshold)
                mean[k] += share * (size - threshold)


@compiled(fastmath={"contract", "reassoc"})
def ring_adjoint(
    drive: Array, table: Array, knee: float, path: Array, grad: Array, by_drive: Array, by: Array
) -> None:
    """Pull the gradient ``grad`` of the levels back to the drive and the table; see `ring`."""
    batch, samples = drive.shape
    kind = grad.dtype.type
    threshold = kind(knee)
    share = kind(1 / FRAME)
    lam = np.empty((2, table.shape[2]), grad.dtype)
    sums = np.empty(table.shape[1:], grad.dtype)
    for b in range(batch):
        poles = table[b]
        sums[:] = kind(0)
        lam[:] = kind(0)
        for n in range(samples - 1, -1, -1):
            old, new = path[b, n], path[b, n + 1]
            force, wanted = drive[b, n], grad[b, n // FRAME]
            total = kind(0)
            for k in range(table.shape[2]):
                size = math.sqrt(new[0, k] ** 2 + new[1, k] ** 2 + threshold * threshold)
                pull = share * wanted[k] / size
                real = lam[0, k] + pull * new[0, k]
                imag = lam[1, k] + pull * new[1, k]
                sums[0, k] += real * old[0, k] + imag * old[1, k]
                sums[1, k] += imag * old[0, k] - real * old[1, k]
                sums[2, k] += real * force
                sums[3, k] += imag * force
                total += poles[2, k] * real + poles[3, k] * imag
                lam[0, k] = poles[0, k] * real + poles[1, k] * imag
                lam[1, k] = poles[0, k] * imag - poles[1, k] * real
            by_drive[b, n] = total
        by[b] = sums


def node_waves(
    x: Tensor,
    theta: Tensor,
    bank: Bank,
    nodes: int,
    *,
    hidden: int = 0,
    full_drive: float = FULL_DRIVE,
) -> Tensor:
    """What arrives at the last nodes before their rectifiers, (batch, frames, nodes)."""
    rows = theta if theta.ndim == 2 else theta.unsqueeze(0)
    shapes = stages(nodes, hidden)
    ties, counts = [a * b for a, b in shapes], [a for a, _ in shapes]
    tuning, conductance, bias = rows.split([RESONATORS, sum(ties), sum(counts)], 1)
    wave = envelopes(full_drive * (x - 0.5), amplitudes_table(tuning, bank), bank.knee)
    if bank.crosstalk:
        both = torch.nn.functional.pad(wave, (1, 1))
        wave = wave + bank.crosstalk * (both[..., :-2] + both[..., 2:])
    weights = CONDUCTANCE * (2 * conductance - 1)
    weights = weights * torch.as_tensor(bank.conductance).to(weights)
    biases = BIAS * (2 * bias - 1)
    for stage, (tied, added) in enumerate(
        zip(weights.split(ties, 1), biases.split(counts, 1), strict=True)
    ):
        if stage:
            wave = slow(rectified(wave))
        # Not a product by @, whose rounding depends on whether gradients are wanted.
        wave = torch.einsum("btk,bck->btc", wave, tied.unflatten(1, shapes[stage]))
        wave = wave + added.unsqueeze(1)
    return wave


def rectified(wave: Tensor) -> Tensor:
    """Let through what is positive, with a rounded knee."""
    return 0.5 * (wave + (wave.square() + NODE_KNEE**2).sqrt())


def slow(wave: Tensor) -> Tensor:
    """Average (batch, frames, nodes) by a resistor and a capacitor; exact for held frames."""
    keep = math.exp(-FRAME / RATE_HZ / SLOW_S)
    frame = torch.arange(wave.shape[1], dtype=wave.dtype, device=wave.device)
    age = frame[:, None] - frame
    shares = torch.where(age < 0, 0.0, (1 - keep) * keep**age)
    return torch.einsum("ts,bsc->btc", shares, wave)


def respond(
    x: Tensor,
    theta: Tensor,
    bank: Bank,
    nodes: int,
    *,
    hidden: int = 0,
    full_drive: float = FULL_DRIVE,
) -> Tensor:
    """Energies of the nodes on a scale of 40 dB, (batch, nodes): 0 in silence, 1 at energy 1."""
    wave = node_waves(x, theta, bank, nodes, hidden=hidden, full_drive=full_drive)
    energy = rectified(wave).square().mean(1)
    return torch.log1p(energy / FLOOR) / math.log1p(1 / FLOOR)


@final
class Resonators(BuiltSystem):
    """The simulated smart microphone.

    Its input is a wave of samples at 8 kHz, 0.5 in silence.

    Parameters
    ----------
    input_dim : int
        Samples, a multiple of 64.
    output_dim : int
        Nodes that are read, one a class.
    hidden : int
        Slow nodes before them; 0 for none.
    full_drive : float
        Drive of a sample 1 above the middle of x, over that which rings a resonator to one.
    tolerance : float
        Of coils and capacitors, 0.05 for 5 %.
    unit, noise, imperfections, seed
        As of `pnnlab.systems.Circuit`.
    """

    _what, _tolerable = "a smart microphone", 0.2

    def __init__(
        self,
        unit: int = 0,
        *,
        input_dim: int = 4096,
        output_dim: int = 2,
        hidden: int = 0,
        full_drive: float = FULL_DRIVE,
        tolerance: float = 0.05,
        noise: bool = True,
        imperfections: ResonatorImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self._identify(unit, tolerance)
        if whole("input_dim", input_dim, 1) % FRAME:
            raise ShapeError(f"{input_dim} samples are no multiple of {FRAME}.")
        output_dim = whole("output_dim", output_dim, 1)
        self.hidden = whole("hidden", hidden, 0)
        self.full_drive = real("full_drive", full_drive)
        if self.full_drive <= 0:
            raise RangeError(f"full_drive is {full_drive}: give one above 0, such as {FULL_DRIVE}.")
        super().__init__(input_dim, param_dim(output_dim, hidden), output_dim)
        self._owner = {**self._owner, "nodes": output_dim, "hidden": hidden, "drive": full_drive}
        self._noise = RandomStream(self.unit, seed, 0, on=noise)
        self._imperfections = parts = imperfections or ResonatorImperfections()
        self._built = fabricate(self.unit, self.tolerance, output_dim, parts, hidden=hidden)

    def cost(self) -> Cost:
        return Cost(
            seconds_per_pass=self.input_dim / RATE_HZ,
            assumptions=f"A shot lasts as long as its sound. {NO_POWER}",
            source="the sound's own rate, 8 kHz",
        )

    def theta_groups(self) -> tuple[Group, ...]:
        groups, end = [Group("tunings", 0, RESONATORS)], RESONATORS
        shapes = stages(self.output_dim, self.hidden)
        for stage, (count, sources) in enumerate(shapes):
            kind = "slow node" if stage < len(shapes) - 1 else "node"
            for n in range(count):
                groups.append(Group(f"conductances, {kind} {n + 1}", end, end + sources))
                end += sources
        return *groups, Group("biases", end, self.param_dim)

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        noise = torch.from_numpy(self._noise.rows(len(x), self.output_dim, x.dtype))
        y = respond(
            x,
            theta,
            self._built,
            self.output_dim,
            hidden=self.hidden,
            full_drive=self.full_drive,
        )
        return y + self._imperfections.noise * noise
