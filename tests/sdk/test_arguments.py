"""Arguments that cannot be: each is one error that says what it is and what to give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.errors import ArgumentError, BundleError, EngineError
from sdk.errors import SourceError
from sdk.recognizer import StreamRecognizer
from tests.sdk.films import BRIGHT, flat


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "None: is NoneType, not a source; give a path"),
        (["a", "b"], "frame 0: is str; give"),
        ([], "the iterable: gave no frame"),
        (True, "True: is bool, not a source"),
        (3.5, "3.5: is float, not a source"),
        (77, "camera:77: there is no device /dev/video77"),
        ([(flat(BRIGHT), None)], "frame 0: its time is None"),
        ([([[1], [2, 3]], 0.0)], "frame 0: is list that is not an array"),
        ([(np.zeros(100, np.float32), 0.0)], "the iterable: gave sound and not one frame"),
        (np.int64(77), "camera:77: there is no device"),
    ],
)
def test_what_is_not_a_source_is_one_clear_error(bundle: Bundle, source: object, words: str) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer, pytest.raises(SourceError) as caught:
        list(recognizer.stream(source))  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_arguments_of_another_type_are_one_clear_error(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="None: is NoneType, not a path"):
        StreamRecognizer(None)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="threads 'x': is not a number of threads"):
        StreamRecognizer(bundle, "cpu", threads="x")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="threads True: is not a number of threads"):
        StreamRecognizer(bundle, "cpu", threads=True)
    with pytest.raises(ArgumentError, match="price True: is not a price"):
        StreamRecognizer(bundle, "cpu", price=True)
    with pytest.raises(ArgumentError, match="clock 3: cannot be called"):
        StreamRecognizer(bundle, "cpu", clock=3)  # type: ignore[arg-type]
    with StreamRecognizer(bundle, "cpu") as recognizer:
        with pytest.raises(SourceError, match="its time is None"):
            recognizer.step(flat(BRIGHT), None)  # type: ignore[arg-type]
        with pytest.raises(SourceError, match="None: is NoneType, not a source"):
            recognizer.recognize(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top": "x"}, "top 'x': is not a number of labels; use 1 or more"),
        ({"fixed": "rgb84", "every": "x"}, "every 'x': is not a number of steps"),
        ({"random_seed": -1}, "random_seed -1: is not a number"),
        ({"meter": "auto"}, "meter 'auto': is not a Meter; use sdk.power.open_meter"),
        ({"thermometer": 42.0}, "thermometer 42.0: cannot be called; give a function that returns degrees"),
        ({"battery": "full"}, "battery 'full': cannot be called; give a function that returns the joules"),
        ({"price": 1e300}, "price 1e+300: is not a price; use 0 to 10000"),
        ({"log": "decisions.jsonl"}, "log 'decisions.jsonl': is not a DecisionLog"),
    ],
)
def test_options_of_another_type_are_one_clear_error(
    bundle: Bundle, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        StreamRecognizer(bundle, "cpu", **options)
    assert str(caught.value).startswith(words)


def test_what_is_closed_is_the_recognizer(bundle: Bundle) -> None:
    recognizer = StreamRecognizer(bundle, "cpu")
    recognizer.close()
    with pytest.raises(EngineError, match=r"recognizer: is closed, and graph \S+ with it; open a new one"):
        recognizer.step(np.zeros((96, 128, 3), np.uint8), 0.0)


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ((None, None), "on_result None: cannot be called; give a function"),
        ((print, None), "on_error None: cannot be called"),
        ((print, print, 3), "on_end 3: cannot be called"),
    ],
)
def test_callbacks_that_cannot_be_called_are_refused_at_once(
    bundle: Bundle, callbacks: tuple[Any, ...], words: str
) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        with pytest.raises(ArgumentError) as caught:
            recognizer.start("test://?duration=1", *callbacks)
        assert str(caught.value).startswith(words)
        recognizer.reset()  # nothing was started
