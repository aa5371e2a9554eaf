from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.data import ClipSet, find_clips
from compiler.data.clips import find_evaluated_clips
from compiler.data.splitting import val_groups
from compiler.errors import DataError
from tests.compiler.data.clip_files import touch, write_listing

HEADER = "path,label,group,split"
GOOD = ("1.mp4,a,g1,train", "2.mp4,a,g2,val", "3.mp4,b,g1,train", "4.mp4,b,g2,val")


def names(clips: ClipSet, split: str) -> list[str]:
    return sorted(clip.path.name for clip in clips.clips if clip.split == split)


def test_csv_and_the_folder_that_holds_it(tmp_path: Path) -> None:
    listing = write_listing(tmp_path, HEADER, *GOOD)
    for path in (listing, tmp_path, str(tmp_path)):
        clips = find_clips(path)
        assert clips.labels == ("a", "b")
        assert names(clips, "train") == ["1.mp4", "3.mp4"]
        assert [clip.group for clip in clips.split("val")] == ["g2", "g2"]


def test_folders_with_splits(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.mp4", "train/b/2.MOV", "val/a/deep/3.mkv", "val/b/4.webm", "val/b/notes.txt"])
    clips = find_clips(tmp_path)
    assert names(clips, "train") == ["1.mp4", "2.MOV"]
    assert names(clips, "val") == ["3.mkv", "4.webm"]


def test_other_names_of_splits_and_test_clips_that_are_left_alone(tmp_path: Path) -> None:
    rows = ("5.mp4,a,g3,test", "6.mp4,b,g3,TEST")
    named = [row.replace("train", "Training").replace("val", "valid") for row in GOOD]
    clips = find_clips(write_listing(tmp_path / "csv", HEADER, *named, *rows))
    assert names(clips, "train") == ["1.mp4", "3.mp4"] and names(clips, "val") == ["2.mp4", "4.mp4"]
    assert clips.test_clips == 2 and len(clips.clips) == 4
    folders = ["train/a/1.mp4", "train/b/2.mp4", "valid/a/3.mp4", "validation/b/4.mp4", "test/a/5.mp4"]
    clips = find_clips(touch(tmp_path / "folders", folders))
    assert names(clips, "val") == ["3.mp4", "4.mp4"] and clips.test_clips == 1


def test_validation_clips_are_chosen_where_only_test_clips_are_set_apart(tmp_path: Path) -> None:
    files = [f"train/{label}/{number}.mp4" for label in "ab" for number in range(10)]
    clips = find_clips(touch(tmp_path, [*files, "test/a/x.mp4", "test/b/y.mp4"]))
    assert Counter(clip.label for clip in clips.split("val")) == {"a": 2, "b": 2} and clips.test_clips == 2


def test_folders_without_splits_are_split_by_name_alone(tmp_path: Path) -> None:
    files = [f"{label}/{number}.mp4" for label in "abc" for number in range(20)]
    clips = find_clips(touch(tmp_path, [*files, ".hidden/x.mp4"]))
    assert Counter(clip.label for clip in clips.split("val")) == {"a": 4, "b": 4, "c": 4}
    touch(tmp_path / "again", reversed(files))
    again = find_clips(tmp_path / "again")
    assert names(again, "val") == names(clips, "val")


def test_groups_are_kept_whole(tmp_path: Path) -> None:
    rows = [f"{label}{n}.mp4,{label},person{n % 10}" for label in "ab" for n in range(40)]
    clips = find_clips(write_listing(tmp_path, "path,label,group", *rows))
    groups = {split: {c.group for c in clips.clips if c.split == split} for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    assert len(groups["val"]) == 2


def test_a_label_never_loses_its_last_training_clip() -> None:
    assert len(val_groups([("g", "a"), ("h", "a")])) == 1
    assert val_groups([("g", "a")]) == frozenset()


def test_classes_restrict(tmp_path: Path) -> None:
    listing = write_listing(tmp_path, HEADER, *GOOD, "5.mp4,c,g,train")
    assert find_clips(listing, classes=("b", "a")).labels == ("a", "b")
    with pytest.raises(DataError, match="no class d"):
        find_clips(listing, classes=("a", "d"))


def test_fingerprint_moves_with_the_folder_and_changes_with_the_content(tmp_path: Path) -> None:
    write_listing(tmp_path / "here", HEADER, *GOOD)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = (find_clips(tmp_path / name).fingerprint for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "1.mp4").write_text("longer")
    assert find_clips(tmp_path / "there").fingerprint != here


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["label,split", *GOOD], "column path"),
        (["file,class"], "path and label"),
        (["path,label,split", "1.mp4,a,tset"], "line 2.*'tset'.*train, val or test"),
        (["path,label,split", "1.mp4,a"], "line 2.*None"),
        (["path,label", "1.mp4,"], "line 2.*no label"),
        (["path,label", "1.mp4,a", "", "2.mp4,b,c"], "line 4: has more values than there are columns"),
        (["path,label,label", "1.mp4,a,b"], "has the column 'label' twice"),
        (["path,label", "1.mp4,a", "./1.mp4,b"], "twice"),
        (["path,label"], "no clips"),
        ([""], "lacks the columns path and label"),
        (["path,label,split", "1.mp4,a,train", "2.mp4,a,val"], "one class a"),
        ([HEADER, *GOOD, "5.mp4,c,g,train"], "class c has no usable val"),
        (["path,label", "1.mp4,a", "2.mp4,b"], "class a has no usable val"),
    ],
)
def test_malformed_listings(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        find_clips(write_listing(tmp_path, *lines))


@pytest.mark.parametrize(
    "lines",
    [
        ["path,label"],
        ["path,label,label"],
        [HEADER, GOOD[0], GOOD[1]],
        [HEADER, *GOOD, "5.mp4,c,g,train"],
        ["path,label,split", "1.mp4,a,train", "2.mp4,a,val"],
    ],
)
def test_errors_name_the_listing_and_not_its_folder(tmp_path: Path, lines: list[str]) -> None:
    listing = write_listing(tmp_path, *lines)
    for given in (listing, tmp_path):
        with pytest.raises(DataError) as caught:
            find_clips(given)
        assert str(caught.value.thing) == str(listing.resolve())


def test_missing_files_and_unknown_classes_name_the_listing(tmp_path: Path) -> None:
    listing = write_listing(tmp_path, HEADER, *GOOD)
    with pytest.raises(DataError, match=r"clips\.csv: has no class d"):
        find_clips(tmp_path, classes=("a", "d"))
    with pytest.raises(DataError, match=r"clips\.csv: states no test clips"):
        find_evaluated_clips(tmp_path, ("a", "b"), "test")
    with pytest.raises(DataError, match=r"clips\.csv: has the class b"):
        find_evaluated_clips(tmp_path, ("a",), "all")
    (tmp_path / "1.mp4").unlink()
    with pytest.raises(DataError, match=r"clips\.csv: 1 of 4 clips cannot be used"):
        find_clips(listing)


def test_not_text_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a csv"):
        find_clips(tmp_path)
    with pytest.raises(DataError, match="no such"):
        find_clips(tmp_path / "absent")
    with pytest.raises(DataError, match="no clips"):
        find_clips(touch(tmp_path / "empty", ["readme.txt"]))


def test_one_split_folder_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train/ but no val/"):
        find_clips(touch(tmp_path, ["train/a/1.mp4"]))


def test_few_missing_files_are_listed_and_many_are_an_error(tmp_path: Path) -> None:
    rows = [f"{n}.mp4,{'ab'[n % 2]},g{n},{('train', 'val')[n // 2 % 2]}" for n in range(40)]
    listing = write_listing(tmp_path, HEADER, *rows)
    (tmp_path / "7.mp4").unlink()
    clips = find_clips(listing)
    assert len(clips.clips) == 39
    assert clips.rejected == ((tmp_path.resolve() / "7.mp4", "no such file"),)
    for n in range(8, 16):
        (tmp_path / f"{n}.mp4").unlink()
    with pytest.raises(DataError, match=r"9 of 40 clips cannot be used: 7\.mp4 .*and 4 more"):
        find_clips(listing)


def test_a_class_that_vanishes_is_an_error(tmp_path: Path) -> None:
    rows = [f"{n}.mp4,{'ab'[n % 2]},g{n},{('train', 'val')[n // 2 % 2]}" for n in range(40)]
    listing = write_listing(tmp_path, HEADER, *rows, "c1.mp4,c,g,train", "c2.mp4,c,h,val")
    (tmp_path / "c2.mp4").unlink()
    with pytest.raises(DataError, match=r"class c has no usable val clips \(1 were rejected\)"):
        find_clips(listing)


@pytest.mark.parametrize("name", ["ucf101_six", "grid_digits", "weizmann"])
def test_real_data_sets(real_data: Callable[[str], Path], name: str) -> None:
    clips = find_clips(real_data(name))
    assert not clips.rejected
    assert len(clips.split("train")) > len(clips.split("val")) > 0
