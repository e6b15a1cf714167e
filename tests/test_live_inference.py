"""Live inference without a browser: what is given goes through the devices, and is shown."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hands import click, message
from records import Scripted, record, wait_until
from test_sketchpad import stroke
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.background import Session
from pnnlab.demos.inference import LiveInference
from pnnlab.demos.inputs import Drawing, ImageInput, Input, VowelInput
from pnnlab.errors import DataError
from pnnlab.gradients import ideal, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, Shots, calibrate, deep_pnn, physical_layers
from pnnlab.physical_system import PhysicalSystem
from pnnlab.tasks import digits, vowels
from pnnlab.tasks.speech import formant_hz
from pnnlab.views.style import Picture

DIGITS, VOWELS = digits(), vowels()
SEVEN = [[200, 200, 700, 200], [700, 200, 450, 800]]


def network(*widths: int) -> nn.Sequential:
    """Toys in a row, calibrated on what they will be given."""
    systems = [Toy(a, b, noise=0.0, drift=0.0) for a, b in pairwise(widths)]
    twins = [ToyTwin(a, b) for a, b in pairwise(widths)]
    made = deep_pnn(systems, twins, physics_aware)
    calibrate(made, (DIGITS if widths[0] == 64 else VOWELS).train.x[:100])
    return made


@pytest.fixture
def live():
    view = LiveInference(network(64, 16, 10), DIGITS)
    yield view
    view.close()


def test_nothing_is_driven_before_something_is_asked_for(live):
    assert live.inference is None
    assert [layer.system.passes for layer in physical_layers(live.network)] == [100, 100]
    assert "Nothing sent yet" in live._verdict.value
    assert "0 device passes" in live._cost.value
    assert [panel["note"] for panel in live.plots.panels] == ["nothing sent yet"] * 2
    assert live.again.disabled
    with pytest.raises(DataError, match=r"choose\(0\) sends"):
        live.figure()


def test_a_drawing_travels_through_the_devices(live):
    stroke(live.source.pad, SEVEN)
    wait_until(lambda: live.passes == 2)
    wait_until(lambda: not live.requests.busy)
    expected = live.source.drawing.features(live.source.pad.lines)
    torch.testing.assert_close(live.inference.x, expected)
    titles = [panel["title"] for panel in live.plots.panels]
    assert [title.split(" · gap")[0] for title in titles] == ["Layer 1 · toy", "Layer 2 · toy"]
    lines = live.plots.panels[0]["lines"]
    assert [(line["label"], line["n"], bool(line["dash"])) for line in lines] == [
        ("device", 16, False),
        ("twin", 16, True),
    ]
    values = np.frombuffer(live.plots.points, "<f4")[:64].reshape(4, 16)
    np.testing.assert_allclose(values[1], live.inference.responses[0].measured[0], rtol=1e-6)
    np.testing.assert_allclose(values[3], live.inference.responses[0].modelled[0], rtol=1e-6)
    assert "your drawing: 8 × 8 pixels" in live.source._pixels.value
    winner = live.inference.predicted
    said = live._verdict.value
    assert f"The device reads {winner}, " in said
    assert "Its twin alone would read" in said
    assert "right" not in said, "nobody knows what was meant"
    assert "2 device passes for this one, 2 so far" in live._cost.value
    click(live.again)
    wait_until(lambda: "2 device passes for this one, 4 so far" in live._cost.value)


def test_a_wiped_pad_sends_nothing(live):
    stroke(live.source.pad, SEVEN)
    wait_until(lambda: live.passes == 2)
    stroke(live.source.pad, [])
    wait_until(lambda: not live.requests.busy)
    assert live.passes == 2


def test_a_test_image_is_chosen_and_judged(live):
    choice = live.source.choice
    assert len(choice.items) == 10
    assert [item["name"].split(",")[0] for item in choice.items] == list("0123456789")
    message(choice, {"chosen": 3})
    wait_until(lambda: live.passes == 2)
    wait_until(lambda: not live.requests.busy)
    assert choice.chosen == 3
    assert live._example.label == 3
    right = live.inference.predicted == 3
    assert ("and is right" in live._verdict.value) == right
    assert ("but it is 3" in live._verdict.value) != right
    before = choice.items
    message(choice, {"more": True})
    assert choice.items != before
    assert choice.chosen == -1
    stroke(live.source.pad, SEVEN)
    wait_until(lambda: live.passes == 4)
    live.choose(5)
    assert live.source.pad.strokes == []
    assert torch.equal(live.inference.x, DIGITS.test.x[5])
    with pytest.raises(DataError, match="rows 0 to 359"):
        live.choose(360)


def test_every_class_has_its_bar_and_the_twin_a_tick(live):
    html = live.choose(0)._odds.value
    assert html.count("<li") == 10
    assert html.count("<u style") == 10
    for label, chance in enumerate(live.inference.probabilities.tolist()):
        assert f"<span>{label}</span>" in html
        assert f"width:{100 * chance:.1f}%" in html
    first = html.split('class="pnn-first"')[1]
    assert first.startswith(f"><span>{live.inference.predicted}<")


def test_drives_are_shown_instead_of_read_outs(live):
    live.choose(0)
    spent = live.passes
    live.shown.value = "Drives"
    assert [line["label"] for line in live.plots.panels[1]["lines"]] == ["drive"]
    assert live.plots.panels[0]["lines"][0]["n"] == 64
    values = np.frombuffer(live.plots.points, "<f4")[:128].reshape(2, 64)
    np.testing.assert_allclose(values[1], DIGITS.test.x[0], rtol=1e-6)
    assert live.passes == spent, "looking costs nothing"


def test_the_still_form_shows_the_same(live):
    picture = live.choose(0).figure()
    assert isinstance(picture, Picture)
    titles = [axes.get_title(loc="left") + axes.get_title() for axes in picture.figure.axes]
    assert titles[:2] == ["In: test example 0", "Out: class probabilities"]
    assert titles[2].startswith("Layer 1 · toy")
    assert "2 device passes" in picture.figure.get_suptitle()
    assert len(picture._repr_png_()) < 100_000
    bundle = live._repr_mimebundle_()
    assert bundle["text/plain"] == "Live inference (alive in Jupyter)"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_refusal_is_said_in_place_in_its_own_words(live):
    live.choose(0)
    message(live.source.choice, {"chosen": 1})
    wait_until(lambda: not live.requests.busy)
    assert live._refusal.value == ""
    live.network[0].theta.data.fill_(torch.nan)
    message(live.source.choice, {"chosen": 2})
    wait_until(lambda: "theta holds 1024 NaN" in live._refusal.value)
    assert 'role="alert"' in live._refusal.value
    assert live._refusal.layout.display is None


def test_a_network_of_another_width_is_refused_in_words():
    view = LiveInference(nn.Linear(5, 10), DIGITS)
    message(view.source.choice, {"chosen": 2})
    wait_until(lambda: "5x10" in view._refusal.value)


def test_a_vowel_is_chosen_said_and_heard(monkeypatch):
    view = LiveInference(network(12, 12, 7), VOWELS)
    assert isinstance(view.source, VowelInput)
    assert view.source.choice.items[5]["text"] == "iy (heed)"
    assert view.source.listen.disabled
    view.choose(3)
    hz = formant_hz(VOWELS.test.x[3])
    points = np.frombuffer(view.source.plot.points, "<f4").reshape(3, 2, 3)
    np.testing.assert_allclose(points[:, 1].T.ravel(), hz[3:], rtol=1e-6)
    assert f"The device reads {view.source.name(view.inference.predicted)}" in view._verdict.value

    played = []
    monkeypatch.setattr(view.source.microphone, "play", lambda *sound: played.append(sound))
    click(view.source.listen)
    sound, rate = played[0]
    silence = np.zeros(rate // 5)
    sound = np.concatenate([silence, sound, silence]).astype("<f4")
    message(view.source.microphone, {"rate": rate}, sound.tobytes())
    wait_until(lambda: view.passes == 4)
    wait_until(lambda: not view.requests.busy)
    assert "your voice" in view._example.source
    heard = formant_hz(view.inference.x)
    np.testing.assert_allclose(heard[3:], hz[3:], rtol=0.15)
    assert view.source.choice.chosen == -1
    quiet = np.zeros(rate, "<f4")
    message(view.source.microphone, {"rate": rate}, quiet.tobytes())
    assert "speak louder" in view.source.microphone.refused
    assert view.passes == 4
    assert len(view.figure().figure.axes) == 4


def test_examples_of_neither_kind_are_chosen():
    task = replace(VOWELS, name="wright-vowels")
    view = LiveInference(nn.Linear(12, 7), task).choose(1)
    assert type(view.source) is Input
    assert view.passes == 0
    assert "no device is driven" in view._cost.value
    assert "The network reads" in view._verdict.value
    values = np.frombuffer(view.source.plot.points, "<f4")[12:]
    np.testing.assert_allclose(values, task.test.x[1])
    assert len(view.figure().figure.axes) == 2


def test_pixels_in_an_order_of_their_own_are_drawn_and_seen():
    order = torch.arange(64).flip(0)
    splits = {part: getattr(DIGITS, part) for part in ("train", "validation", "test")}
    task = replace(
        DIGITS, **{name: replace(split, x=split.x[:, order]) for name, split in splits.items()}
    )
    drawing = Drawing(side=8, frame=LiveInference(network(64, 10), DIGITS).source.drawing.frame)
    layer = PhysicalLayer(Toy(16, 4), ToyTwin(16, 4), physics_aware)
    shots = nn.Sequential(Shots(layer, 4), nn.Linear(16, 10))
    view = LiveInference(shots, task, drawing=replace(drawing, order=order))
    assert isinstance(view.source, ImageInput)
    plain = LiveInference(network(64, 10), DIGITS)
    assert view.source.choice.items == plain.source.choice.items
    view.choose(0)
    assert "4 shots in a row" in view.plots.panels[0]["x_label"]
    assert "4 device passes for this one" in view._cost.value


class Wire(PhysicalSystem):
    """A real device, as far as anyone knows."""

    def _measure(self, x, theta):
        return x[:, : self.output_dim]


def test_a_real_device_is_driven_when_the_stroke_has_ended_and_has_no_twin():
    simulated = LiveInference(network(64, 10), DIGITS)
    assert simulated.source.pad.continuous
    real = nn.Sequential(PhysicalLayer(Wire(64, 0, 10), None, lambda system, _: system))
    view = LiveInference(real, DIGITS)
    assert not view.source.pad.continuous
    view.choose(0)
    assert [line["label"] for line in view.plots.panels[0]["lines"]] == ["device"]
    assert "twin" not in view._verdict.value
    assert "<u style" not in view._odds.value
    assert len(view.figure().figure.axes) == 3


def test_a_training_is_asked_for_a_moment_between_two_steps():
    permits, threads = threading.Semaphore(0), []

    class Watched(Toy):
        def _simulate(self, x, theta):
            threads.append(threading.current_thread().name)
            return super()._simulate(x, theta)

    def records():
        for step in range(1, 4):
            permits.acquire()
            yield record(step, 3)

    watched = nn.Sequential(PhysicalLayer(Watched(64, 10), None, ideal), Rescale(10))
    session = Session(Scripted(records())).start()
    view = LiveInference(watched, DIGITS, session=session)
    assert not view.source.pad.continuous
    message(view.source.choice, {"chosen": 0})
    wait_until(lambda: "test example" in "".join(session.actions))
    assert view.passes == 0, "it waits for the end of the step"
    permits.release(3)
    wait_until(lambda: view.passes == 1)
    session.join()
    assert threads == ["pnnlab-training_0"]
    assert view.choose(1).passes == 2, "a training that has ended is no obstacle"


def test_a_closed_view_takes_no_other_along(live):
    other = LiveInference(nn.Linear(64, 10), DIGITS)
    other.close()
    assert other.source.pad.comm is None
    assert live.source.pad.comm is not None
    assert live.choose(0).inference is not None


def test_a_stored_view_is_small(live):
    live.choose(0)
    state = [widget.get_state() for widget in (live.source.pad, live.source.choice)]
    assert sum(len(str(each)) for each in state) < 30_000
