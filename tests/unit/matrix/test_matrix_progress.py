import io
import os
import signal

import pytest

from paretopipe_matrix.interrupts import Interrupts
from paretopipe_matrix.progress import Eta, PlainDisplay, duration


def test_eta_scales_by_what_was_observed():
    eta = Eta({"a": 1.0, "b": 2.0, "c": 3.0})
    assert eta.remaining_s() == 6.0
    eta.finish("a", 2.0)
    assert eta.remaining_s() == 10.0
    eta.finish("b", 0.0)  # skipped: says nothing about the speed
    assert eta.remaining_s() == 6.0
    assert (eta.done, eta.total) == (2, 3)


def test_eta_learns_set_up_per_kind():
    eta = Eta({"fast1": 1.0, "fast2": 1.0, "slow1": 1.0, "slow2": 1.0, "other": 1.0}, lambda key: key[:4])
    eta.finish("fast1", 1.0)
    eta.finish("slow1", 9.0)
    # What no finished item is like is scaled by all that is known: 10 s for 2 expected.
    assert eta.remaining_s() == 1.0 + 9.0 + 5.0


def test_plain_lines_come_every_few_seconds_and_at_the_end():
    now = [0.0]
    stream = io.StringIO()
    display = PlainDisplay(Eta(dict.fromkeys(range(8), 1.0)), stream, lambda: now[0])
    for key in range(8):
        now[0] += 1.0
        display.finish(key, f"cell{key}", 1.0)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["[1/8]", "[6/8]", "[8/8]"]
    assert "cell5" in lines[1]
    assert "elapsed 6 s, about 2 s left" in lines[1]
    display.note("cell failed")
    assert stream.getvalue().endswith("cell failed\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_is_raised_at_once(number):
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), number)


def test_interrupt_waits_for_a_shielded_write():
    written = []
    before = signal.getsignal(signal.SIGINT)

    def pressed_while_writing(interrupts):
        with interrupts.shield():
            os.kill(os.getpid(), signal.SIGINT)
            written.append("whole")

    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            pressed_while_writing(interrupts)
        assert written == ["whole"]
    assert signal.getsignal(signal.SIGINT) is before
