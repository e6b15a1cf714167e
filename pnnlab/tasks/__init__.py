"""What the networks learn: images and vowels, divided before anything is tuned.

Some tasks come inside installed packages or are generated; the others are read from the folder that
the environment variable ``PNNLAB_DATA`` names. Nothing is ever downloaded.
"""

from pnnlab.tasks.base import Split, Task
from pnnlab.tasks.images import (
    digits,
    fashion_mnist,
    find_fashion_mnist,
    find_mnist,
    mnist,
)
from pnnlab.tasks.transforms import augmented, flipped, shrunk

__all__ = [
    "Split",
    "Task",
    "augmented",
    "digits",
    "fashion_mnist",
    "find_fashion_mnist",
    "find_mnist",
    "flipped",
    "mnist",
    "shrunk",
]
