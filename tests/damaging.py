"""Files of each kind that pnnlab writes and reads, and what becomes of one with a flipped bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from runners import examples, toy_training
from torch import Tensor
from toy import Toy

from pnnlab import characterize, twins
from pnnlab.errors import PnnlabError, RunError
from pnnlab.instruments.recording import Recorder, Replay, recording_dataset
from pnnlab.results import Row, Summary
from pnnlab.runs import Run, list_runs, read_journal, read_run
from pnnlab.runs.journal import JOURNAL, reading
from pnnlab.runs.run import load_checkpoint, save_checkpoint
from pnnlab.twins.neural import Mlp, NeuralTwin


def twin(folder: Path) -> Path:
    return twins.save(NeuralTwin(Toy(), Mlp((8,))), folder / "twin.pt")


def look_at_twin(path: Path) -> object:
    found = twins.load(path)
    return found.signature, found.fault, comparable(found.state_dict())


def checkpoint(folder: Path) -> Path:
    save_checkpoint(folder, "a run", {"settings": 1}, toy_training().state())
    return folder / "checkpoint.pt"


def look_at_checkpoint(path: Path) -> object:
    return comparable(load_checkpoint(path, "a run", {"settings": 1}))


def dataset(folder: Path) -> Path:
    return characterize.save(characterize.collect(Toy(), 20, seed=0), folder / "data.nc")


def look_at_dataset(path: Path) -> object:
    return characterize.load(path).to_dict()


DRIVES = examples(40, 0).x, torch.full((36,), 0.5)


def recording(folder: Path) -> Path:
    with Recorder(Toy(), folder / "bench.sqlite", settings={"volt": 0.5}) as recorder:
        for _ in range(3):  # a noisy device: each answer is another one
            recorder(*DRIVES)
    return recorder.path


def look_at_recording(path: Path) -> object:
    replay = Replay(path)
    answers = [comparable(replay(*DRIVES)) for _ in range(4)]
    return replay.recorded, answers, recording_dataset(path).to_dict()


def journal(folder: Path) -> Path:
    run = Run.open(folder, toy_training(), description="two toys")
    for record in run.records():
        if record.step == 3:
            run.training.note("the twin was refitted")
    return folder / JOURNAL


def look_at_journal(path: Path) -> object:
    (info,) = list_runs(path.parent)
    if info.problem:
        raise RunError(info.problem)
    assert info == read_run(path.parent)
    with reading(path.parent) as (file, row):
        return info, read_journal(path.parent), row, file.sessions()


ROW = Row(system="s", task="digits", method="m", seed=0, split="test", n_test=10, accuracy=0.5)


def summary(folder: Path) -> Path:
    return Summary("00_tour", "smoke", {"rate": 0.1}, 1.0, (ROW,)).write(folder)


def comparable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return str(value.dtype), value.shape, value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: comparable(one) for key, one in value.items()}
    return [comparable(one) for one in value] if isinstance(value, list | tuple) else value


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "twin": (twin, look_at_twin),
    "checkpoint": (checkpoint, look_at_checkpoint),
    "dataset": (dataset, look_at_dataset),
    "recording": (recording, look_at_recording),
    "journal": (journal, look_at_journal),
    "summary": (summary, Summary.read),
}


class Made:
    """A file of a kind, and what was read from it."""

    def __init__(self, kind: str, folder: Path) -> None:
        make, self.look = KINDS[kind]
        self.path = make(folder)
        self.whole, self.expected = self.path.read_bytes(), repr(self.look(self.path))
        self.files = set(folder.iterdir())

    def flipped(self, place: int, bit: int) -> str:
        """Flip a bit and tell what becomes of it.

        ``refused`` by an error of pnnlab; ``equal`` to what was written, for nothing is kept in
        that bit; ``silent``: something else was read; or another exception.
        """
        content = bytearray(self.whole)
        content[place % len(content)] ^= 1 << bit
        self.path.write_bytes(content)
        try:
            return "equal" if repr(self.look(self.path)) == self.expected else "silent"
        except PnnlabError:
            return "refused"
        except Exception as error:  # noqa: BLE001 - it is counted
            return repr(error)
        finally:
            for left in set(self.path.parent.iterdir()) - self.files:
                left.unlink()
            self.path.write_bytes(self.whole)
