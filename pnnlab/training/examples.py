"""What examples must be, before anything is driven with them."""

from typing import Protocol

import torch
from torch import Tensor, nn

from pnnlab.errors import PnnlabError, RangeError, ShapeError
from pnnlab.layers import undriven
from pnnlab.tasks.task import Split, check_targets, check_width
from pnnlab.training.evaluation import Examples


class Data(Protocol):
    """What to learn from, as `pnnlab.tasks.Task` holds it."""

    @property
    def train(self) -> Examples:
        """Examples that the weights are fitted to."""

    @property
    def validation(self) -> Examples:
        """Examples that the records are evaluated on; never those of the test."""


def checked(network: nn.Module, task: Data, batch_size: int) -> tuple[Split, Split]:
    """Training and validation split, if ``network`` can be trained on them. Nothing is driven.

    Raises
    ------
    ShapeError
        A split is empty or not as `Split` says, or the network does not take its examples, or not
        in batches of this size, or has not one output for each value of a regression.
    RangeError
        A class is beyond the network's outputs, or one that training never shows.
    """
    splits = tuple(Split(given.x, given.targets) for given in (task.train, task.validation))
    if not all(len(split) for split in splits):
        raise ShapeError("training and validation both need at least one example.")
    first, second = splits
    check_width("validation", second, first.x.shape[1])
    outputs = _outputs(network, first.x[: min(batch_size, 2)])
    for name, split in zip(("training", "validation"), splits, strict=True):
        check_targets(name, split, outputs)
    unseen = set()
    if not first.targets.is_floating_point():
        unseen = set(second.targets.tolist()) - set(first.targets.tolist())
    if unseen:
        raise RangeError(
            f"the validation split shows classes that the training split does not: "
            f"{sorted(unseen)}. Shuffle the examples before you divide them."
        )
    return first, second


def _outputs(network: nn.Module, x: Tensor) -> int:
    """How many outputs ``network`` has; its statistics and modes are left as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with undriven(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = network.train()(x)
    except PnnlabError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ShapeError(
            f"the network cannot be trained on examples of {x.shape[1]} features, {x.dtype}, "
            f"{len(x)} or more at a time: {error}"
            + (". Give a batch_size of 2 or more, and as many examples." if len(x) == 1 else "")
        ) from error
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        for module, mode in modes:
            module.training = mode
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        raise ShapeError(
            f"the network gives {tuple(getattr(outputs, 'shape', ()))} for {len(x)} examples; let "
            "it give one row of logits or values an example."
        )
    return outputs.shape[1]
