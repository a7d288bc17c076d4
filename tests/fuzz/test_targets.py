"""The targets of the fuzzer hold on their corpus, and on some thousand inputs made from it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import WORDS, seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_no_sound_input_is_a_fault(target: str) -> None:
    found = seeds(target)
    assert found, "every target has a corpus"
    for seed in found[:20]:
        TARGETS[target](seed)


WORD = st.sampled_from([word.encode() for word in WORDS]) | st.binary(max_size=4)


@pytest.mark.parametrize("target", TARGETS)
def test_no_broken_input_is_a_fault(target: str) -> None:
    """Like the fuzzer, but without coverage: the same few hundred inputs each time."""
    run, corpus = TARGETS[target], [b"", *seeds(target)]

    @given(st.data())
    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def holds(data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(corpus))
        for _ in range(data.draw(st.integers(0, 4))):
            begin = data.draw(st.integers(0, len(value)))
            end = begin + data.draw(st.sampled_from([0, 0, 1, 2, 7, 40]))
            value = value[:begin] + data.draw(WORD) + value[end:]
        run(value)

    holds()


def test_a_target_that_does_not_exist_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nothing"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "there is no target nothing; there are decode, partition" in done.stderr
