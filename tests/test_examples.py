"""Examples that no network could learn from are refused before any device is driven."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from toy import Toy, ToyTwin

from pnnlab.errors import DataError, PnnlabError, RangeError, ShapeError
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.tasks import Split, Task
from pnnlab.training import FitSettings, Training, accuracy, evaluate

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 3
GOOD = Split(X, LABELS)
WITH_NAN = torch.where(torch.arange(6) == 2, torch.nan, X)


def data(train: Any, validation: Any) -> Any:
    return SimpleNamespace(train=train, validation=validation)


@pytest.mark.parametrize(
    ("x", "labels", "error", "message"),
    [
        (X, LABELS.float(), ShapeError, r"float32.*labels\.long\(\)"),
        (X, LABELS + 0j, ShapeError, "complex64"),
        (X, nn.functional.one_hot(LABELS), ShapeError, r"\(40, 3\) .*argmax\(1\)"),
        (X, nn.functional.one_hot(LABELS).float(), ShapeError, r"one-hot rows.*argmax\(1\)"),
        (X, torch.full((40, 2), torch.nan), RangeError, "NaN or infinity"),
        (X, torch.rand(30, 2), ShapeError, r"\(30, 2\) for 40 examples"),
        (X, LABELS[:, None], ShapeError, "one class number each"),
        (X, LABELS[:30], ShapeError, r"\(30,\) for 40 examples"),
        (X, LABELS - 1, RangeError, "begin at -1; number the classes from 0"),
        (X, LABELS.numpy(), ShapeError, r"ndarray.*torch\.as_tensor"),
        (X, LABELS.tolist(), ShapeError, r"list.*torch\.as_tensor"),
        (X * 255, LABELS, RangeError, r"outside \[0, 1\].*Scale it first"),
        (X - 0.5, LABELS, RangeError, r"outside \[0, 1\]"),
        (WITH_NAN, LABELS, RangeError, "40 NaN"),
        (X / 0, LABELS, RangeError, r"outside \[0, 1\]"),
        ((255 * X).byte(), LABELS, ShapeError, "uint8.*255"),
        (X.numpy(), LABELS, ShapeError, r"ndarray.*torch\.tensor"),
        (X.view(40, 2, 3), LABELS, ShapeError, r"\(40, 2, 3\).*flatten\(1\)"),
        (X[:, 0], LABELS, ShapeError, "a row of features"),
    ],
)
def test_what_is_no_split_is_refused(
    x: Any, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Split(x, labels)
    device, given = Toy(), SimpleNamespace(x=x, targets=labels)
    with pytest.raises(error, match=message):
        Training(network_of(device), data(given, GOOD))
    with pytest.raises(error, match=message):
        Training(network_of(device), data(GOOD, given))
    with pytest.raises(error, match=message):
        evaluate(network_of(device), given)
    assert device.passes == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_whole_numbers_of_any_type_are_labels(dtype: torch.dtype) -> None:
    labels = (LABELS % 2).to(dtype)
    assert torch.equal(Split(X, labels).targets, LABELS % 2)
    task = data(SimpleNamespace(x=X, targets=labels), GOOD.first(2))
    training = Training(network_of(Toy()), task, FitSettings(epochs=1))
    assert [record.step for record in training.records()] == [1]


def task(**changes: Any) -> Task:
    parts: dict[str, Any] = {
        "name": "made up",
        "train": GOOD,
        "validation": GOOD,
        "test": GOOD,
        "classes": 3,
        "side": None,
        "source": "",
        "class_names": ("a", "b", "c"),
    }
    return Task(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train": Split(X, LABELS + 1)}, RangeError, "train split go from 1 to 3.*labels - 1"),
        ({"validation": Split(X, 2 * LABELS)}, RangeError, "validation split go from 0 to 4"),
        ({"test": Split(X, LABELS + 1)}, RangeError, "test split go from 1 to 3.*labels - 1"),
        ({"classes": 2, "class_names": ()}, RangeError, "2 classes are numbered from 0 to 1"),
        ({"test": Split(X[:, :5], LABELS)}, ShapeError, "test split have 5 features"),
        ({"class_names": ("a", "b")}, ShapeError, "2 class_names for 3"),
        ({"feature_names": ("a", "b")}, ShapeError, "2 feature_names for 6"),
    ],
)
def test_what_is_no_task_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        task(**changes)


def network_of(device: Toy, classes: int = 3) -> nn.Sequential:
    layer = PhysicalLayer(device, ToyTwin(), physics_aware)
    return nn.Sequential(layer, Rescale(6), nn.Dropout(0.5), nn.Linear(6, classes))


@pytest.mark.parametrize(
    ("train", "validation", "batch_size", "message"),
    [
        (Split(X, LABELS + 1), GOOD, 8, "training split go from 1 to 3.*labels - 1"),
        (GOOD, Split(X, LABELS + 1), 8, "validation split go from 1 to 3.*labels - 1"),
        (GOOD, Split(X, 9 * LABELS), 8, "3 classes are numbered from 0 to 2: number them so"),
        (GOOD, GOOD, 1, "batch_size of 2 or more"),
        (GOOD.first(1), GOOD.first(1), 64, "batch_size of 2 or more, and as many examples"),
        (Split(X, LABELS % 2), GOOD, 8, r"training split does not: \[2\].*Shuffle"),
        (Split(X[:, :5], LABELS), Split(X[:, :5], LABELS), 8, "toy takes"),
        (GOOD, Split(X[:, :5], LABELS), 8, "validation split have 5 features"),
        (Split(X.double(), LABELS), Split(X.double(), LABELS), 8, "float64"),
        (GOOD.first(0), GOOD, 8, "at least one example"),
    ],
)
def test_a_training_that_cannot_go_well_is_refused_before_the_device_is_driven(
    train: Split, validation: Split, batch_size: int, message: str
) -> None:
    device = Toy()
    with pytest.raises(PnnlabError, match=message):
        Training(network_of(device), data(train, validation), FitSettings(batch_size=batch_size))
    assert device.passes == 0


@pytest.mark.parametrize("last", [nn.Flatten(0), nn.Unflatten(1, (3, 1)), nn.LSTM(3, 3)])
def test_a_network_that_gives_no_logits_is_refused(last: nn.Module) -> None:
    device = Toy()
    with pytest.raises(ShapeError, match=r"let it give a row of logits or values"):
        Training(network_of(device).append(last), data(GOOD, GOOD))
    assert device.passes == 0


def test_a_batch_of_one_is_fine_where_nothing_standardises_by_batches() -> None:
    network = nn.Sequential(PhysicalLayer(Toy(), ToyTwin(), physics_aware), nn.Linear(6, 3))
    settings = FitSettings(epochs=1, batch_size=1)
    training = Training(network, data(GOOD.first(5), GOOD.first(3)), settings)
    assert [record.step for record in training.records()] == [1, 2, 3, 4, 5]


def test_looking_changes_nothing() -> None:
    device = Toy()
    network = network_of(device).append(nn.BatchNorm1d(3).eval())

    def seen() -> list[Tensor]:
        return [torch.get_rng_state(), *(value.clone() for value in network.state_dict().values())]

    before, modes = seen(), [module.training for module in network.modules()]
    Training(network, data(GOOD, GOOD))
    assert all(map(torch.equal, before, seen()))
    assert modes == [module.training for module in network.modules()]
    assert not network[0].stand_in  # type: ignore[union-attr]
    assert device.passes == 0


def test_an_accuracy_of_labels_beyond_the_network_is_refused_in_words() -> None:
    with pytest.raises(RangeError, match=r"go from 1 to 3.*labels - 1"):
        accuracy(nn.Linear(6, 3), Split(X, LABELS + 1))


def test_a_regression_needs_an_output_for_each_value() -> None:
    values = Split(X, torch.rand(40, 2))
    device = Toy()
    with pytest.raises(ShapeError, match="have 2 values and there are 3 outputs"):
        Training(network_of(device), data(values, values))
    assert device.passes == 0
    Training(network_of(device, 2), data(values, values))


@pytest.mark.parametrize("kind", ["arrays", "lists", "dataset"])
def test_a_task_is_made_of_ones_own_examples_in_one_call(kind: str) -> None:
    x = np.random.default_rng(0).random((50, 2, 3))
    labels = np.arange(50) % 4
    if kind == "dataset":
        made = Task.from_dataset(TensorDataset(torch.tensor(x).float(), torch.tensor(labels)))
    elif kind == "lists":
        made = Task.from_arrays(x.tolist(), labels.tolist())
    else:
        made = Task.from_arrays(x, labels)
    assert [len(split) for split in (made.train, made.validation, made.test)] == [35, 5, 10]
    assert made.classes == 4
    assert made.train.x.dtype == torch.float32
    known = {
        tuple(row): label for row, label in zip(x.reshape(50, 6).astype("f4"), labels, strict=True)
    }
    for split in (made.train, made.validation, made.test):
        for row, label in zip(split.x.numpy(), split.targets.tolist(), strict=True):
            assert known.pop(tuple(row)) == label
    assert not known
    again = Task.from_arrays(x, labels, seed=1)
    assert not torch.equal(again.train.x, made.train.x)


def test_a_task_of_values_is_a_regression_and_empty_splits_are_refused() -> None:
    made = Task.from_arrays(X, torch.rand(40, 2))
    assert (made.classes, made.chance) == (2, 0.0)
    with pytest.raises(RangeError, match="split empty"):
        Task.from_arrays(X, LABELS, validation=0.0)
    with pytest.raises(RangeError, match="labels begin at -1"):
        Task.from_arrays(X, LABELS - 1)


def test_one_row_and_masked_readings_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"shape \(40,\).*x\[:, None\]"):
        Task.from_arrays(X[:, 0], LABELS)
    masked = np.ma.masked_less(X.numpy(), 0.01)
    with pytest.raises(DataError, match="masked; leave out"):
        Task.from_arrays(masked, LABELS)
    assert Task.from_arrays(np.ma.masked_less(X.numpy(), -1), LABELS).classes == 3  # none masked
