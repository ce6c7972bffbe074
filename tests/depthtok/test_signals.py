import signal
import threading

import pytest

from depthtok.signals import Stopped, kept_handlers, stop_request, stoppable, uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_block(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, stoppable():
        signal.raise_signal(number)
    assert caught.value.signum == number
    assert signal.getsignal(number) is before


def test_a_request_lets_the_step_end_and_a_second_one_does_not():
    with stop_request() as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_waits_for_an_uninterrupted_block():
    steps = []

    def work():
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            steps.append("after")
        steps.append("never")

    with pytest.raises(Stopped), stoppable():
        work()
    assert steps == ["after"]


def test_an_error_in_an_uninterrupted_block_is_told():
    with pytest.raises(ZeroDivisionError), stoppable(), uninterrupted():
        raise ZeroDivisionError


def test_other_threads_are_left_alone():
    passed = []

    def work():
        with uninterrupted():
            passed.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with kept_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_may_be_stopped_works_in_a_thread():
    done = []

    def work():
        with stoppable(), stop_request() as stopping, uninterrupted():
            done.append(stopping())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
