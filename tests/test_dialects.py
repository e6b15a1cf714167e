"""What each make calls the same things: data that the drivers can use without knowing the make."""

import string
from dataclasses import fields

import numpy as np
import pytest

from pnnlab.instruments.dialects import (
    GENERATORS,
    INFINIIVISION,
    KEYSIGHT_33500,
    RIGOL_DS1000Z,
    RIGOL_DS1000ZE,
    SCOPES,
    TEKTRONIX_AFG3000,
    GeneratorDialect,
    ScopeDialect,
    Setting,
)

GENERATOR_WORDS = {"channel", "rate", "span", "extent", "lesser", "frequency", "arb", "client"}
SCOPE_WORDS = {
    *("channel", "window", "division", "centre", "minus_centre", "record", "record_s"),
    *("division_s", "middle_s", "format", "first", "last"),
}


def texts(dialect: object) -> list[str]:
    """Every string in a dialect, however deep."""
    found: list[str] = []
    stack = [dialect]
    while stack:
        thing = stack.pop()
        if isinstance(thing, str):
            found.append(thing)
        elif isinstance(thing, tuple):
            stack.extend(thing)
        elif hasattr(thing, "values"):
            stack.extend(thing.values())
        elif hasattr(thing, "__dataclass_fields__"):
            stack.extend(getattr(thing, field.name) for field in fields(thing))
    return found


@pytest.mark.parametrize("dialect", [*GENERATORS, *SCOPES], ids=lambda d: d.name)
def test_no_template_asks_for_what_no_driver_fills_in(
    dialect: GeneratorDialect | ScopeDialect,
) -> None:
    words = GENERATOR_WORDS if isinstance(dialect, GeneratorDialect) else SCOPE_WORDS
    for text in texts(dialect):
        asked = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        assert asked <= words, text


@pytest.mark.parametrize("dialect", [*GENERATORS, *SCOPES], ids=lambda d: d.name)
def test_every_message_is_one_line_of_ascii(dialect: GeneratorDialect | ScopeDialect) -> None:
    for text in texts(dialect):
        assert text.isascii()
        assert "\n" not in text


@pytest.mark.parametrize("dialect", GENERATORS, ids=lambda d: d.name)
def test_a_generators_codes_fit_into_their_type(dialect: GeneratorDialect) -> None:
    encoding = dialect.encoding
    kind = np.dtype(encoding.dtype)
    info = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    assert info.min <= encoding.lowest < encoding.highest <= info.max
    assert 0 < dialect.fewest_points < dialect.most_points


@pytest.mark.parametrize("dialect", SCOPES, ids=lambda d: d.name)
def test_an_oscilloscopes_codes_fit_into_their_type(dialect: ScopeDialect) -> None:
    form = dialect.format
    info = np.iinfo(form.dtype)
    assert info.min <= form.low < form.high <= info.max
    # what cannot be had in parts must be had at once
    assert dialect.part or form.most_points >= dialect.records[-1]
    assert list(dialect.records) == sorted(set(dialect.records))


@pytest.mark.parametrize("dialect", SCOPES, ids=lambda d: d.name)
def test_a_channel_that_takes_the_trigger_records_nothing(dialect: ScopeDialect) -> None:
    (source,) = (
        one.value
        for one in dialect.settings
        if one.header.endswith("SOUR") and one.header.startswith(":TRIG")
    )
    assert source not in {f"CHAN{n}" for n in dialect.channels}
    assert dialect.trigger_input.split()[-1] in (source.removeprefix("CHAN"), "input")


def test_identities_of_the_manuals() -> None:
    """Answers to ``*IDN?`` as the manuals show them."""
    identities = {
        "Agilent Technologies,33522B,MY00000000,0.08-1.19-2.00-52-00": KEYSIGHT_33500,
        "Keysight Technologies,33622A,MY59000000,A.02.03-3.15-03-64-02": KEYSIGHT_33500,
        "TEKTRONIX,AFG3102,C100101,SCPI:99.0 FV:1.0": TEKTRONIX_AFG3000,
        "AGILENT TECHNOLOGIES,DSO-X 3024A,MY50000000,01.00.0000": INFINIIVISION,
        "KEYSIGHT TECHNOLOGIES,MSOX3104T,MY55000000,07.20.2017102614": INFINIIVISION,
        "RIGOL TECHNOLOGIES,DS1104Z,DS1ZA000000000,00.04.04": RIGOL_DS1000Z,
        "RIGOL TECHNOLOGIES,MSO1104Z,DS1ZC000000000,00.04.04": RIGOL_DS1000Z,
        "RIGOL TECHNOLOGIES,DS1202Z-E,DS1ZE000000000,00.06.04": RIGOL_DS1000ZE,
    }
    for identity, spoken in identities.items():
        speakers = [d for d in (*GENERATORS, *SCOPES) if any(m in identity for m in d.models)]
        assert speakers == [spoken]


@pytest.mark.parametrize("dialect", [*GENERATORS, *SCOPES], ids=lambda d: d.name)
def test_a_dialect_cannot_be_changed_by_accident(
    dialect: GeneratorDialect | ScopeDialect,
) -> None:
    with pytest.raises(AttributeError):
        dialect.name = "other"  # type: ignore[misc]
    assert all(isinstance(setting, Setting) for setting in dialect.settings)
