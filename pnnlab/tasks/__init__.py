"""What the networks learn: images, vowels and speech, divided before anything is tuned.

Some tasks come inside installed packages or are generated; the others are read from the folder that
the environment variable ``PNNLAB_DATA`` names, where `DATA_FILES` are looked for. Nothing is ever
downloaded.
"""

from pnnlab.tasks.images import (
    FASHION_FILES,
    MNIST_FILES,
    augmented,
    digits,
    fashion_mnist,
    flipped,
    mnist,
    shrunk,
)
from pnnlab.tasks.speech import (
    HILLENBRAND_FILE,
    RECORDINGS,
    WRIGHT_FILE,
    bayes_accuracy,
    hillenbrand,
    spoken_digits,
    spoken_vowels,
    vowels,
    wright_vowels,
)
from pnnlab.tasks.task import Split, Task

DATA_FILES = (MNIST_FILES, FASHION_FILES, WRIGHT_FILE, HILLENBRAND_FILE, RECORDINGS)

__all__ = ["DATA_FILES", "Split", "Task"]
__all__ += ["digits", "fashion_mnist", "mnist"]
__all__ += ["augmented", "flipped", "shrunk"]
__all__ += ["bayes_accuracy", "hillenbrand", "vowels", "wright_vowels"]
__all__ += ["spoken_digits", "spoken_vowels"]
