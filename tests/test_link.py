"""The conversation with one instrument, over real sockets."""

import re
import socket
import threading
from collections.abc import Callable

import numpy as np
import pytest
from protocol import HANG_UP, OK, block, expected_protocol, group, hello, question

from pnnlab.errors import InstrumentError, LinkError
from pnnlab.instruments import link as links
from pnnlab.instruments.link import Link

IDENTITY = "Agilent Technologies,33522B,MY52800000,3.05-1.19-2.00-52-00"
OTHER = "Agilent Technologies,33522B,MY52800001,3.05-1.19-2.00-52-00"


@pytest.fixture(params=["socket", "visa"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the instrument: a socket of our own, and PyVISA's calls."""
    if request.param == "visa":
        monkeypatch.setattr(links, "_SOCKET", re.compile("never"))


def test_it_introduces_itself_and_clears_what_was_left() -> None:
    with expected_protocol(*hello(IDENTITY)) as name, Link(name) as link:
        assert link.identity == IDENTITY
        assert str(link) == f"Agilent Technologies 33522B at {name}"
        assert link.reopened == 0
        assert not link.broken


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LinkError, match=r"Check that the instrument is on|cannot be opened"):
        Link(f"TCPIP::127.0.0.1::{port}::SOCKET", timeout_s=0.4)
    with pytest.raises(LinkError, match="cannot be opened"):
        Link("no such thing", timeout_s=0.4)
    with pytest.raises(LinkError, match="@nothing"):
        Link(f"TCPIP::127.0.0.1::{port}::SOCKET", library="@nothing")


def test_a_group_is_followed_by_the_error_queue() -> None:
    script = (*hello(IDENTITY), *group("SOUR1:FUNC ARB", "OUTP1 ON"))
    with expected_protocol(*script) as name, Link(name) as link:
        link.send("SOUR1:FUNC ARB", "OUTP1 ON")


def test_every_queued_error_is_told() -> None:
    script = (
        *hello(IDENTITY),
        (b"SOUR1:VOLT 90\n:SYST:ERR?\n", b'-222,"Data out of range; value clipped"\n'),
        (b":SYST:ERR?\n", b'-221,"Settings conflict"\n'),
        (b":SYST:ERR?\n", OK),
        question("SOUR1:VOLT?", "+1.0E+01"),
    )
    with expected_protocol(*script) as name, Link(name) as link:
        with pytest.raises(InstrumentError, match=r"SOUR1:VOLT 90.*-222.*-221") as caught:
            link.send("SOUR1:VOLT 90")
        assert not isinstance(caught.value, LinkError)
        assert link.ask("SOUR1:VOLT?") == "+1.0E+01"  # the link itself is sound
        assert link.reopened == 0


def test_a_block_and_what_belongs_to_it_is_one_group() -> None:
    data = np.array([-32767, 0, 10, 32767], "<i2")
    sent = (
        b"FORM:BORD SWAP\nSOUR1:DATA:ARB:DAC PNNLAB,#18\x01\x80\x00\x00\x0a\x00\xff\x7f\n"
        b"SOUR1:FUNC:ARB PNNLAB\n:SYST:ERR?\n"
    )
    script = (
        *hello(IDENTITY),
        (sent, OK),
    )
    with expected_protocol(*script) as name, Link(name) as link:
        link.send(
            "FORM:BORD SWAP",
            ("SOUR1:DATA:ARB:DAC PNNLAB,", data.data),
            "SOUR1:FUNC:ARB PNNLAB",
        )


@pytest.mark.parametrize("data", [b"", b"\n", b"#\n12\n\n", bytes(range(256)) * 20_000])
def test_any_bytes_come_back_in_a_block(data: bytes) -> None:
    script = (*hello(IDENTITY), (b":WAV:DATA?\n", block(data) + b"\n"), question("X?", "1"))
    with expected_protocol(*script) as name, Link(name) as link:
        found = bytearray(len(data))
        link.ask_block(":WAV:DATA?", memoryview(found))
        assert found == data
        assert link.ask("X?") == "1"  # nothing was left behind


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"#3100" + bytes(100) + b"\n", "2 were expected"),
        (b"#3x00" + bytes(100) + b"\n", "2 were expected"),
        (b"#11a\n", "2 were expected"),
        (b"#0abc\n", "not a block"),
        (b"1.0,2.0\n", "not a block"),
        (b"#12abc", "does not end"),
        (b"#12a", "timed out|timeout|Timeout"),
    ],
)
def test_what_is_no_block_is_refused_and_the_link_opened_anew(answer: bytes, match: str) -> None:
    script = (*hello(IDENTITY), (b":WAV:DATA?\n", answer), *hello(IDENTITY), question("X?", "1"))
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        with pytest.raises(LinkError, match=match):
            link.ask_block(":WAV:DATA?", memoryview(bytearray(2)))
        assert link.broken
        assert link.ask("X?") == "1"
        assert link.reopened == 1


def test_a_lost_connection_is_mended_for_a_question() -> None:
    script = (
        *hello(IDENTITY),
        (b"X?\n", HANG_UP),
        *hello(IDENTITY),
        (b"X?\n", HANG_UP),
        *hello(IDENTITY),
        question("X?", "7"),
    )
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        assert link.ask("X?") == "7"
        assert link.reopened == 2


def test_a_question_is_repeated_twice_at_most() -> None:
    lost = (b"X?\n", HANG_UP)
    script = (*hello(IDENTITY), lost, *hello(IDENTITY), lost, *hello(IDENTITY), lost)
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        with pytest.raises(LinkError):
            link.ask("X?")
        assert link.broken


def test_a_command_is_never_repeated() -> None:
    script = (*hello(IDENTITY), (b"*TRG\n:SYST:ERR?\n", HANG_UP), *hello(IDENTITY), *group("*TRG"))
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        with pytest.raises(LinkError, match=r"\*TRG"):
            link.send("*TRG")
        assert link.reopened == 0
        link.send("*TRG")  # the next use opens a new session first
        assert link.reopened == 1


def test_a_late_answer_is_never_taken_for_the_next() -> None:
    script = (
        *hello(IDENTITY),
        (b"A?\n", None),
        (b":SYST:ERR?\n", b"answer to A\n"),  # comes when the error queue is asked why
        *hello(IDENTITY),
        question("A?", "answer to A"),
        question("B?", "answer to B"),
    )
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        assert link.ask("A?") == "answer to A"
        assert link.ask("B?") == "answer to B"
        assert link.reopened == 1


def test_an_unknown_question_is_told_from_a_slow_one() -> None:
    script = (
        *hello(IDENTITY),
        question("NONSENSE?", None),
        (b":SYST:ERR?\n", b'-113,"Undefined header"\n'),
        (b":SYST:ERR?\n", OK),
        *hello(IDENTITY),
        question("X?", "1"),
    )
    with expected_protocol(*script) as name, Link(name, timeout_s=0.4) as link:
        with pytest.raises(
            InstrumentError, match=r"'NONSENSE\?'.*-113.*choose another dialect"
        ) as why:
            link.ask("NONSENSE?")
        assert not isinstance(why.value, LinkError)
        assert link.ask("X?") == "1"


def test_a_block_that_is_refused_says_why() -> None:
    script = (
        *hello(IDENTITY),
        question(":WAV:DATA?", None),
        (b":SYST:ERR?\n", b'-230,"Data corrupt or stale"\n'),
        (b":SYST:ERR?\n", OK),
    )
    with (
        expected_protocol(*script) as name,
        Link(name, timeout_s=0.4) as link,
        pytest.raises(InstrumentError, match=r"-230"),
    ):
        link.ask_block(":WAV:DATA?", memoryview(bytearray(100)))


def test_another_instrument_at_the_same_address_is_not_accepted() -> None:
    script = (*hello(IDENTITY), (b"X?\n", HANG_UP), *hello(OTHER))
    with (
        expected_protocol(*script) as name,
        Link(name, timeout_s=0.4) as link,
        pytest.raises(InstrumentError, match=r"MY52800001.*instead of.*MY52800000"),
    ):
        link.ask("X?")


def test_an_error_queue_out_of_step_breaks_the_link() -> None:
    script = (*hello(IDENTITY), (b"A\n:SYST:ERR?\n", b"+3.0E+00\n"))
    with expected_protocol(*script) as name, Link(name) as link:
        with pytest.raises(LinkError, match="the answer to something else"):
            link.send("A")
        assert link.broken


def test_a_queue_without_end_is_given_up() -> None:
    script = (
        *hello(IDENTITY),
        (b"A\n:SYST:ERR?\n", b'-350,"Queue overflow"\n'),
        *[(b":SYST:ERR?\n", b'-350,"Queue overflow"\n')] * 99,
    )
    with (
        expected_protocol(*script) as name,
        Link(name) as link,
        pytest.raises(LinkError, match="no end"),
    ):
        link.send("A")


def test_an_interrupt_between_question_and_answer_breaks_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (*hello(IDENTITY), question("A?", "1"), *hello(IDENTITY), question("B?", "2"))
    with expected_protocol(*script) as name, Link(name) as link:
        with monkeypatch.context() as patched:
            for kind in (links._SocketWire, links._VisaWire):
                patched.setattr(kind, "read_line", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                link.ask("A?")
        assert link.ask("B?") == "2"


def _interrupted(_: object) -> str:
    raise KeyboardInterrupt


def test_a_closed_link_stays_closed() -> None:
    with expected_protocol(*hello(IDENTITY)) as name:
        link = Link(name)
        link.close()
        link.close()
        for use in (lambda: link.ask("X?"), lambda: link.send("X")):
            _refused(use)


def _refused(use: Callable[[], object]) -> None:
    with pytest.raises(InstrumentError, match="is closed"):
        use()


def test_threads_take_turns() -> None:
    script = (*hello(IDENTITY), *[question("X?", "1")] * 40)
    with expected_protocol(*script) as name, Link(name) as link:
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.extend(link.ask("X?") for _ in range(10)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == ["1"] * 40
