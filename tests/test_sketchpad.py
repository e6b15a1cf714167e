"""What a hand gives, without a browser: strokes, choices, and sounds; and what is said of them."""

import base64
from io import BytesIO

import numpy as np
from hands import message, share
from PIL import Image

from pnnlab.demos.inputs import ExampleList, Microphone, Sketchpad, picture
from pnnlab.errors import DataError


def stroke(widget, strokes):
    """What the page sends when strokes were drawn."""
    share(widget, strokes=strokes)


def test_strokes_of_the_page_become_lines():
    pad = Sketchpad(continuous=False)
    assert pad.lines == []
    assert not pad.continuous
    stroke(pad, [[100, 100, 100, 500], [300, 300]])
    assert [line.tolist() for line in pad.lines] == [[[0.1, 0.1], [0.1, 0.5]], [[0.3, 0.3]]]


def test_strokes_are_not_sent_back_to_the_page_that_draws_on(monkeypatch):
    pad, sent = Sketchpad(), []
    monkeypatch.setattr(pad, "_send", lambda message, **_: sent.append(message["state"]))
    stroke(pad, [[0, 0, 500, 500]])
    assert sent == []
    pad.strokes = []
    assert sent == [{"strokes": []}]


def test_two_pads_do_not_share_their_strokes():
    one, other = Sketchpad(), Sketchpad()
    stroke(one, [[1, 2]])
    assert other.strokes == []


def test_a_choice_tells_what_was_chosen_and_marks_nothing_itself():
    chosen, more = [], []
    choice = ExampleList("Which", on_choose=chosen.append, on_more=lambda: more.append(1))
    choice.offer(
        [{"name": "a three", "picture": picture(np.eye(3))}, {"name": "a four", "text": "4"}]
    )
    message(choice, {"chosen": 1})
    message(choice, {"more": True})
    message(choice, {"chosen": 2})
    assert chosen == [1]
    assert more == [1]
    assert choice.chosen == -1
    choice.chosen = 1
    choice.offer([{"name": "a five", "text": "5"}])
    assert choice.chosen == -1
    assert choice.items == [{"name": "a five", "text": "5"}]


def test_a_picture_is_the_image_in_a_few_bytes():
    values = np.linspace(0, 1, 784).reshape(28, 28)
    address = picture(values)
    head, data = address.split(",")
    assert head == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(255 * values))
    assert len(address) < 1500


def test_a_sound_reaches_its_listener_and_a_refusal_is_said_in_place():
    heard = []

    def listen(samples, rate):
        heard.append((samples, rate))
        if rate < 8000:
            raise DataError("nothing was heard: speak up.")

    microphone = Microphone("Say 'heed'", listen)
    samples = np.linspace(-0.5, 0.5, 50, dtype="<f4")
    message(microphone, {"rate": 4000}, samples.tobytes())
    assert microphone.refused == "nothing was heard: speak up."
    message(microphone, {"rate": 48000}, samples.tobytes())
    assert microphone.refused == ""
    np.testing.assert_array_equal(heard[1][0], samples)
    assert heard[1][1] == 48000
    assert samples.tobytes() not in str(microphone.get_state()).encode(), "no voice is stored"


def test_a_sound_to_play_is_sent_and_kept_nowhere(monkeypatch):
    sent = []
    microphone = Microphone("Say", lambda *_: None)
    monkeypatch.setattr(microphone, "send", lambda *message: sent.append(message))
    microphone.play(np.array([0.0, 0.25]), 16000)
    assert sent == [({"rate": 16000}, [np.array([0, 0.25], dtype="<f4").tobytes()])]
