"""SIGTERM as an exception, and only inside of the block."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from osar_plugin.utils.termination import orderly_termination


def test_cleans_up_and_gives_the_handler_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []
    with pytest.raises(SystemExit) as end, orderly_termination():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)
    assert (end.value.code, cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread() -> None:
    reached = []

    def work() -> None:
        with orderly_termination():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]
