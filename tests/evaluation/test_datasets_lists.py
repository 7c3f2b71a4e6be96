"""Whatever is wrong in a benchmark's list is one error that names the file and the line; nothing
else comes out.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark_folders import SMALL, kinetics_sounds, put
from seehear.errors import SettingsError
from seehear.evaluation.datasets import Benchmark, read_benchmark

LISTS = {
    "ucf101": [
        "ucfTrainTestlist/classInd.txt",
        "ucfTrainTestlist/trainlist01.txt",
        "ucfTrainTestlist/testlist02.txt",
    ],
    "hmdb51": ["testTrainMulti_7030_splits/wave_test_split2.txt"],
    "kinetics400": ["annotations/train.csv", "annotations/val.csv"],
    "vggsound": ["vggsound.csv"],
    "audioset": ["class_labels_indices.csv", "balanced_train_segments.csv", "eval_segments.csv"],
    "ave": ["Annotations.txt", "trainSet.txt", "testSet.txt"],
    "esc50": ["meta/esc50.csv"],
    "tut": [
        "TUT-acoustic-scenes-2017-development/meta.txt",
        "TUT-acoustic-scenes-2017-development/evaluation_setup/fold2_train.txt",
        "TUT-acoustic-scenes-2017-development/evaluation_setup/fold2_test.txt",
    ],
    "urbansound8k": ["metadata/UrbanSound8K.csv"],
    "speechcommands": [
        "speech_commands_v0.02/validation_list.txt",
        "speech_commands_v0.02/testing_list.txt",
    ],
}
EYE = "ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi"

# layout, which of its lists, a line that is added at its end, what the error says
ADDED = [
    ("ucf101", 0, "4 Archery", r"classInd.txt, line 4: the number of the class is 4.*count up: 3"),
    ("ucf101", 0, "x Archery", "the number of the class is 'x'"),
    ("ucf101", 0, "3", "line 4: '3' is no class. Expected: 3 ClassName"),
    ("ucf101", 0, "3 handstandpushups", "twice"),
    (
        "ucf101",
        1,
        "Archery/v_Archery_g01_c01.avi 1",
        "line 5: 'Archery' is not one of the 2 classes",
    ),
    ("ucf101", 1, "ApplyEyeMakeUps/v.avi 1", "Did you mean 'ApplyEyeMakeup'"),
    ("ucf101", 1, f"{EYE} 2", "line 5: .* has the class 2, but ApplyEyeMakeup is 1"),
    ("ucf101", 1, f"{EYE} 3", "the class is '3'. It must be a whole number from 1 to 2"),
    ("ucf101", 1, "v_ApplyEyeMakeup_g09_c01.avi 1", "is no video. Expected: Class/v_Class"),
    ("ucf101", 1, "../ApplyEyeMakeup/v.avi 1", "leads out of"),
    ("ucf101", 1, "C:\\ApplyEyeMakeup\\v.avi 1", "leads out of"),
    (
        "ucf101",
        1,
        "HandstandPushups/v_ApplyEyeMakeup_g02_c01.avi 2",
        "has the class 'Hand.*' here and 'ApplyEyeMakeup' be",
    ),
    (
        "ucf101",
        1,
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1",
        r"testlist01.txt, line 1: .* is in test and in train of",
    ),
    (
        "hmdb51",
        0,
        "e.avi 3",
        "line 4: the last field is '3'. It must be a whole number from 0 to 2",
    ),
    ("hmdb51", 0, "e.avi", "line 4: 'e.avi' is no video"),
    ("hmdb51", 0, "/etc/e.avi 1", "leads out of"),
    ("hmdb51", 0, "c.avi 1", "wave/c is in train and in test of split 2"),
    ("kinetics400", 0, "abseiling,x,10", "line 5: 3 fields. The first line has 6"),
    ("kinetics400", 0, "abseiling,x,10,y,train,0", "time_end is 'y'"),
    ("kinetics400", 0, "abseiling,x,nan,20,train,0", "time_start is 'nan'"),
    ("kinetics400", 0, "abseiling,x,20,10,train,0", "is no clip"),
    ("kinetics400", 0, ",x,0,10,train,0", "is no clip"),
    ("kinetics400", 0, "abseiling,x,0,10,tarin,0", "split is neither"),
    ("kinetics400", 0, "abseiling,../x,0,10,train,0", "leads out of"),
    ("kinetics400", 0, '"abseiling,x,0,10,train,0', "line 5: this is not CSV"),
    (
        "kinetics400",
        0,
        "abseiling,_dbcJuKJQNs,40,50,train,0",
        "has the class 'abseiling' here and 'air drumming' before",
    ),
    (
        "kinetics400",
        0,
        "abseiling,bbbbbbbbbbb,0,10,train,0",
        "val.csv, line 2: bbb.* is in test and in train",
    ),
    ("vggsound", 0, "abc,1,label", "line 5: .* is no clip"),
    ("vggsound", 0, "abc,one,label,train", "the start is 'one'"),
    ("vggsound", 0, "abc,1,label,val", "the split is 'val'"),
    ("vggsound", 0, "/abc,1,label,train", "leads out of"),
    ("vggsound", 0, "zzz,5,people marching,test", "is in test and in train"),
    ("audioset", 0, "4,/m/x,Bell", "line 5: 4,/m/x,Bell is out of order"),
    ("audioset", 0, "3,/m/09x0r,Bell", "or there twice"),
    ("audioset", 0, "3,/m/x", "line 5: 2 fields. The first line has 3"),
    ("audioset", 0, "3,,Bell", "mid is empty"),
    ("audioset", 1, "abc, 0.000, 10.000, /m/09x0r,/m/05zppz", "line 5: 5 fields"),
    ("audioset", 1, 'abc, 0.000, 10.000, "/m/09x0r,/m/none"', "has an unknown class"),
    ("audioset", 1, 'abc, 10.000, 10.000, "/m/09x0r"', "the clip is from 10 to 10 s"),
    ("audioset", 1, 'abc, x, 10.000, "/m/09x0r"', "the start is 'x'"),
    (
        "audioset",
        1,
        '--BfvyPmVMo, 20.000, 30.000, "/m/09x0r"',
        r"eval_segments.csv, line 4: .* is in test and in train",
    ),
    (
        "audioset",
        2,
        '--4gqARaEJE, 0.000, 10.000, "/m/05zppz"',
        "has the class 'Male speech.*' here and 'Speech, Gargling'",
    ),
    ("ave", 1, "Bark&abc&good&0", "line 3: .* is no event"),
    ("ave", 1, "Bark&abc&good&0&11", "from 0 to 11 s"),
    ("ave", 1, "Bark&abc&good&5&4", "from 5 to 4 s"),
    ("ave", 1, "Meow&abc&good&0&4", "line 3: 'Meow' is not one of the 2 classes"),
    ("ave", 1, "Bark&../abc&good&0&4", "leads out of"),
    ("ave", 2, "Bark&3jS8tWfLJxI&good&7&9", "is in test and in train"),
    (
        "esc50",
        0,
        "a.wav,6,0,dog,True,1,A",
        "line 12: fold is '6'. It must be a whole number from 1 to 5",
    ),
    ("esc50", 0, "a.wav,1,1,dog,True,1,A", "line 12: class 1 is 'dog' here"),
    ("esc50", 0, "a.wav,1,zero,dog,True,1,A", "target is 'zero'"),
    ("esc50", 0, "a.wav,1,0", "line 12: 3 fields"),
    ("esc50", 0, "../a.wav,1,0,dog,True,1,A", "leads out of"),
    ("esc50", 0, "b/a.wav,1,0,dog,True,1,A", "is a path"),
    (
        "esc50",
        0,
        "1-100031-A-0.wav,2,0,dog,True,1,A",
        "line 12: .* is in train and in test of split fold 1",
    ),
    ("tut", 0, "audio/c.wav", "line 5: .* has no scene"),
    ("tut", 1, "audio/c.wav\tbeach", r"fold2_train.txt, line 3: audio/c.wav is not in .*meta.txt"),
    (
        "tut",
        1,
        "audio/b020_90_100.wav\tbeach",
        r"fold2_test.txt, line 1: .* is in test and in train",
    ),
    (
        "tut",
        1,
        "audio/a001_0_10.wav\tbeach",
        "has the class 'beach' here and 'cafe/restaurant' before",
    ),
    ("tut", 1, "audio/a001_0_10.wav\tforest", "'forest' is not one of the 2 classes"),
    ("tut", 2, "/audio/a001_0_10.wav", "leads out of"),
    ("urbansound8k", 0, "a.wav,1,0,1,1,11,3,dog_bark", "fold is '11'"),
    ("urbansound8k", 0, "a.wav,1,0,1,1,1,2,dog_bark", "class 2 is 'dog_bark' here"),
    ("speechcommands", 0, "1_nohash_0.wav", "line 2: .* is no recording of a word"),
    ("speechcommands", 0, "_background_noise_/pink.wav", "is no recording of a word"),
    ("speechcommands", 0, "../bed/0.wav", "leads out of"),
    ("speechcommands", 0, "bed/1_nohash_0.wav", "is in validation and in test"),
]


@pytest.mark.parametrize(("layout", "which", "line", "says"), ADDED)
def test_a_bad_line_is_told_with_file_and_line(tmp_path, layout, which, line, says):
    file = SMALL[layout](tmp_path) / LISTS[layout][which]
    text = file.read_text(encoding="utf-8")
    file.write_text(text + line + "\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=says) as caught:
        read_benchmark(tmp_path, layout)
    assert str(tmp_path) in str(caught.value)
    assert ", line " in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "which"), [(layout, i) for layout in LISTS for i in range(len(LISTS[layout]))]
)
def test_marks_line_ends_and_blank_lines_change_nothing(tmp_path, layout, which):
    file = SMALL[layout](tmp_path) / LISTS[layout][which]
    before = read_benchmark(tmp_path, layout)
    text = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n  \r\n\r\n")
    after = read_benchmark(tmp_path, layout)
    assert (after.items, after.missing, after.classes) == (
        before.items,
        before.missing,
        before.classes,
    )
    file.write_bytes(text.rstrip("\n").encode())
    assert read_benchmark(tmp_path, layout).items == before.items


@pytest.mark.parametrize(
    ("layout", "which"), [(layout, i) for layout in LISTS for i in range(len(LISTS[layout]))]
)
def test_a_list_that_is_empty_absent_or_no_text_names_itself(tmp_path, layout, which):
    file = SMALL[layout](tmp_path) / LISTS[layout][which]
    file.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(SettingsError):
        read_benchmark(tmp_path, layout)
    file.unlink()
    optional = file.name in (
        "Annotations.txt",
        "balanced_train_segments.csv",
        "train.csv",
        "val.csv",
    )
    if not optional:
        with pytest.raises(SettingsError, match=r"\.txt|\.csv"):
            read_benchmark(tmp_path, layout)


def outcome(layout: str, root: Path) -> str:
    """The message of the error that comes out; nothing if it is a benchmark."""
    try:
        found = read_benchmark(root, layout)
    except SettingsError as error:
        return str(error)
    assert isinstance(found, Benchmark)
    return ""


ANY_TEXT = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [*"/\\,&\"'#\t\n\r\0 .01259-", "..", "a", "x.wav", "train", "1", "é", "/m/09x0r"]
        )
    ).map("".join),
)


@pytest.mark.parametrize(
    ("layout", "which"), [(layout, i) for layout in LISTS for i in range(len(LISTS[layout]))]
)
def test_any_text_in_a_list_is_an_error_that_names_a_file_or_a_benchmark(layout, which):
    folder = Path(tempfile.mkdtemp())
    try:
        file = SMALL[layout](folder) / LISTS[layout][which]
        good = file.read_text(encoding="utf-8")
        first = good.splitlines(keepends=True)[0]

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(ANY_TEXT, st.sampled_from(["", first, good]), st.booleans())
        def check(text: str, before: str, raw: bool) -> None:
            data = (before + text).encode("utf-8", "surrogatepass" if raw else "ignore")
            file.write_bytes(data)
            told = outcome(layout, folder)
            assert told == "" or (
                str(folder) in told and (".txt" in told or ".csv" in told) and "\n" not in told
            )

        check()
    finally:
        shutil.rmtree(folder)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    ANY_TEXT,
    st.sampled_from(["", "path,class\n", "path,class,split\n", "path,class\nx.wav,a\ny.wav,b\n"]),
)
def test_any_classes_csv_is_an_error_that_names_it_or_a_benchmark(text, before):
    with tempfile.TemporaryDirectory() as name:
        put(Path(name), {}, "x.wav y.wav")
        (Path(name) / "classes.csv").write_bytes((before + text).encode("utf-8", "ignore"))
        told = outcome("csv", Path(name))
        assert told == "" or "classes.csv" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,class\n../a.mp4,x\nb.mp4,y\n", "line 2: ../a.mp4 leads out of"),
        ("path,class\n/a.mp4,x\nb.mp4,y\n", "line 2: /a.mp4 leads out of"),
        ("path,class\na.mp4,x\na.mp4,y\n", "line 3.*already has the class 'x'"),
        (
            "path,class,split\na.mp4,x,train\nb.mp4,y,test\n./a.mp4,x,test\n",
            "line 4: ./a.mp4 already has the split 'train' in line 2, and 'test' here",
        ),
        (
            "path,class,split\na.mp4,x,train\nb.mp4,y,train\n",
            "classes.csv: split official of csv has nothing to test on",
        ),
        (
            "path,class\nc.mp4,x\nd.mp4,y\n",
            "classes.csv: none of the 2 files of csv is below .*for example c.mp4",
        ),
    ],
)
def test_a_bad_classes_csv(tmp_path, text, says):
    put(tmp_path, {"classes.csv": text}, "a.mp4 b.mp4")
    with pytest.raises(SettingsError, match=says):
        read_benchmark(tmp_path)


@pytest.mark.parametrize("layout", [*LISTS, "kinetics-sounds"])
def test_all_missing_is_an_error_and_some_are_not(tmp_path, layout):
    root = SMALL.get(layout, kinetics_sounds)(tmp_path)
    media = [
        path for path in root.rglob("*") if path.is_file() and path.suffix not in (".txt", ".csv")
    ]
    for path in media:
        path.unlink()
    with pytest.raises(SettingsError, match=rf"none of the \d+ files of {layout}.* for example "):
        read_benchmark(root, layout)


def test_what_is_no_folder_or_no_benchmark(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere is not a folder"):
        read_benchmark(tmp_path / "nowhere")
    with pytest.raises(
        SettingsError,
        match=r"No benchmark was found in .*classInd.txt.*classes.csv.*Layouts .*ucf101, hmdb51",
    ):
        read_benchmark(tmp_path)
    with pytest.raises(
        SettingsError,
        match=r"There is no layout ESC-50\. Did you mean esc50\? Layouts: auto, ucf101",
    ):
        read_benchmark(tmp_path, "ESC-50")
    for layout in [*SMALL, "kinetics600", "csv", "folders", "audioset-balanced"]:
        with pytest.raises(SettingsError, match=str(tmp_path)):
            read_benchmark(tmp_path, layout)


def test_two_benchmarks_in_one_folder_must_be_named(tmp_path):
    SMALL["esc50"](tmp_path / "a")
    SMALL["ucf101"](tmp_path / "b")
    with pytest.raises(SettingsError, match=r"lists of ucf101 and esc50\. Name the layout"):
        read_benchmark(tmp_path)
    assert read_benchmark(tmp_path, "esc50").name == "esc50"


def test_two_copies_of_a_list_equally_near_must_be_told_apart(tmp_path):
    SMALL["esc50"](tmp_path / "a")
    SMALL["esc50"](tmp_path / "b")
    with pytest.raises(
        SettingsError, match=r"a/meta/esc50.csv and .*b/meta/esc50.csv are both there"
    ):
        read_benchmark(tmp_path)
    assert read_benchmark(tmp_path / "a").items


def test_ucf101_needs_its_lists_in_one_folder_and_hmdb51_one_of_each_class(tmp_path):
    root = SMALL["ucf101"](tmp_path / "u")
    (root / "ucfTrainTestlist" / "testlist03.txt").unlink()
    with pytest.raises(SettingsError, match=r"testlist03.txt does not exist"):
        read_benchmark(root)
    root = SMALL["hmdb51"](tmp_path / "h")
    (root / "testTrainMulti_7030_splits" / "wave_test_split3.txt").unlink()
    with pytest.raises(SettingsError, match=r"has no wave_test_split3\.txt"):
        read_benchmark(root)


def test_audioset_needs_a_train_list(tmp_path):
    root = SMALL["audioset"](tmp_path)
    (root / "balanced_train_segments.csv").unlink()
    assert "unbalanced" in read_benchmark(root, "audioset").source
    with pytest.raises(SettingsError, match=r"no balanced_train_segments.csv"):
        read_benchmark(root, "audioset-balanced")
    (root / "unbalanced_train_segments.csv").unlink()
    with pytest.raises(SettingsError, match=r"no balanced_train_segments.csv"):
        read_benchmark(root, "audioset")


def test_dcase2014_says_what_is_no_scene_and_what_lacks(tmp_path):
    root = SMALL["dcase2014"](tmp_path)
    (root / "scenes_stereo_testset" / "bus.wav").touch()
    with pytest.raises(SettingsError, match=r"bus.wav names no scene"):
        read_benchmark(root)
    shutil.rmtree(root / "scenes_stereo_testset")
    with pytest.raises(SettingsError, match="split official of dcase2014 has nothing to test on"):
        read_benchmark(root, "dcase2014")


def test_folders_with_a_stray_folder_or_class_or_a_single_class(tmp_path):
    put(tmp_path, {}, "train/a/1.mp4 train/b/2.mp4 test/c/3.mp4")
    with pytest.raises(SettingsError, match="test/c is a class that train does not have"):
        read_benchmark(tmp_path)
    put(tmp_path, {}, "extra/d/4.mp4")
    with pytest.raises(SettingsError, match="extra lies beside test, train"):
        read_benchmark(tmp_path)
    put(tmp_path / "one", {}, "a/1.mp4 a/2.mp4")
    with pytest.raises(SettingsError, match=r"has 1 class\(es\), read as folders"):
        read_benchmark(tmp_path / "one", "folders")
