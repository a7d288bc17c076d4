"""Brokers that fall silent are told of once, and so is their return."""

from __future__ import annotations

import pytest

from streams.worker.silence import SilenceWatch


def test_silence_and_its_end_are_one_line_each(caplog: pytest.LogCaptureFixture):
    watch = SilenceWatch(["a:9092", "b:9092"])
    watch.look(None, 99.0)
    for second in range(100, 150):
        watch.look(100.0, float(second))
    watch.look(150.0, 150.5)
    watch.look(151.0, 151.5)
    assert caplog.messages == [
        "no answer from the brokers (a:9092, b:9092) for 10 s; trying on",
        "the brokers answer again, after 50 s of silence",
    ]


def test_a_short_pause_is_not_worth_a_line(caplog: pytest.LogCaptureFixture):
    watch = SilenceWatch(["a:9092"])
    for second in range(100, 200, 9):
        watch.look(float(second), second + 8.9)
    assert caplog.messages == []
