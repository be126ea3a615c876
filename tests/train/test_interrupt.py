"""A Ctrl-C waits for what must not be cut in two."""

import signal
import threading

import pytest

from bale.train.interrupt import BrokenOff, finish_first

pytestmark = pytest.mark.usefixtures("python_handles_ctrl_c")


def press():
    signal.raise_signal(signal.SIGINT)


def test_it_waits_for_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt) as raised, finish_first():
        press()
        done.append("block")
    assert done == ["block"] and not isinstance(raised.value, BrokenOff)


def test_a_second_one_does_not_wait():
    done = []
    with pytest.raises(BrokenOff), finish_first():
        press()
        done.append("first")
        press()
        done.append("second")
    assert done == ["first"]


def test_an_error_in_the_block_comes_through():
    with pytest.raises(ZeroDivisionError), finish_first():
        press()
        raise ZeroDivisionError


def test_without_a_ctrl_c_nothing_happens():
    with finish_first():
        pass


def test_somebody_elses_handler_stays():
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    with finish_first():
        press()
    assert heard == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_are_left_alone():
    failures = []

    def work():
        try:
            with finish_first():
                pass
        except ValueError as error:  # Python's own, for a handler outside the main thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
