from __future__ import annotations

import inspect

import pytest

from airflow_mlpipe import exceptions
from airflow_mlpipe.exceptions import InputLostError, MlpipeError, StepError
from airflow_mlpipe.runtime.pod import failure

SIMPLE = [
    cls
    for _, cls in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(cls, MlpipeError) and cls not in {exceptions.DefinitionError, InputLostError}
]


@pytest.mark.parametrize("cls", SIMPLE)
def test_an_error_is_read_back_as_what_it_was(cls):
    again = failure.load(failure.dump(cls("ein Fehler: é")))
    assert type(again) is cls
    assert str(again) == "ein Fehler: é"


def test_a_lost_input_keeps_its_place():
    again = failure.load(failure.dump(InputLostError("input x", "outputs/ab/c/x", "it is gone")))
    assert (again.path, again.reason) == ("outputs/ab/c/x", "it is gone")


def test_another_error_is_one_of_the_step():
    again = failure.load(failure.dump(OSError(28, "No space left on device")))
    assert type(again) is StepError
    assert "No space" in str(again)


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", '"', "\n"])
def test_a_long_message_fits(letter):
    text = failure.dump(InputLostError(letter * 9000, "outputs/" + "a" * 64, letter * 100))
    assert len(text.encode()) <= 4096 * 2
    assert isinstance(failure.load(text), InputLostError)


@pytest.mark.parametrize("text", ["", "Killed", "[]", "null", "{}", '{"error": "exit"'])
def test_any_other_message_tells_of_no_error(text):
    assert failure.load(text) is None


def test_an_error_of_a_newer_version_is_one_of_the_step():
    assert type(failure.load('{"error": "NewError", "message": "m"}')) is StepError
    assert type(failure.load('{"error": "annotations", "message": "m"}')) is StepError
