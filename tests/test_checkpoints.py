"""Checkpoints are whole or refused, and nothing in them is ever executed."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from runners import assert_equal, lasting, toy_training

from pnnlab.errors import RunError
from pnnlab.runs.run import (
    NEWEST,
    PREVIOUS,
    DamagedError,
    load_checkpoint,
    save_checkpoint,
)
from pnnlab.storage import Kind

IDENTITY = {"settings": {"epochs": 1}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, "a run", IDENTITY, toy_training().state())
    return tmp_path / NEWEST


def load(path: Path) -> dict[str, Any]:
    return load_checkpoint(path, "a run", IDENTITY)


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    training = toy_training(born=1)
    training.restore(load(saved))
    assert_equal(lasting(training), lasting(toy_training()))


def test_the_one_before_is_kept(saved: Path) -> None:
    first = saved.read_bytes()
    save_checkpoint(saved.parent, "a run", IDENTITY, toy_training(born=1).state())
    assert (saved.parent / PREVIOUS).read_bytes() == first
    assert saved.read_bytes() != first
    assert sorted(saved.parent.iterdir()) == [saved.parent / PREVIOUS, saved]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="there is no"):
        load(tmp_path / NEWEST)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.3, 0.9, -1])
def test_cut_short(saved: Path, kept: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(DamagedError, match=r"it is cut short|its checksum is wrong"):
        load(saved)


def test_noise(saved: Path) -> None:
    saved.write_bytes(torch.randint(256, (5000,), dtype=torch.uint8).numpy().tobytes())
    with pytest.raises(DamagedError, match="no checksum at its end"):
        load(saved)


def test_an_altered_byte_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    for place in range(7, len(whole), len(whole) // 200):
        altered = bytearray(whole)
        altered[place] ^= 0x10
        saved.write_bytes(altered)
        with pytest.raises(DamagedError):
            load(saved)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def bare_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [torch.save, bare_pickle])
def test_code_is_refused_unexecuted(tmp_path: Path, save: Any) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / NEWEST
    save({"format": 1, "training": Trap(marker)}, path)
    with pytest.raises(DamagedError, match="no checksum"):
        load(path)
    # Whoever wrote the pickle can compute its checksum, too.
    Kind(name="checkpoint", format=3, error=RunError, remedy="").write(path, path.read_bytes())
    with pytest.raises(DamagedError, match="holds no checkpoint that this version can read"):
        load(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker)))  # where it is let in, the trap does work
    assert marker.exists()


def test_tensors_of_someone_else(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / NEWEST)
    with pytest.raises(DamagedError, match="of a format before checkpoint 3"):
        load(tmp_path / NEWEST)


def test_another_run(saved: Path) -> None:
    with pytest.raises(RunError, match=r"another run \(settings epochs: 1 then, 2 now\)"):
        load_checkpoint(saved, "another", {"settings": {"epochs": 2}})
    with pytest.raises(RunError, match="of equal settings"):
        load_checkpoint(saved, "another", IDENTITY)


def test_another_format(saved: Path) -> None:
    Kind(name="checkpoint", format=99, error=RunError, remedy="").write(saved, b"of the future")
    with pytest.raises(RunError, match=r"format 99 .* the version that wrote it"):
        load(saved)
