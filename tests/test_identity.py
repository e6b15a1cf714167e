"""What makes a training another one."""

import json
from dataclasses import replace
from typing import Any

import pytest
from runners import SETTINGS, toy_training

from pnnlab.gradients import ideal
from pnnlab.runs.run import differences, identity, summed_up


def test_identity_does_not_depend_on_weights() -> None:
    assert identity(toy_training(born=0)) == identity(toy_training(born=1))


def test_identity_is_what_json_keeps() -> None:
    described = identity(toy_training())
    assert json.loads(json.dumps(described)) == described
    assert described["systems"]["0"] == {
        "name": "toy",
        "input_dim": 6,
        "param_dim": 36,
        "output_dim": 6,
    }
    assert described["tensors"]["5.weight"] == "float32[3, 6]"
    assert described["modules"]["4"] == "BatchNorm1d"


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (
            {"settings": replace(SETTINGS, penalty=2.0, seed=3)},
            ["settings penalty: 1.0 then, 2.0 now", "settings seed: 0 then, 3 now"],
        ),
        (
            {"rule": ideal},
            ["rules 0: physics_aware then, ideal now", "rules 1: physics_aware then, ideal now"],
        ),
    ],
)
def test_differences_name_what_changed(changed: dict[str, Any], lines: list[str]) -> None:
    assert differences(identity(toy_training()), identity(toy_training(**changed))) == lines


def test_one_example_more_or_less_makes_another_identity() -> None:
    training = toy_training()
    before = identity(training)
    training.train.targets[3] = (training.train.targets[3] + 1) % 3
    (line,) = differences(before, identity(training))
    assert line.startswith("train digest: ")


def test_absence_is_a_difference() -> None:
    assert differences({"a": {"b": 1}}, {}) == ["a b: 1 then, absent now"]
    assert differences({}, {"a": 0}) == ["a: absent then, 0 now"]
    assert differences({"a": [1, 2]}, {"a": [1, 2]}) == []


def test_many_lines_are_summed_up() -> None:
    assert summed_up(["a", "b"]) == "a; b"
    assert summed_up(list("abcdef")) == "a; b; c; d; and 2 more"
