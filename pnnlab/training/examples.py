"""What examples must be, before anything is driven with them."""

import torch
from torch import Tensor, nn

from pnnlab.errors import PnnlabError, RangeError, ShapeError
from pnnlab.layers import undriven
from pnnlab.tasks.base import Split, check_classes, check_width
from pnnlab.training.evaluation import Examples


def checked(
    network: nn.Module, train: Examples, validation: Examples, batch_size: int
) -> tuple[Split, Split]:
    """Training and validation split, if ``network`` can be trained on them. Nothing is driven.

    Raises
    ------
    ShapeError
        A split is empty or not as `Split` says, or the network does not take its examples, or not
        in batches of this size.
    RangeError
        A label is beyond the network's outputs, or of a class that training never shows.
    """
    splits = Split(train.x, train.labels), Split(validation.x, validation.labels)
    if not all(len(split) for split in splits):
        raise ShapeError("training and validation both need at least one example.")
    first, second = splits
    check_width("validation", second, first.x.shape[1])
    classes = _classes(network, first.x[: min(batch_size, 2)])
    for name, split in zip(("training", "validation"), splits, strict=True):
        check_classes(name, split, classes)
    unseen = set(second.labels.tolist()) - set(first.labels.tolist())
    if unseen:
        raise RangeError(
            f"the validation split shows classes that the training split does not: "
            f"{sorted(unseen)}. Shuffle the examples before you divide them."
        )
    return splits


def _classes(network: nn.Module, x: Tensor) -> int:
    """How many classes ``network`` tells apart; its statistics and modes are left as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with undriven(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = network.train()(x)
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
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        raise ShapeError(
            f"the network gives {tuple(getattr(logits, 'shape', ()))} for {len(x)} examples; let "
            "it give logits, (batch, classes)."
        )
    return logits.shape[1]
