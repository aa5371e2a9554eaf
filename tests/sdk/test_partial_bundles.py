"""Without a low plane the 8-bit option is not on offer; once it has come, it is, from the next step."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from runtimes.bundle import Bundle, write_bundle
from runtimes.errors import AdaptiveVideoError, BundleError
from runtimes.spec import Manifest
from sdk.recognizer import StreamRecognizer
from sdk.results import Recognition
from tests.sdk.films import BRIGHT, DARK, MIDDLE, film

LOW = "net.low"
NARROW = ("bits4", "bits2", "head", "skip4")


@pytest.fixture
def partial(stored_copy: Path) -> Path:
    (stored_copy / LOW).unlink()
    return stored_copy


def bring(low: Path, bundle: Bundle) -> None:
    low.with_name("part").write_bytes((bundle.folder / low.name).read_bytes())
    low.with_name("part").rename(low)


def test_a_whole_bundle_offers_everything(stored_bundle: Bundle) -> None:
    with StreamRecognizer(stored_bundle, "cpu") as recognizer:
        assert recognizer.options == ("bits8", *NARROW)
        assert not recognizer.missing
        assert recognizer.refresh() == ()
        choices = [result.choice for result in recognizer.stream(film([BRIGHT, MIDDLE]))]
    assert choices == ["bits8", "bits4"]


def test_partial_bundles_are_refused_unless_asked_for(partial: Path) -> None:
    with pytest.raises(BundleError, match=r"net\.low: is missing; fetch it, or open with partial=True"):
        StreamRecognizer(partial, "cpu")


def test_the_8_bit_option_is_chosen_once_its_plane_has_come(stored_bundle: Bundle, partial: Path) -> None:
    with StreamRecognizer(partial, "cpu", partial=True, price=0.0) as recognizer:
        assert recognizer.missing == {LOW}
        assert recognizer.options == NARROW
        stream = recognizer.stream(film([BRIGHT, BRIGHT, BRIGHT, DARK]))
        assert next(stream).choice == "bits4"
        assert recognizer.refresh() == ()
        assert next(stream).choice == "bits4"
        before = {entry.graph: entry.runs for entry in recognizer.declared}
        assert "net-8" not in before
        bring(partial / LOW, stored_bundle)
        recognizer.price = 0.001
        assert recognizer.refresh() == ("bits8",)
        assert not recognizer.missing and recognizer.price == 0.001
        assert [result.choice for result in stream] == ["bits8", "skip4"]
        runs = {entry.graph: entry.runs for entry in recognizer.declared}
        assert runs == before | {"policy": 4, "net-8": 1}


def test_refresh_while_a_stream_runs_in_its_own_thread(stored_bundle: Bundle, partial: Path) -> None:
    choices: list[str] = []
    errors: list[Exception] = []
    seen, refreshed, ended = Event(), Event(), Event()

    def on_result(result: Recognition) -> None:
        choices.append(result.choice)
        seen.set()
        refreshed.wait(20)

    with StreamRecognizer(partial, "cpu", partial=True, price=0.0) as recognizer:
        recognizer.start(film([BRIGHT] * 4), on_result, errors.append, ended.set)
        assert seen.wait(20)
        bring(partial / LOW, stored_bundle)
        assert recognizer.refresh() == ("bits8",)
        refreshed.set()
        assert ended.wait(20)
    assert not errors
    assert choices == ["bits4", "bits8", "bits8", "bits8"]


def test_an_altered_plane_leaves_the_stream_as_it_was(partial: Path) -> None:
    with StreamRecognizer(partial, "cpu", partial=True) as recognizer:
        stream = recognizer.stream(film([BRIGHT, BRIGHT]))
        next(stream)
        (partial / LOW).write_bytes(b"half of it")
        with pytest.raises(BundleError, match=r"net\.low: is 10 bytes"):
            recognizer.refresh()
        assert next(stream).choice == "bits4"
        assert recognizer.options == NARROW


def test_fixed_option_without_its_plane(stored_bundle: Bundle, partial: Path) -> None:
    with pytest.raises(AdaptiveVideoError, match="option bits8: its graph net-8 is not there"):
        StreamRecognizer(partial, "cpu", partial=True, fixed="bits8")
    with StreamRecognizer(partial, "cpu", partial=True, fixed="bits4") as recognizer:
        bring(partial / LOW, stored_bundle)
        assert recognizer.refresh() == ()
        assert {result.choice for result in recognizer.stream(film([BRIGHT] * 2))} == {"bits4"}
        assert [entry.graph for entry in recognizer.declared] == ["net-4"]


def test_random_choice_draws_from_what_is_there(stored_bundle: Bundle, partial: Path) -> None:
    with StreamRecognizer(partial, "cpu", partial=True, random_seed=0) as recognizer:
        assert "bits8" not in {result.choice for result in recognizer.stream(film([MIDDLE] * 30))}
        bring(partial / LOW, stored_bundle)
        assert recognizer.refresh() == ("bits8",)
        assert "bits8" in {result.choice for result in recognizer.stream(film([MIDDLE] * 30))}


def test_policy_without_its_plane(stored_bundle: Bundle, tmp_path: Path) -> None:
    """A policy of 8 bits cannot run without the low plane, so nothing is chosen by it."""
    manifest = stored_bundle.manifest
    fields = {name: getattr(manifest, name) for name in Manifest.model_fields}
    policy = manifest.graph("policy").model_copy(update={"store": "net", "bits": 8})
    graphs = (policy, *(graph for graph in manifest.graphs if graph.name != "policy"))
    del fields["files"]
    bundle = write_bundle(tmp_path / "stored.bundle", stored_bundle.folder, fields | {"graphs": graphs})
    (bundle.folder / LOW).unlink()
    with pytest.raises(BundleError, match=r"net\.low: is missing, and graph policy needs it"):
        StreamRecognizer(bundle.folder, "cpu", partial=True)
