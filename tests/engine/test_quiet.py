"""What libraries say stays out of the report, and everything is as before afterwards."""

import logging
import warnings

import pytest

from pytest_onnxcheck.engine.quiet import quiet


def speak():
    print("progress")
    warnings.warn("a warning", UserWarning, stacklevel=2)
    logging.getLogger("library").warning("a log record")
    logging.getLogger("library").error("an error record")


def test_nothing_gets_through_and_the_warnings_are_given(capsys, caplog, recwarn):
    with quiet() as warned:
        speak()
        speak()
    assert capsys.readouterr().out == ""
    assert caplog.messages == []
    assert list(recwarn) == []
    assert [str(entry.message) for entry in warned] == ["a warning"] * 2


def test_records_above_the_level_get_through(caplog):
    with quiet(logging.WARNING):
        speak()
    assert caplog.messages == ["an error record"]


def test_inside_another_one_no_more_gets_through(caplog):
    with quiet(), quiet(logging.WARNING):
        speak()
    assert caplog.messages == []


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before_afterwards(capsys, caplog, fails):
    root = logging.getLogger()
    before = root.manager.disable, root.level, warnings.filters[:]
    try:
        with quiet():
            root.setLevel(logging.DEBUG)  # as some libraries do when they are imported
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert (root.manager.disable, root.level, warnings.filters[:]) == before
    print("heard")
    assert capsys.readouterr().out == "heard\n"
