"""Pendula that controllers hold, moving side by side; the mouse pushes them."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
import traitlets
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from pnnlab.layers import on_device
from pnnlab.plain import whole
from pnnlab.plants import Pendulum
from pnnlab.training.closed_loop import roll_out
from pnnlab.training.evaluation import left_as_it_was
from pnnlab.views.parts import PageWidget, assets
from pnnlab.views.style import STYLE, Picture

PUSHED_AT = 50  # steps after the start
HARDEST = 8.0  # rad/s


@final
class PendulumView(PageWidget):
    """What each controller does with the same pendulum, from the same start, as one sees it.

    At the end of a cell it shows itself and plays in a loop. A drag across it, or the arrow keys,
    push the rods: all controllers then start anew, and half a second later get that push. What a
    rod does after the plant was stopped at a limit is drawn with the equations of its twin.

    Parameters
    ----------
    controllers : mapping of str to nn.Module
        By the names that are shown. Physical layers are driven as devices.
    seed : int
        Of the start.
    steps : int
        Length of what is played.
    """

    alt_text = "Pendula"
    _esm, _css = assets("pendulum")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    stopped = traitlets.List(traitlets.Int()).tag(sync=True)  # after so many steps; -1: never
    frames = traitlets.Bytes(b"").tag(sync=True)  # (names, steps + 1, 3): arm, rod, rad; V
    step_s = traitlets.Float().tag(sync=True)
    pushed_at = traitlets.Int(PUSHED_AT).tag(sync=True)
    push = traitlets.Float(0.0).tag(sync=True)  # rad/s

    def __init__(
        self,
        controllers: Mapping[str, nn.Module],
        plant: Pendulum,
        *,
        seed: int = 0,
        steps: int = 300,
    ) -> None:
        super().__init__()
        self._controllers, self._plant = dict(controllers), plant
        self._seed, self._steps = whole("seed", seed, 0), whole("steps", steps, PUSHED_AT + 1)
        self.names, self.step_s = list(self._controllers), plant.step_s
        self._play()
        self.observe(lambda _: self._play(), "push")

    @traitlets.validate("push")
    def _check_push(self, proposal: Any) -> float:
        """A page may send more, or no number: it pushes as hard as may be, or not at all."""
        return float(np.clip(np.nan_to_num(proposal["value"]), -HARDEST, HARDEST))

    def _play(self) -> None:
        rolled = [self._rolled(network) for network in self._controllers.values()]
        with self.hold_sync():
            self.stopped = [stopped for _, stopped in rolled]
            self.frames = np.stack([frames for frames, _ in rolled]).astype("<f4").tobytes()

    def _rolled(self, network: nn.Module) -> tuple[np.ndarray[Any, Any], int]:
        """Arm, rod and voltage (steps + 1, 3) of one controller, and when its plant was stopped."""

        def disturb(step: int) -> None:
            if step == PUSHED_AT:
                self._plant.push(torch.tensor([self.push], dtype=torch.float64))

        with left_as_it_was(network), on_device(network.eval()):
            found = roll_out(network, self._plant, [self._seed], self._steps, disturb=disturb)
        states, volts = found.states[:, 0].clone(), found.commands[:, 0]
        kept, off = int(found.inside[:, 0].sum()), torch.zeros(1, 1)
        for step in range(kept + 1, len(states)):  # the motor is off, and the rod falls
            states[step] = Pendulum.advance(states[step - 1, None], off, Pendulum.nominal)
        frames = torch.cat([states[:, :2], torch.cat([volts, volts[-1:]])], 1)
        return frames.numpy(), kept if kept < len(states) else -1

    def angles(self) -> np.ndarray[Any, Any]:
        """Arm and rod, rad, and voltage of all controllers, (names, steps + 1, 3)."""
        return np.frombuffer(self.frames, "<f4").reshape(len(self.names), -1, 3)

    def figure(self) -> Picture:
        """Rod, arm and voltage, each until its plant was stopped, as a still picture."""
        frames = self.angles()
        seconds = self.step_s * np.arange(frames.shape[1])
        with rc_context(dict(STYLE)):
            figure = Figure(figsize=(9.6, 2.8), layout="constrained")
            arm, rod, volts = figure.subplots(1, 3)
            for name, one, stopped in zip(self.names, frames, self.stopped, strict=True):
                kept = slice(stopped + 1 if stopped >= 0 else None)
                arm.plot(seconds[kept], one[kept, 0])
                rod.plot(seconds[kept], one[kept, 1], label=name)
                volts.plot(seconds[kept], one[kept, 2], lw=1)
            arm.set(title="Arm", xlabel="time (s)", ylabel="angle (rad)")
            rod.set(title="Rod", xlabel="time (s)", ylabel="from upright (rad)")
            rod.legend()
            volts.set(title="Motor", xlabel="time (s)", ylabel="voltage (V)")
        return Picture(figure)
