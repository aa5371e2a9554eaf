"""How results look in a notebook."""

from __future__ import annotations

from sdk.results import ClipRecognition, Latency, Recognition


def recognition(label: str) -> Recognition:
    latency = Latency(0, 0, 0, 0, 0, 0, 1.5)
    return Recognition(0.25, 1, label, 0.75, ((label, 0.75),), "rgb224", "int8", latency, 0, False)


def test_a_result_is_a_table_of_its_own_words_alone() -> None:
    shown = recognition("<b>x")._repr_html_()
    assert shown.startswith("<table>") and "&lt;b&gt;x 0.75" in shown and "<b>" not in shown
    assert "1 at 0.25 s" in shown and "1.5 ms" in shown and "energy" not in shown


def test_a_clip_counts_its_choices() -> None:
    clip = ClipRecognition.of("clip.mp4", (recognition("one"), recognition("one")))
    assert "clip.mp4" in clip._repr_html_() and "rgb224 2" in clip._repr_html_()
