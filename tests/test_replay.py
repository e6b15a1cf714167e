"""Recording a session with a system, and replaying it."""

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
import torch
from conformance import SystemConformance, exact
from torch import Tensor
from toy import Toy, ToyTwin

from pnnlab import characterize
from pnnlab.errors import DataError, DeviceError, InstrumentError, RangeError
from pnnlab.gradients import physics_aware
from pnnlab.instruments.recording import Recorder, Replay, recording_dataset
from pnnlab.layers import PhysicalLayer
from pnnlab.physical_system import PhysicalSystem


def drives(shots: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shots, 6, generator=generator, dtype=dtype)
    return x, torch.rand(shots, 36, generator=generator, dtype=dtype)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bench.sqlite"


# --- what holds of every system -------------------------------------------------------------------


class TestRecorder(SystemConformance):
    simulated = False  # it holds a file: it neither pickles nor begins twice

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path):
        self.folder, self.open = tmp_path, []
        yield
        for recorder in self.open:
            recorder.close()

    def make_system(self):
        self.open.append(Recorder(Toy(), self.folder / f"{len(self.open)}.sqlite"))
        return self.open[-1]


class TestReplay(SystemConformance):
    """Of a recording that holds what the suite asks for, each several times."""

    @pytest.fixture(autouse=True)
    def _recording(self, tmp_path):
        self.path = tmp_path / "suite.sqlite"
        x = exact((self.batch, 6), seed=1)
        theta = exact((36,), seed=2)
        other = theta.expand(self.batch, -1).clone()
        other[1] = 1 - other[1]
        with Recorder(Toy(), self.path) as recorder:
            for _ in range(3):
                for drive in (x, 1 - x, torch.zeros_like(x), torch.ones_like(x)):
                    recorder(drive, theta)
                for setting in (1 - theta, torch.zeros_like(theta), torch.ones_like(theta), other):
                    recorder(x, setting)

    def make_system(self):
        return Replay(self.path)


# --- recording ------------------------------------------------------------------------------------


def test_a_recorder_changes_nothing(path):
    system, (x, theta) = Toy(), drives(5)
    with Recorder(Toy(), path) as recorder:
        assert torch.equal(recorder(x, theta), system(x, theta))
        assert recorder.name == system.name == "toy"
        assert recorder.state() == system.state()
        saved = recorder.state()
        first = recorder(x, theta)
        recorder.restore(saved)
        assert torch.equal(recorder(x, theta), first)


def test_what_is_written_can_be_read_by_anyone(path):
    (x, theta), shared = drives(4), torch.full((36,), 0.5)
    settings = {"amplitude_v": 0.5, "channels": (1, 2)}
    with Recorder(Toy(), path, identity="Keysight,33511B,MY1,5.0", settings=settings) as recorder:
        y = recorder(x, theta)
        for _ in range(3):
            recorder(x, shared)
    with closing(sqlite3.connect(path)) as connection:
        text, provenance = connection.execute(
            "SELECT description, provenance FROM recording, session"
        ).fetchone()
        shots = connection.execute(
            "SELECT x, theta.value, y, time FROM shot JOIN theta ON theta.digest = shot.theta"
            " ORDER BY id"
        ).fetchall()
        (thetas,) = connection.execute("SELECT COUNT(*) FROM theta").fetchone()
    assert json.loads(text) == {
        "name": "toy",
        "input_dim": 6,
        "param_dim": 36,
        "output_dim": 6,
        "identity": "Keysight,33511B,MY1,5.0",
        "settings": {"amplitude_v": 0.5, "channels": [1, 2]},
    }
    assert {"pnnlab", "python", "torch", "numpy", "commit"} <= set(json.loads(provenance))
    assert len(shots) == 16
    for row, setting, answer, shot in zip(x, theta, y, shots[:4], strict=True):
        assert shot[:3] == tuple(tensor.numpy().tobytes() for tensor in (row, setting, answer))
    assert thetas == 4 + 1  # the shared one is there once, for twelve shots
    assert shots[0][3] <= shots[-1][3]


def test_closed_it_is_one_file(path):
    with Recorder(Toy(), path) as recorder:
        recorder(*drives(3))
    recorder.close()
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o444)
    assert len(recording_dataset(path)["shot"]) == 3
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_may_look_while_it_grows(path):
    x, theta = drives(6)
    with Recorder(Toy(), path) as recorder:
        y = recorder(x[:3], theta[:3])
        replay = Replay(path)
        assert torch.equal(replay(x[:3], theta[:3]), y)
        with pytest.raises(InstrumentError, match="3 of these 3 shots were never recorded"):
            replay(x[3:], theta[3:])
        y = recorder(x[3:], theta[3:])
        assert torch.equal(replay(x[3:], theta[3:]), y)


def test_it_may_go_on_in_another_thread(path):
    x, theta = drives(3)
    with Recorder(Toy(), path) as recorder:
        thread = threading.Thread(target=recorder, args=(x, theta))
        thread.start()
        thread.join()
    Replay(path)(x, theta)


def test_a_recording_is_gone_on_with_only_under_the_same_conditions(path):
    x, theta = drives(4)
    settings = {"amplitude_v": 0.5}
    with Recorder(Toy(seed=1), path, identity="A", settings=settings) as recorder:
        first = recorder(x, theta)
    with Recorder(Toy(seed=2), path, identity="A", settings=settings) as recorder:
        second = recorder(x, theta)
    replay = Replay(path)
    assert torch.equal(replay(x, theta), first)
    assert torch.equal(replay(x, theta), second)
    for system, identity, changed, word in (
        (Toy(7), "A", settings, "input_dim, param_dim"),
        (Toy(), "B", settings, "identity"),
        (Toy(), "A", {"amplitude_v": 0.6}, "settings"),
    ):
        with pytest.raises(DataError, match=f"another {word}; record to a new file"):
            Recorder(system, path, identity=identity, settings=changed)
    assert Replay(path).recorded["identity"] == "A"
    with pytest.raises(RangeError, match=r"Toy is not JSON serializable.*dataclasses\.asdict"):
        Recorder(Toy(), path, settings={"system": Toy()})


def test_other_files_are_left_alone(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run (id)")
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"noise" * 1000)
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    before = [file.read_bytes() for file in (path, noise)]
    for file, problem in ((path, "something else"), (noise, "not a database")):
        for use in (lambda file: Recorder(Toy(), file), Replay, recording_dataset):
            with pytest.raises(DataError, match=problem):
                use(file)
    assert [file.read_bytes() for file in (path, noise)] == before
    for use in (Replay, recording_dataset):
        with pytest.raises(DataError, match="is empty; record to it"):
            use(empty)
        with pytest.raises(DataError, match="there is no recording"):
            use(tmp_path / "nothing.sqlite")
    with pytest.raises(DataError, match="its folder is there"):
        Recorder(Toy(), tmp_path / "nowhere" / "bench.sqlite")


def test_a_recording_of_another_version_says_so(path):
    with Recorder(Toy(), path) as recorder:
        recorder(*drives(1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE recording SET format = 99")
    with pytest.raises(DataError, match=r"format 99 .* the version that wrote it"):
        Replay(path)


def test_a_shot_that_cannot_be_written_is_an_error(path):
    with Recorder(Toy(), path) as recorder:
        x, theta = drives(2)
        recorder(x, theta)
        # A disk that is full, as SQLite sees it: no page more than there are.
        recorder._file.execute("PRAGMA max_page_count = 1")
        with pytest.raises(DeviceError, match=r"is full.*the disk has space") as caught:
            recorder(*drives(500, seed=1))
        assert isinstance(caught.value.__cause__, DataError)
        recorder._file.execute("PRAGMA max_page_count = 1000000")
        recorder(x, theta)
    assert len(recording_dataset(path, repeats=2)["shot"]) == 2
    assert recording_dataset(path).attrs["device_passes"] == 4


CLIENT = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from toy import Toy
from pnnlab.instruments.recording import Recorder
recorder, generator = Recorder(Toy(noise=0), sys.argv[1]), torch.Generator().manual_seed(0)
theta, taken = torch.full((36,), 0.25), 0
while True:
    x = torch.rand(20, 6, generator=generator)
    recorder(x, theta)
    taken += len(x)
    print(taken, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_killed_process_loses_no_shot_that_it_had_taken(path):
    folder = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(path), folder], stdout=subprocess.PIPE, text=True
    ) as process:
        told = [process.stdout.readline() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    taken = int([line for line in told if line.endswith("\n")][-1])
    assert process.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-wal").exists()  # nobody has tidied up

    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.rand(20, 6, generator=generator) for _ in range(taken // 20)])
    theta = torch.full((36,), 0.25)
    expected = Toy(noise=0)
    y = torch.cat([expected(some, theta) for some in x.split(20)])
    assert torch.equal(Replay(path)(x, theta), y)
    assert recording_dataset(path).attrs["device_passes"] in (taken, taken + 20)
    with Recorder(Toy(noise=0), path) as recorder:
        recorder(*drives(1))
    assert list(path.parent.iterdir()) == [path]


# --- replaying ------------------------------------------------------------------------------------


def test_repeated_shots_come_in_the_order_of_their_recording(path):
    x, theta = drives(3)
    with Recorder(Toy(), path) as recorder:
        y = [recorder(x, theta) for _ in range(3)]
        more = recorder(x[:1], theta[:1])  # one of them once more
    replay = Replay(path)
    assert replay.name == "toy"
    for n in (0, 1, 2):
        assert torch.equal(replay(x, theta), y[n])
    again = replay(x, theta)
    assert torch.equal(again[1:], y[0][1:])
    assert torch.equal(again[:1], more)
    twice = Replay(path)(x[[1, 1]], theta[[1, 1]])  # twice within one batch
    assert torch.equal(twice, torch.stack([y[0][1], y[1][1]]))


def test_a_refused_batch_uses_nothing_up(path):
    x, theta = drives(2)
    with Recorder(Toy(), path) as recorder:
        y = [recorder(x, theta) for _ in range(2)]
    replay = Replay(path)
    before = replay.state()
    with pytest.raises(InstrumentError):
        replay(torch.cat([x, 1 - x]), torch.cat([theta, theta]))
    assert replay.state() == before
    assert replay.passes == 0
    assert torch.equal(replay(x, theta), y[0])


def test_a_shot_that_was_not_recorded_says_how_far_and_what_to_do(path):
    x, theta = drives(2500)  # more than are looked at together
    with Recorder(Toy(), path) as recorder:
        recorder(x, theta)
    moved = x[[2100, 7]].clone()
    moved[1, 2] += 0.06 if moved[1, 2] < 0.5 else -0.06
    with pytest.raises(
        InstrumentError,
        match=r"1 of these 2 shots .* row 1, is shot 8 of .*, 0\.0245 away in x and 0 in theta"
        r".*fit a twin to recording_dataset\('",
    ):
        Replay(path)(moved, theta[[2100, 7]])
    other = theta[2100] + torch.where(theta[2100] < 0.5, 0.01, -0.01)
    with pytest.raises(InstrumentError, match=r"shot 2101 of .*, 0 away in x and 0\.01 in theta"):
        Replay(path)(x[2100:2101], other)


def test_shots_are_known_by_their_numbers_and_not_by_their_data_type(path):
    x, theta = drives(3, dtype=torch.float64)
    with Recorder(Toy(), path) as recorder:
        exact = recorder(x, theta)
        single = recorder(x.float(), theta.float())
        zero = recorder(torch.zeros(1, 6), torch.zeros(36))
    replay = Replay(path)
    assert torch.equal(replay(x, theta), exact)
    assert replay(x, theta).dtype == torch.float64
    assert torch.equal(replay(x.float(), theta.float()), single)
    assert torch.equal(replay(x.float().double(), theta.float().double()), single.double())
    assert torch.equal(replay(-torch.zeros(1, 6), -torch.zeros(36)), zero)
    assert replay(x[:0], theta[0]).shape == (0, 6)


def test_a_system_without_parameters(path):
    class Twice(PhysicalSystem):
        def _measure(self, x, theta):
            return 2 * x

    for theta in (torch.empty(0), torch.empty(3, 0)):
        with Recorder(Twice(2, 0, 2), path) as recorder:
            x = torch.rand(3, 2)
            recorder(x, theta)
        assert torch.equal(Replay(path)(x, theta), 2 * x)
    with pytest.raises(InstrumentError, match="0 in theta"):
        Replay(path)(torch.rand(3, 2), torch.empty(0))
    assert recording_dataset(path)["theta"].shape == (0,)


def test_a_replay_pickles_and_resumes(path):
    x, theta = drives(3)
    with Recorder(Toy(), path) as recorder:
        y = [recorder(x, theta) for _ in range(3)]
    replay = Replay(path)
    replay(x, theta)
    saved = json.loads(json.dumps(replay.state()))
    copy = pickle.loads(pickle.dumps(replay))
    later = Replay(path)
    later.restore(saved)
    assert torch.equal(copy(x, theta), y[1])
    assert torch.equal(later(x, theta), y[1])
    with pytest.raises(RangeError, match="written with another system"):
        later.restore(Toy().state())


def test_a_recorded_training_step_is_replayed(path):
    """The workshop's case: the same seeds ask the same shots."""

    def losses(system):
        layer = PhysicalLayer(system, ToyTwin(), physics_aware, seed=3)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(5):
            loss = (layer(drives(8)[0]) - 0.5).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()

    with Recorder(Toy(), path) as recorder:
        measured = list(losses(recorder))
    assert len(set(measured)) == 5
    assert list(losses(Replay(path))) == measured


# --- as a data set --------------------------------------------------------------------------------


def test_a_recorded_collection_is_the_data_set_that_was_collected(path, tmp_path):
    with Recorder(Toy(), path, identity="the toy") as recorder:
        collected = characterize.collect(recorder, 20, seed=0, repeats=3)
    dataset = recording_dataset(path)
    for name in ("x", "theta", "y", "split", "shot"):
        assert dataset[name].identical(collected[name]), name
    shared = ("system", "input_dim", "param_dim", "output_dim", "device_passes", "repeats")
    assert {key: dataset.attrs[key] for key in shared} == {
        key: collected.attrs[key] for key in shared
    }
    assert dataset.attrs["left_out"] == 0
    assert len(characterize.shots(dataset, "train")) == 16
    again = characterize.load(characterize.save(dataset, tmp_path / "shots.nc"))
    assert again.identical(dataset)


def test_shots_recorded_more_often_give_what_all_have(path):
    x, theta = drives(4)[0], torch.full((36,), 0.5)
    with Recorder(Toy(), path) as recorder:
        first = recorder(x, theta)
        second = recorder(x[1:3], theta)
        recorder(x[1:3], theta)
    once = recording_dataset(path)
    assert torch.equal(torch.from_numpy(once["y"].values), first[None])
    assert once["theta"].dims == ("parameter",)
    assert once.attrs["left_out"] == 4
    twice = recording_dataset(path, repeats=2)
    assert torch.equal(torch.from_numpy(twice["y"].values), torch.stack([first[1:3], second]))
    assert torch.equal(torch.from_numpy(twice["x"].values), x[1:3])
    assert twice.attrs["left_out"] == 4
    for repeats in (0, -1, 4):
        with pytest.raises(DataError, match="at most 3 times"):
            recording_dataset(path, repeats=repeats)


def test_an_empty_recording_says_so(path):
    Recorder(Toy(), path).close()
    with pytest.raises(DataError, match="holds no shots yet"):
        Replay(path)
    with pytest.raises(DataError, match="at most 0 times"):
        recording_dataset(path)


def test_memory_stays_bounded_while_recording(path):
    x, theta = drives(200)
    with Recorder(Toy(), path) as recorder:
        recorder(x, theta)
        tracemalloc.start()
        for _ in range(20):
            recorder(x, theta)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    written = 20 * 200 * (6 + 6) * 4
    assert path.stat().st_size > written
    assert grown < written / 4
