"""Each benchmark's layout, built in small, is read field by field as its makers mean it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark_folders import SMALL, audioset, kinetics, kinetics_sounds, put, vggsound
from seehear.errors import SettingsError
from seehear.evaluation.classes import read_classes
from seehear.evaluation.datasets import LAYOUTS, Benchmark, read_benchmark

ESC10 = Path(__file__).parents[2] / ".cache" / "real-media" / "esc-10"


def parts(benchmark: Benchmark, split: int = 0) -> tuple[list[str], list[str], list[str]]:
    """Names of the items of train, test and validation."""
    chosen = benchmark.splits[split]
    return tuple(
        [benchmark.items[i].name for i in part]
        for part in (chosen.train, chosen.test, chosen.validation)
    )


def classes_of(benchmark: Benchmark) -> dict[str, list[str]]:
    return {item.name: [benchmark.classes[c] for c in item.classes] for item in benchmark.items}


@pytest.mark.parametrize("layout", SMALL)
def test_every_layout_is_detected_and_holds_together(tmp_path, layout):
    root = SMALL[layout](tmp_path)
    found, named = read_benchmark(root), read_benchmark(root, layout)
    assert found.name == named.name == layout
    assert found.items == named.items
    assert found.root == tmp_path
    assert found.source
    assert len({item.name for item in found.items}) == len(found.items)
    for item in found.items:
        assert Path(item.path).is_absolute()
        assert Path(item.path).is_file()
        assert all(0 <= c < len(found.classes) for c in item.classes)
        assert found.multilabel or len(item.classes) == 1
    for split in found.splits:
        numbers = np.concatenate([split.train, split.test, split.validation])
        assert numbers.dtype == np.int64
        assert len(set(numbers.tolist())) == len(numbers)
        assert len(split.train) + len(split.test) > 0
        assert all(0 <= i < len(found.items) for i in numbers)
        assert all(
            (np.diff(part) > 0).all() for part in (split.train, split.test, split.validation)
        )
    if layout not in ("dcase2014", "esc10"):  # have no lists
        assert len(found.items) + len(found.missing) == found.num_official


def test_ucf101(tmp_path):
    found = read_benchmark(SMALL["ucf101"](tmp_path))
    assert found.classes == ("ApplyEyeMakeup", "HandstandPushups")
    assert found.modalities == ("video",)
    assert [split.name for split in found.splits] == ["1", "2", "3"]
    assert found.missing == ("v_HandStandPushups_g02_c01", "v_ApplyEyeMakeup_g03_c01")
    assert found.num_official == 6
    assert parts(found) == (["v_ApplyEyeMakeup_g02_c01", "v_HandStandPushups_g03_c01"], *_ones())
    paths = {item.name: item.path for item in found.items}
    assert paths["v_ApplyEyeMakeup_g02_c01"].endswith(
        "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.mp4"
    )
    assert paths["v_HandStandPushups_g01_c01"].endswith(
        "HandStandPushups/v_HandstandPushups_g01_c01.avi"
    )
    assert classes_of(found)["v_HandStandPushups_g01_c01"] == ["HandstandPushups"]


def _ones() -> tuple[list[str], list[str]]:
    return ["v_ApplyEyeMakeup_g01_c01", "v_HandStandPushups_g01_c01"], []


def test_ucf101_with_lists_and_classes_in_the_root_and_one_split(tmp_path):
    root = SMALL["ucf101"](tmp_path)
    for file in (root / "ucfTrainTestlist").iterdir():
        file.rename(root / file.name)
    for folder in (root / "UCF-101").iterdir():
        folder.rename(root / folder.name)
    before = read_benchmark(root)
    assert len(before.splits) == 3
    for n in (2, 3):
        (root / f"trainlist0{n}.txt").unlink()
        (root / f"testlist0{n}.txt").unlink()
    found = read_benchmark(root)
    assert [split.name for split in found.splits] == ["1"]
    assert parts(found) == parts(before)
    assert "01 of UCF101" in found.source


def test_hmdb51(tmp_path):
    found = read_benchmark(SMALL["hmdb51"](tmp_path))
    assert found.classes == ("brush_hair", "wave")
    assert found.modalities == ("video",)
    assert [split.name for split in found.splits] == ["1", "2", "3"]
    assert parts(found) == (["brush_hair/April_09 (1)#x", "wave/b"], ["brush_hair/b", "wave/c"], [])
    assert parts(found, 2) == (
        ["brush_hair/b", "wave/b"],
        ["brush_hair/April_09 (1)#x", "wave/c"],
        [],
    )
    assert "wave/d" in {item.name for item in found.items}  # official, in no part
    assert classes_of(found)["wave/b"] == ["wave"]
    assert (found.num_official, found.missing) == (5, ())


def test_kinetics(tmp_path):
    found = read_benchmark(kinetics(tmp_path))
    assert found.classes == ("abseiling", "air drumming")
    assert found.modalities == ("video", "audio")
    assert parts(found) == (
        ["_dbcJuKJQNs_000040_000050", "-3B32lodo2M_000059_000069"],
        ["bbbbbbbbbbb_000000_000010"],
        [],
    )
    assert found.missing == ("aaaaaaaaaaa_000001_000011", "ccccccccccc_000100_000110")
    assert [(item.start_s, item.seconds) for item in found.items] == [
        (0.0, None),
        (59.0, 10.0),
        (0.0, None),
    ]
    assert (
        found.source
        == "lists train.csv, val.csv of Kinetics-400 (Kay et al. 2017), trained on train and "
        "tested on validation"
    )
    assert read_benchmark(tmp_path, "kinetics700").name == "kinetics700"


def test_kinetics_lists_without_a_split_column_or_without_validation(tmp_path):
    header, row = "label,youtube_id,time_start,time_end\n", "{},{},0,10\n"
    put(
        tmp_path,
        {"k600_train.csv": header + row.format("a", "x1") + row.format("b", "x2")},
        "x1.mp4 x3.mp4",
    )
    put(tmp_path, {"k600_test.csv": header + row.format("a", "x3")})
    found = read_benchmark(tmp_path, "kinetics600")
    assert parts(found) == (["x1_000000_000010"], ["x3_000000_000010"], [])
    assert found.source.endswith("tested on test")
    with pytest.raises(SettingsError, match="No CSV file"):
        read_benchmark(tmp_path, "kinetics400")  # the lists say that they are of another size


def test_kinetics_knows_its_size_by_the_number_of_classes(tmp_path):
    rows = [f"class {i},id{i},0,10,{part}" for i in range(401) for part in ("train",)] + [
        "class 0,v,0,10,val"
    ]
    put(
        tmp_path,
        {"all.csv": "label,youtube_id,time_start,time_end,split\n" + "\n".join(rows)},
        "v.mp4 id0.mp4",
    )
    assert read_benchmark(tmp_path).name == "kinetics600"
    with pytest.raises(
        SettingsError, match=r"all\.csv .* 401 classes, more than 400. Name the layout kinetics600"
    ):
        read_benchmark(tmp_path, "kinetics400")


@pytest.mark.parametrize("size", [31, 32, 34])
def test_kinetics_sounds_by_definition(tmp_path, size):
    found = read_benchmark(kinetics_sounds(tmp_path, size), f"kinetics-sounds-{size}")
    assert len(found.classes) == size == len(set(found.classes))
    assert found.num_official == 2 * size
    assert "abseiling" not in found.classes
    assert f"{size}" in found.source or size == 32
    assert [len(part) for part in parts(found)] == [1, 1, 0]
    assert read_benchmark(tmp_path).name == "kinetics400"  # a definition must be named


def test_kinetics_sounds_without_a_number_is_the_31_and_says_what_lists_lack(tmp_path):
    assert read_benchmark(kinetics_sounds(tmp_path), "kinetics-sounds").name == "kinetics-sounds-31"
    with pytest.raises(
        SettingsError,
        match=r"fingerpicking, patting, typing.*kinetics-sounds-31, kinetics-sounds-32",
    ):
        read_benchmark(tmp_path, "kinetics-sounds-34")


def test_vggsound(tmp_path):
    found = read_benchmark(vggsound(tmp_path))
    assert found.classes == ("people marching", "playing violin, fiddle", "waterfall burbling")
    assert parts(found) == (["--0PQM4-hqg_000030", "-_a_000000"], ["---g-f_I2yQ_000001"], [])
    assert [(i.start_s, i.seconds) for i in found.items] == [(0.0, None), (30.0, 10.0), (0.0, None)]
    assert (found.missing, found.num_official) == (("zzz_000005",), 4)
    assert found.modalities == ("video", "audio")


def test_vggsound_as_sound_with_a_header(tmp_path):
    text = "# comment\nyoutube_id,start_seconds,label,split\na,1,x,train\nb,2,y,test\n"
    found = read_benchmark(
        put(
            tmp_path,
            {"vggsound.csv": text.removeprefix("# comment\n")},
            "a_000001.wav b_000002.flac",
        )
    )
    assert found.modalities == ("audio",)
    assert [len(part) for part in parts(found)] == [1, 1, 0]


def test_audioset(tmp_path):
    found = read_benchmark(audioset(tmp_path))
    assert found.multilabel
    assert found.classes == ("Speech", "Male speech, man speaking", "Gargling")
    assert [item.classes for item in found.items] == [(0, 2), (1,), (0,)]
    assert parts(found) == (["--4gqARaEJE", "---1_cCGK4M"], ["--BfvyPmVMo"], [])
    assert all((item.start_s, item.seconds) == (0.0, None) for item in found.items)
    assert (found.missing, found.modalities) == (("missing_one",), ("audio",))
    small = read_benchmark(tmp_path, "audioset-balanced")
    assert (small.name, parts(small)[0]) == ("audioset-balanced", ["--4gqARaEJE"])
    assert "unbalanced" in found.source
    assert "unbalanced" not in small.source


def test_ave(tmp_path):
    found = read_benchmark(SMALL["ave"](tmp_path))
    assert found.classes == ("Bark", "Church bell")
    bell, bark = "Church bell&RUhOCu3LNXM&good&0&10", "Bark&3jS8tWfLJxI&good&7&9"
    silent, second = "Church bell&VWi2ENBuTbw&good&0&0", "Bark&RUhOCu3LNXM&good&2&4"
    assert parts(found) == ([bell, bark], [silent, second], ["Bark&E_1Asfq8it4&good&0&3"])
    stretch = {item.name: (item.start_s, item.seconds) for item in found.items}
    assert (stretch[bell], stretch[bark]) == ((0.0, 10.0), (7.0, 2.0))
    assert (stretch[silent], stretch[second]) == ((0.0, None), (2.0, 2.0))
    assert found.missing == ("Bark&gone_gone_1&good&0&10",)
    (tmp_path / "Annotations.txt").unlink()
    (tmp_path / "valSet.txt").unlink()
    assert parts(read_benchmark(tmp_path)) == ([bell, bark], [silent, second], [])


def test_esc50(tmp_path):
    found = read_benchmark(SMALL["esc50"](tmp_path))
    assert found.classes == ("dog", "rooster")  # by number, not as listed
    assert [split.name for split in found.splits] == [f"fold {n}" for n in range(1, 6)]
    assert parts(found)[1] == ["1-100031-A-0.wav"]
    assert len(parts(found)[0]) == 8
    assert found.missing == ("1-100031-A-1.wav",)
    assert (found.num_official, found.modalities) == (10, ("audio",))
    assert sorted(i for split in found.splits for i in split.test) == list(range(9))


def test_esc10(tmp_path):
    found = read_benchmark(SMALL["esc10"](tmp_path))
    assert found.classes == ("Rain", "Fire crackling")  # by number
    assert [split.name for split in found.splits] == ["fold 1", "fold 2", "fold 3"]
    assert parts(found)[1] == ["1-5-A.ogg", "1-100-A.ogg", "1-100-B.ogg"]
    assert parts(found)[0] == ["2-9-A.ogg", "2-7-A.ogg", "3-21-A.ogg"]
    assert classes_of(found)["1-100-B.ogg"] == ["Fire crackling"]
    assert (found.num_official, found.missing, found.modalities) == (400, (), ("audio",))


def test_esc10_has_ten_folders_each_with_a_number_of_its_own(tmp_path):
    root = SMALL["esc10"](tmp_path)
    put(root / "002 - Sea waves", {}, "1-6-A.ogg")
    with pytest.raises(SettingsError, match=r"1-6-A.ogg, line 1: class 2 is 'Sea waves' here"):
        read_benchmark(root)
    (root / "002 - Sea waves").rename(root / "011 - Sea waves")
    for number in range(12, 21):
        put(root / f"{number:03d} - Class {number}", {}, f"1-{number}-A.ogg")
    with pytest.raises(SettingsError, match=r"has 12 folders such as 002 - Rain. ESC-10 has 10"):
        read_benchmark(root)


@pytest.mark.skipif(not ESC10.is_dir(), reason=f"ESC-10 is not in {ESC10}")
def test_esc10_as_it_was_published():
    found = read_benchmark(ESC10)
    assert (found.name, len(found.items), found.num_official) == ("esc10", 400, 400)
    assert found.classes[:3] == ("Dog bark", "Rain", "Sea waves")
    assert len(found.splits) == 5
    fold_of = {item.name: item.name[0] for item in found.items}
    for split in found.splits:
        tested = [found.items[i] for i in split.test]
        assert {fold_of[item.name] for item in tested} == {split.name[-1]}
        assert [item.classes[0] for item in tested] == sorted([*range(10)] * 8)
        takes = {item.name.split("-")[1] for item in tested}
        assert not takes & {found.items[i].name.split("-")[1] for i in split.train}


def test_dcase2014(tmp_path):
    found = read_benchmark(SMALL["dcase2014"](tmp_path))
    assert len(found.classes) == 10
    train, test = ["scenes_stereo/bus01.wav", "scenes_stereo/tube03.wav"], "scenes_stereo_testset/"
    assert parts(found) == (train, [f"{test}bus01.wav", f"{test}tubestation10.wav"], [])
    assert classes_of(found)[f"{test}tubestation10.wav"] == ["tubestation"]
    assert (found.num_official, found.missing) == (200, ())


def test_dcase2014_as_other_tools_store_it(tmp_path):
    put(tmp_path, {}, "DCASE2013-acoustic-scenes-development/scenes_stereo/bus01.wav")
    put(tmp_path, {}, "DCASE2013-acoustic-scenes-evaluation/audio/test_bus01.wav")
    assert [len(part) for part in parts(read_benchmark(tmp_path, "dcase2014"))] == [1, 1, 0]


def test_tut(tmp_path):
    found = read_benchmark(SMALL["tut"](tmp_path))
    assert found.classes == ("beach", "cafe/restaurant")
    assert [split.name for split in found.splits] == ["fold 1", "fold 2"]
    assert parts(found) == (
        ["audio/b020_90_100.wav"],
        ["audio/b030_0_10.wav", "audio/a002_0_10.wav"],
        [],
    )
    # fold 2 has no list with classes
    assert parts(found, 1) == tuple(parts(found)[i] for i in (1, 0, 2))
    assert found.missing == ("audio/a001_0_10.wav",)


def test_urbansound8k(tmp_path):
    found = read_benchmark(SMALL["urbansound8k"](tmp_path))
    assert found.classes == ("children", "dog_bark")
    assert [split.name for split in found.splits] == ["fold 5", "fold 10"]
    assert parts(found) == (["100648-1-0-0.wav"], ["100032-3-0-0.wav"], [])
    assert found.missing == ("100263-2-0-117.wav",)  # it lies in another fold's folder


def test_speechcommands(tmp_path):
    found = read_benchmark(SMALL["speechcommands"](tmp_path))
    assert found.classes == ("bed", "cat")
    assert parts(found) == (
        ["bed/2_nohash_0.wav", "cat/2_nohash_0.wav"],
        ["bed/1_nohash_0.wav"],
        ["bed/0_nohash_0.wav"],
    )
    assert found.missing == ("cat/0_nohash_0.wav",)
    assert "all 2 words" in found.source


def test_folders_with_parts(tmp_path):
    put(
        tmp_path,
        {},
        "train/a/1.mp4 train/b/deep/2.mp4 test/a/3.mp4 test/b/4.mp4 val/b/5.mp4 train/loose.mp4 "
        "top.mp4",
    )
    found = read_benchmark(tmp_path)
    assert (found.name, found.classes, found.modalities) == (
        "folders",
        ("a", "b"),
        ("video", "audio"),
    )
    assert parts(found) == (
        ["train/a/1.mp4", "train/b/deep/2.mp4"],
        ["test/a/3.mp4", "test/b/4.mp4"],
        ["val/b/5.mp4"],
    )
    assert found.num_official == 5


def test_folders_with_val_alone_are_tested_on_it(tmp_path):
    put(tmp_path, {}, "training/a/1.wav training/b/2.mp4 valid/a/3.wav")
    found = read_benchmark(tmp_path)
    assert (parts(found)[1], found.modalities) == (["valid/a/3.wav"], ("audio",))
    assert "valid is tested on" in found.source


def test_folders_without_parts_are_drawn_by_class_from_the_seed(tmp_path):
    put(tmp_path, {}, " ".join(f"{label}/{i}.wav" for label in "ab" for i in range(12)))
    one, again, other = (read_benchmark(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert parts(one) == parts(again)
    assert parts(one) != parts(other)
    assert [name[0] for name in parts(one)[1]] == ["a"] * 3 + ["b"] * 3
    assert len(one.splits[0].train) == 18
    assert "seed 0" in one.source
    assert "seed 1" in other.source
    assert parts(read_benchmark(tmp_path, "folders")) == parts(one)


def test_classes_csv(tmp_path):
    text = "path,class,split\nx/1.mp4,b,train\n./x/1.mp4,b,train\nx/2.mp4,a,train\n"
    text += "y/3.unknown,a,test\nz/4.mp4,b,test\n"
    found = read_benchmark(
        put(tmp_path, {"classes.csv": "\ufeff" + text}, "x/1.mp4 x/2.mp4 y/3.unknown")
    )
    assert (found.name, found.classes, found.num_official) == ("csv", ("a", "b"), 4)
    assert parts(found) == (["x/1.mp4", "x/2.mp4"], ["y/3.unknown"], [])
    assert found.missing == ("z/4.mp4",)


def test_classes_csv_without_a_split_is_drawn_as_the_probe_draws_it(tmp_path):
    names = [f"{label}{i}.wav" for label in "ab" for i in range(8)]
    put(
        tmp_path,
        {"classes.csv": "path,class\n" + "".join(f"{name},{name[0]}\n" for name in names)},
        " ".join(names),
    )
    found, classes = read_benchmark(tmp_path), read_classes(tmp_path / "classes.csv")
    drawn = classes.is_test(list(classes.of), 0)
    assert parts(found)[1] == [name for name, is_test in zip(names, drawn, strict=True) if is_test]
    assert "seed 0" in found.source


def test_the_synthetic_set_is_a_benchmark(videos):
    found = read_benchmark(videos)
    assert (found.name, len(found.classes), found.missing) == ("csv", 4, ())
    assert len(found.items) == 40


def test_links_and_unicode_names_in_either_form(tmp_path):
    put(tmp_path / "far", {}, "cafe\u0301/1.mp4 b/2.mp4")
    text = "label,youtube_id,time_start,time_end,split\nx,caf\u00e9,0,10,train\ny,b,0,10,val\n"
    root = put(tmp_path / "near", {"list.csv": text})
    (root / "videos").symlink_to(tmp_path / "far")
    (root / "videos" / "b" / "loop").symlink_to(root)
    (root / "b.mp4").symlink_to(tmp_path / "far" / "b" / "2.mp4")
    (root / "broken.mp4").symlink_to("nowhere")
    (root / "videos" / "cafe\u0301" / "1.mp4").rename(root / "videos" / "cafe\u0301.mp4")
    found = read_benchmark(root)
    assert [Path(item.path).name for item in found.items] == ["cafe\u0301.mp4", "b.mp4"]
    assert found.missing == ()


def test_a_video_is_preferred_to_its_sound(tmp_path):
    root = vggsound(tmp_path)
    put(root, {}, "---g-f_I2yQ_000001.wav --0PQM4-hqg_000030.wav")
    found = read_benchmark(root)
    assert found.items[0].path.endswith(".mp4")
    # cut to its times, so it comes before the whole video
    assert found.items[1].path.endswith("_000030.wav")
    assert found.modalities == ("audio",)


def test_every_layout_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert not [name for name in LAYOUTS if f"`{name}`" not in page]
