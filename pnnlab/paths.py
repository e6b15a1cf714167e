"""Paths as people write them."""

from pathlib import Path

from pnnlab.errors import PnnlabError


def user_path(path: str | Path) -> Path:
    """A path that a person gave; ``~`` and ``~name`` at its beginning are home folders.

    Raises
    ------
    PnnlabError
        There is no home folder of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PnnlabError(
            f"{path} begins with the home folder of somebody who is not known here; write the path "
            f"without ~, or ./{path} for a folder of that name."
        ) from error
