"""What the networks learn: images, vowels and speech, divided before anything is tuned.

Some tasks come inside installed packages or are generated; the others are read from the folder that
the environment variable ``PNNLAB_DATA`` names. Nothing is ever downloaded.
"""

from pnnlab.tasks.formants import (
    bayes_accuracy,
    find_hillenbrand,
    find_wright_vowels,
    hillenbrand,
    vowels,
    wright_vowels,
)
from pnnlab.tasks.images import (
    augmented,
    digits,
    fashion_mnist,
    find_fashion_mnist,
    find_mnist,
    flipped,
    mnist,
    shrunk,
)
from pnnlab.tasks.speech import find_spoken_digits, spoken_digits, spoken_vowels
from pnnlab.tasks.task import Split, Task

__all__ = ["Split", "Task"]
__all__ += ["digits", "fashion_mnist", "find_fashion_mnist", "find_mnist", "mnist"]
__all__ += ["augmented", "flipped", "shrunk"]
__all__ += ["bayes_accuracy", "hillenbrand", "vowels", "wright_vowels"]
__all__ += ["find_hillenbrand", "find_wright_vowels"]
__all__ += ["find_spoken_digits", "spoken_digits", "spoken_vowels"]
