"""The progress of slow steps in a log file: when lines come, and when none do."""

import sys

import pytest

from facemodels.core import progress as module
from facemodels.core.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, in a list of one number."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def worked(clock, items, seconds=1.0, **arguments):
    done = []
    for item in progress(items, "fitting", **arguments):
        clock[0] += seconds
        done.append(item)
    return done


def test_a_log_file_has_a_line_after_five_seconds_and_then_every_twenty(clock, capsys):
    assert worked(clock, range(50)) == list(range(50))
    assert capsys.readouterr().err.splitlines() == [
        "fitting: 6 of 50, 44 s left",
        "fitting: 27 of 50, 23 s left",
        "fitting: 48 of 50, 2.0 s left",
    ]


def test_a_short_step_and_a_quiet_one_print_nothing(clock, capsys):
    worked(clock, range(5))
    worked(clock, range(500), quiet=True)
    assert capsys.readouterr().err == ""


def test_items_of_an_unknown_number_are_counted_and_more_than_expected_leave_no_time(clock, capsys):
    worked(clock, iter(range(8)))
    worked(clock, iter(range(8)), total=6)
    assert capsys.readouterr().err.splitlines() == ["fitting: 6", "fitting: 6"]


def test_the_work_goes_on_where_nothing_can_be_printed(clock, monkeypatch):
    class Closed:
        def isatty(self):
            return False

        def write(self, text):
            raise BrokenPipeError

    for stderr in (None, Closed()):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert worked(clock, range(50)) == list(range(50))
