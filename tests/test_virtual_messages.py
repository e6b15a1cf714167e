"""Framing, parsing and status: what every virtual instrument does with a message."""

import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed_messages import MODELS, answered, anything, arriving, cut, errors, malformed, spelled

from pnnlab.virtual_bench import messages
from pnnlab.virtual_bench.bench import answers
from pnnlab.virtual_bench.generator_models import Keysight33500
from pnnlab.virtual_bench.instrument import QUEUE_DEPTH, Command, SimulatedInstrument
from pnnlab.virtual_bench.messages import Message, ScpiError, read_message, read_number


def read_all(*pieces: bytes, most: int = 100) -> list[Message | int]:
    """Messages, and the codes of errors."""
    stream = arriving(pieces)
    found = iter(lambda: read_message(stream, most), None)
    return [one.code if isinstance(one, ScpiError) else one for one in found]


def ask(instrument: SimulatedInstrument, text: str) -> str:
    return answered(instrument, f"{text}\n".encode(), []).decode().rstrip("\n")


@pytest.fixture
def generator() -> Keysight33500:
    return Keysight33500()


# --- framing ---


def test_messages_end_with_lines_but_not_in_blocks() -> None:
    assert read_all(b"*RST\r\nDATA a,#13\n\n\n;VOLT 1\n*ID") == [
        Message("*RST"),
        Message("DATA a,\0;VOLT 1", (b"\n\n\n",)),
        -102,
    ]


def test_a_hash_in_quotes_or_before_a_letter_starts_no_block() -> None:
    assert read_all(b"A \"#15\"\nB '#1'\nC #H1F\nD #0ab\n") == [
        Message('A "#15"'),
        Message("B '#1'"),
        Message("C #H1F"),
        Message("D #0ab"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_it_does_not_matter_how_a_stream_arrives(size: int) -> None:
    stream = b"A #15\n;#\"x,'#';B\n#10\n\"\n'\nC #9000000002ab\n#2x\nD\n"
    assert read_all(*cut(stream, [size] * (len(stream) // size))) == read_all(stream)


def test_a_block_longer_than_the_memory_is_skipped_whole() -> None:
    assert read_all(b"DATA #211*RST\n*RST\n\n*RST\n*CLS\n", most=10) == [-223, Message("*CLS")]


def test_so_are_many_blocks_that_are_too_long_together() -> None:
    assert read_all(b"A #16aaaaaa,#16bbbbbb\nB\n", most=10) == [-223, Message("B")]
    assert read_all(b"A " + b"#10" * 100 + b"\nB\n") == [-223, Message("B")]


def test_an_endless_line_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MOST_TEXT", 50)
    assert read_all(b"A" * 200 + b"#13xyz\nB\n") == [-363, Message("B")]
    assert read_all(b"A" * 200 + b"\nB\n") == [-363, Message("B")]


def test_what_never_ends_takes_no_memory() -> None:
    flood = b"#9999999999" + 10**4 * b"x"
    stream = arriving([flood] * 5000)
    tracemalloc.start()
    try:
        error = read_message(stream, 1000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, ScpiError)
    assert error.code == -223
    assert most < 100_000


@pytest.mark.parametrize(
    ("stream", "code"),
    [(b"DATA #3", -161), (b"DATA #3100ab", -161), (b"VOLT 1", -102), (b"DATA #", -161)],
)
def test_a_client_that_goes_away_in_a_message_leaves_an_error(
    generator: Keysight33500, stream: bytes, code: int
) -> None:
    assert answered(generator, stream, []) == b""
    assert errors(generator)[0].startswith(str(code))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"POST /x?y='z HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /#3x HTTP/1.1",
        b"GET /" + 3000 * b"a" + b" HTTP/1.1",
    ],
)
def test_a_request_line_of_http_ends_the_stream(
    monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    """Whatever it does to quotes and blocks, nothing of what follows is carried out."""
    monkeypatch.setattr(messages, "MOST_TEXT", 50)
    for end in (b"\r\n", b"\n"):
        for sizes in ([], [7] * 600):
            stream = b"A\n" + line + end + b"Host: localhost\r\n\r\nVOLT 5\n"
            assert read_all(*cut(stream, sizes)) == [Message("A")]


def test_a_refused_query_is_answered_with_nothing(generator: Keysight33500) -> None:
    for query, answer in (
        ("FOO?", b"\n"),
        ("SOUR3:FREQ?", b"\n"),
        ("FREQ? 1,2", b"\n"),
        ("DATA:ATTR:POIN? none", b"\n"),
        ("*OPC?;FOO?;*OPC?", b"1;\n"),  # an error of the syntax loses the rest
        ("*OPC?;DATA:ATTR:POIN? none;*OPC?", b"1;;1\n"),
        ("FOO", b""),
    ):
        assert answered(generator, f"{query}\n".encode(), []) == answer
        assert len(errors(generator)) == 1


# --- headers and parameters ---


def test_headers_have_a_short_and_a_long_form_and_a_path(generator: Keysight33500) -> None:
    answered(generator, b"sour1:func:arb:srat 2e6;FILTER OFF;*WAI;filt?;:OUTP:LOAD 75;LOAD?\n", [])
    assert ask(generator, "SOURCE1:FUNCtion:ARBitrary:SRATe?") == generator.decimal(2e6)
    assert ask(generator, "OUTP:LOAD?") == generator.decimal(75)
    assert errors(generator) == []
    ask(generator, "FUNC:ARB:SRAT 1e6;VOLT 1")  # below FUNC:ARB there is no VOLT
    assert errors(generator) == ['-113,"Undefined header"\n']


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VOLTA 1", -113),
        ("FRE 1", -113),
        ("OUTP1:SYNC7 ON", -113),
        ("SOUR3:VOLT 1", -114),
        ("SOUR99999:VOLT 1", -114),
        ("VOLT", -109),
        ("VOLT 1,,2", -109),
        ("FREQ 1,2,3", -108),
        ("FREQ 1 QQ", -131),
        ("BURS:NCYC 1 HZ", -138),
        ("FREQ one", -104),
        ("FREQ 1.2.3", -120),
        ("FREQ 1e999", -123),
        (f"FREQ {'1' * 300}", -124),
        ("FREQ #HXY", -120),
        ("FREQ 1e9", -222),
        ("FUNC SAW", -224),
        ("FUNC:ARB 'x", -151),
        ("FREQ \x7f", -101),
        ("FREQ #13abc", -168),
        ("FREQ x#13abc", -161),
        ("FREQ #1x", -161),
        ("*TRG", -211),
        ("*FOO", -113),
        ("7up", -102),
        ("FREQ 1,2", -108),
        ("FREQ? 5", -224),
        ("OUTP? 1", -108),
        ("DATA:ARB x,1,2,#13abc", -168),
        ("DATA:ARB #13abc,1", -168),
    ],
)
def test_errors_have_their_standard_codes(
    generator: Keysight33500, message: str, code: int
) -> None:
    assert ask(generator, message) == ""
    assert [int(error.split(",")[0]) for error in errors(generator)] == [code]


def test_a_syntax_error_loses_its_message_and_others_do_not(generator: Keysight33500) -> None:
    assert ask(generator, "FREQ 1e9;*IDN?") == generator.identity
    assert ask(generator, "FREQ;*IDN?") == ""
    assert len(errors(generator)) == 2


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("+1.5E-3", "", 1.5e-3),
        (".5", "", 0.5),
        ("3.", "", 3.0),
        ("2 kHz", "HZ", 2e3),
        ("2MHZ", "HZ", 2e6),
        ("5 mV", "V", 5e-3),
        ("20 us", "S", 20e-6),
    ],
)
def test_numbers_have_many_forms(text: str, unit: str, value: float) -> None:
    assert read_number(text, unit) == pytest.approx(value, rel=1e-12)


def test_limits_can_be_asked_for_and_set(generator: Keysight33500) -> None:
    most, least, default = map(generator.decimal, (30e6, 1e-6, 1e3))
    assert ask(generator, "FREQ? MAX;FREQ? MIN") == f"{most};{least}"
    assert ask(generator, "FREQ MAX;FREQ?;FREQ DEF;FREQ?") == f"{most};{default}"


@pytest.mark.parametrize("model", MODELS)
def test_a_table_names_no_header_twice(model: str) -> None:
    table = MODELS[model]().commands
    for entry in table:
        shortest = re.sub(r"\[[^]]*\]|\|\w+|[a-z#]", "", entry.pattern).strip(":")
        for header in (spelled(entry.pattern).upper(), shortest):
            assert [one for one in table if one.regex.fullmatch(header)] == [entry]


def test_patterns_may_name_alternatives() -> None:
    alternatives = Command("DATA|TRACe[:COPY]").regex
    for root in ("DATA", "TRAC", "TRACE"):
        assert alternatives.fullmatch(root)
        assert alternatives.fullmatch(f"{root}:COPY")
        assert not alternatives.fullmatch(f"{root}1")
    channel = Command("CHANnel#:SCALe").regex
    for header in ("CHAN12:SCAL", "CHANNEL12:SCALE", "CHAN12:SCALE"):
        found = channel.fullmatch(header)
        assert found is not None
        assert found[1] == "12"
    assert not channel.fullmatch("CHANN1:SCAL")
    assert not channel.fullmatch("CHAN1:SCAL2")


# --- status ---


def test_status_is_that_of_ieee_488(generator: Keysight33500) -> None:
    assert ask(generator, "*ESR?;*ESR?;*STB?") == "+128;+0;+0"
    ask(generator, "*ESE 48;*SRE 36;FREQ 1e9;FOO")
    assert ask(generator, "*STB?;*ESE?;*SRE?") == "+100;+48;+36"  # errors, events, service
    assert ask(generator, "*ESR?") == "+48"  # command and execution
    assert ask(generator, "*OPC;*ESR?;*OPC?;*TST?") == "+1;1;+0"
    assert ask(generator, "*CLS;*STB?;SYST:ERR?") == '+0;+0,"No error"'


def test_the_queue_overflows_into_one_error(generator: Keysight33500) -> None:
    for _ in range(QUEUE_DEPTH + 5):
        ask(generator, "FOO")
    found = errors(generator)
    assert len(found) == QUEUE_DEPTH
    assert {error.split(",")[0] for error in found[:-1]} == {"-113"}
    assert found[-1] == '-350,"Queue overflow"\n'


def test_rst_brings_back_the_settings_and_leaves_the_status(generator: Keysight33500) -> None:
    ask(generator, "FREQ 5;OUTP ON;FOO;*RST")
    ask(generator, "*RST")
    assert ask(generator, "FREQ?;:OUTP?") == f"{generator.decimal(1e3)};0"
    assert len(errors(generator)) == 1


# --- whatever comes ---


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_stream_in_any_pieces(model: str, data: st.DataObject) -> None:
    make = MODELS[model]
    messages = data.draw(st.lists(anything(make), min_size=20, max_size=20))
    pieces = data.draw(st.lists(st.integers(1, 60), max_size=60))
    stream = b"".join(messages)
    whole, cut = make(), make()
    assert answered(whole, stream, []) == answered(cut, stream, pieces)
    assert errors(whole) == errors(cut)
    assert ask(whole, "*IDN?") == whole.identity


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_whatever_is_malformed_leaves_an_error(model: str, data: st.DataObject) -> None:
    instrument = MODELS[model]()
    for message in data.draw(st.lists(malformed(MODELS[model]), min_size=20, max_size=20)):
        answered(instrument, message, [])
        assert errors(instrument), message
    assert ask(instrument, "*IDN?") == instrument.identity


def test_two_clients_talk_to_one_instrument(generator: Keysight33500) -> None:
    asked: list[bytes] = []

    def meanwhile() -> None:
        asked.append(answered(generator, b"FREQ?\n", []))
        assert errors(generator) == []

    stream = arriving([b"FREQ 7;DATA:ARB x,#3", meanwhile])
    assert list(answers(generator, stream)) == []
    assert asked == [f"{generator.decimal(1e3)}\n".encode()]  # not yet
