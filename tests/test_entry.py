"""A number to type, and how what a page shares reaches the kernel."""

from typing import Any

import pytest
import traitlets
from hands import message, share

from pnnlab.views.parts import Entry


def test_a_number_is_typed() -> None:
    entry = Entry(label="Factor", value=1.0, least=0.0)
    seen: list[float] = []
    entry.observe(lambda change: seen.append(change["new"]), "value")
    share(entry, value=2)
    share(entry, value=0.5)
    message(entry, {"something": "else"})
    assert seen == [2.0, 0.5]
    assert (entry.label, entry.least, entry.whole) == ("Factor", 0.0, False)
    with pytest.raises(traitlets.TraitError):
        entry.value = "many"


def test_what_a_page_shares_comes_back_only_if_the_kernel_makes_it_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = Entry(label="Unit", whole=True)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        entry, "_send", lambda told, **_: sent.append(told["state"] | {"as": told["method"]})
    )
    share(entry, value=3)
    assert sent == [{"as": "echo_update", "value": 3}], "for other pages"
    sent.clear()
    entry.observe(lambda _: setattr(entry, "value", 3.0), "value")
    share(entry, value=-1)
    assert sent[-1] == {"as": "update", "value": 3.0}
