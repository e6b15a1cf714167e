"""A hundred thousand messages that no instrument should be sent, to each make of each."""

import gc
import tracemalloc

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from malformed_messages import MODELS, answered, anything, disguised, errors, malformed, mutants

from pnnlab.virtual_bench.instrument import QUEUE_DEPTH
from pnnlab.virtual_bench.messages import Message

RESET = Message("*RST;*CLS")
EXAMPLES, POOL, MESSAGES = 50, 15, 600  # for each of four models, in each of two tests
MOST_GROWTH = 4 * 2**20  # bytes: a waveform or two, and what numpy and the compiler of regexes keep


def hard(examples: int) -> settings:
    """No shrinking, no deadline: this machine is slow enough by itself."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def growth(run):
    """Bytes that are still held after a run, and were not before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("model", MODELS)
def test_whatever_comes_the_instrument_stays(model, benchmark):
    make = MODELS[model]
    whole, cut = make(), make()
    for instrument in (whole, cut):
        instrument.timeout_s = 0.0
    sent = 0

    @hard(EXAMPLES)
    @given(
        pool=st.lists(anything(make), min_size=POOL, max_size=POOL),
        pieces=st.lists(st.integers(1, 60), max_size=60),
        seed=st.integers(0, 2**32),
    )
    def survive(pool, pieces, seed):
        nonlocal sent
        messages = [*pool, *mutants(pool, seed, MESSAGES - POOL)]
        for instrument in (whole, cut):
            instrument.execute(RESET)
        stream = b"".join(messages)
        assert answered(whole, stream, []) == answered(cut, stream, pieces)
        found = errors(whole)
        assert found == errors(cut)
        assert len(found) <= QUEUE_DEPTH
        for instrument in (whole, cut):
            assert answered(instrument, b"*IDN?\n", []).decode() == f"{instrument.identity}\n"
        sent += len(messages)

    grown = growth(survive)
    benchmark.extra_info["messages"] = sent
    benchmark.extra_info["kB grown"] = round(grown / 1024)
    benchmark(lambda: answered(whole, b"*IDN?\n", []))
    assert sent >= EXAMPLES * MESSAGES
    assert grown < MOST_GROWTH


@pytest.mark.parametrize("model", MODELS)
def test_what_is_malformed_leaves_an_error(model, benchmark):
    instrument = MODELS[model]()
    sent = 0

    @hard(EXAMPLES)
    @given(
        pool=st.lists(malformed(MODELS[model]), min_size=POOL, max_size=POOL),
        seed=st.integers(0, 2**32),
    )
    def complain(pool, seed):
        nonlocal sent
        messages = [*pool, *disguised(pool, seed, MESSAGES - POOL)]
        instrument.execute(RESET)
        for message in messages:
            answered(instrument, message, [])
            assert errors(instrument), message
        sent += len(messages)

    complain()
    benchmark.extra_info["messages"] = sent
    benchmark(lambda: answered(instrument, b"*IDN?\n", []))
    assert sent >= EXAMPLES * MESSAGES
