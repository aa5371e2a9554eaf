"""Listings of streams: what is read of them, and one error for each thing that is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compiler.data.streams.labeled_streams import Event, find_streams, is_stream_listing
from compiler.errors import DataError
from tests.compiler.data.clip_files import touch

LABELS = ("a", "b")
HEAD = "path,start_s,end_s,label"


def listing(folder: Path, *lines: str, head: str = HEAD) -> Path:
    touch(folder, {line.split(",")[0] for line in lines if not line.startswith("gone")} - {""})
    path = folder / "streams.csv"
    path.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    return path


def activitynet(folder: Path, database: Any, *files: str) -> Path:
    touch(folder, files)
    path = folder / "activity.json"
    path.write_text(json.dumps({"database": database}), "utf-8")
    return path


def test_events_by_stream_and_background_between(tmp_path: Path) -> None:
    found = find_streams(listing(tmp_path, "one.mp4,3,5.5,b", "one.mp4,0.5,2,a", "two.mp4,,,"), LABELS)
    one, two = found.streams
    assert one.events == (Event(0.5, 2.0, "a"), Event(3.0, 5.5, "b")) and two.events == ()


def test_an_overlap_is_cut_and_counted(tmp_path: Path) -> None:
    found = find_streams(listing(tmp_path, "one.mp4,0,4,a", "one.mp4,2,6,b", "one.mp4,1,3,a"), LABELS)
    assert found.streams[0].events == (Event(0, 4, "a"), Event(4, 6, "b")) and found.overlaps == 2


def test_test_streams_come_first_then_validation_then_all(tmp_path: Path) -> None:
    head = f"{HEAD},split"
    rows = ("one.mp4,0,1,a,train", "two.mp4,0,1,a,validation", "three.mp4,0,1,b,testing")
    path = listing(tmp_path, *rows, head=head)
    names = {
        split: [stream.path.name for stream in find_streams(path, LABELS, split).streams]
        for split in (None, "val", "all")
    }
    assert names == {None: ["three.mp4"], "val": ["two.mp4"], "all": ["one.mp4", "two.mp4", "three.mp4"]}


@pytest.mark.parametrize(
    ("head", "row", "says"),
    [
        ("path,start_s,label", "one.mp4,0,a", "lacks the column end_s"),
        (f"{HEAD},label", "one.mp4,0,1,a,a", "'label' twice"),
        (HEAD, "one.mp4,0,1,a,b", "more values than there are columns"),
        (HEAD, ",0,1,a", "has no path"),
        (HEAD, "one.mp4,0,1,", "has times and no label"),
        (HEAD, "one.mp4,1,1,a", "begins at 1 s and ends at 1 s"),
        (HEAD, "one.mp4,-1,1,a", "start_s is '-1'"),
        (HEAD, "one.mp4,0,nan,a", "end_s is 'nan'"),
        (HEAD, "one.mp4,0,soon,a", "end_s is 'soon'"),
        (HEAD, "one.mp4,0,1,z", "has the class z"),
        (f"{HEAD},split", "one.mp4,0,1,a,both", "the split is 'both'"),
        (HEAD, "gone.mp4,0,1,a", "1 of 1 videos are not there: gone.mp4"),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path: Path, head: str, row: str, says: str) -> None:
    path = listing(tmp_path, row, head=head)
    with pytest.raises(DataError, match=says):
        find_streams(path, LABELS)


def test_a_video_in_two_splits_and_an_empty_list(tmp_path: Path) -> None:
    path = listing(tmp_path, "one.mp4,0,1,a,train", "one.mp4,2,3,a,val", head=f"{HEAD},split")
    with pytest.raises(DataError, match=r"one.mp4 in two splits"):
        find_streams(path, LABELS)
    with pytest.raises(DataError, match="lists no streams"):
        find_streams(listing(tmp_path), LABELS)


def test_test_streams_without_labels_are_not_chosen(tmp_path: Path) -> None:
    """As in ActivityNet's own file."""
    database = {
        "one": {"subset": "testing", "annotations": []},
        "two": {"subset": "validation", "annotations": [{"label": "b", "segment": [0, 1]}]},
    }
    found = find_streams(activitynet(tmp_path, database, "one.mp4", "two.mp4"), LABELS)
    assert [stream.path.name for stream in found.streams] == ["two.mp4"]


def test_activitynet(tmp_path: Path) -> None:
    database = {
        "one": {"subset": "validation", "annotations": [{"label": "a", "segment": [1, 2.5]}]},
        "two": {"subset": "training", "annotations": [{"label": "b", "segment": [0, 1]}]},
        "three": {"subset": "validation", "annotations": []},
    }
    path = activitynet(tmp_path, database, "v_one.mkv", "videos/two.mp4", "three.webm")
    found = find_streams(path, LABELS)
    assert [stream.path.name for stream in found.streams] == ["v_one.mkv", "three.webm"]
    assert found.streams[0].events == (Event(1.0, 2.5, "a"),) and found.streams[1].events == ()
    assert find_streams(path, LABELS, "train").streams[0].path.name == "two.mp4"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"subset": "other", "annotations": []}, "the subset is 'other'"),
        ({"annotations": []}, "the subset is None"),
        ([], "is not an object"),
        ({"subset": "testing", "annotations": [{"label": "a", "segment": "12"}]}, "has the annotation"),
        (
            {"subset": "testing", "annotations": [{"label": "a", "segment": [0, 10**400]}]},
            "has the annotation",
        ),
        ({"subset": "testing", "annotations": {"label": "a"}}, "annotations are not a list"),
        ({"subset": "testing", "annotations": [{"label": "a"}]}, "has the annotation"),
        ({"subset": "testing", "annotations": [{"label": "a", "segment": [2, 1]}]}, "has the annotation"),
        ({"subset": "testing", "annotations": [{"label": 3, "segment": [0, 1]}]}, "has the annotation"),
        ({"subset": "testing", "annotations": [{"label": "a", "segment": ["x", 1]}]}, "has the annotation"),
    ],
)
def test_what_is_wrong_with_activitynet(tmp_path: Path, entry: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        find_streams(activitynet(tmp_path, {"one": entry}), LABELS)


@pytest.mark.parametrize("text", ["", "[1]", '{"database": {}}', '{"database": [1]}', "\x00", "[" * 100_000])
def test_what_is_no_activitynet(tmp_path: Path, text: str) -> None:
    path = tmp_path / "activity.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"is not JSON|has no database"):
        find_streams(path, LABELS)


def test_what_is_a_listing_of_streams(tmp_path: Path) -> None:
    assert is_stream_listing(listing(tmp_path, "one.mp4,0,1,a"))
    assert is_stream_listing(activitynet(tmp_path, {}))
    assert is_stream_listing(listing(tmp_path, '"one.mp4",0,1,a', head='"path","start_s","end_s","label"'))
    clips = tmp_path / "clips.csv"
    clips.write_text("path,label\n", "utf-8")
    assert not is_stream_listing(clips) and not is_stream_listing(tmp_path)
    assert not is_stream_listing(tmp_path / "gone.csv")
