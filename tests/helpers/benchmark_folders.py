"""Every public benchmark in small: its lists as they are published, and empty files, since media is
not opened.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import benchmark_folders
from media_files import tone, write_media
from seehear.evaluation.datasets.kinetics import SOUNDS


def put(root: Path, lists: dict[str, str], files: str = "") -> Path:
    """Write lists (name -> text) and touch files (names divided by blanks or line ends)."""
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="")
    for name in files.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ucf101(root: Path) -> Path:
    lists = {"classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n\r\n"}
    eye, hand = (
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g0{}_c01.avi",
        "HandstandPushups/v_HandStandPushups_g0{}_c01.avi",
    )
    for n in (1, 2, 3):
        others = [m for m in (1, 2, 3) if m != n]
        lists[f"testlist0{n}.txt"] = f"{eye.format(n)}\r\n{hand.format(n)}\r\n"
        lists[f"trainlist0{n}.txt"] = "".join(
            f"{eye.format(m)} 1\r\n{hand.format(m)} 2\r\n" for m in others
        )
    put(root / "ucfTrainTestlist", lists)
    files = (
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.mp4 "
    )
    files += (
        "HandStandPushups/v_HandstandPushups_g01_c01.avi "
        "HandStandPushups/v_HandstandPushups_g03_c01.webm"
    )
    return put(root / "UCF-101", {}, files).parent


def hmdb51(root: Path) -> Path:
    lists = {}
    for n in (1, 2, 3):
        lists[f"brush_hair_test_split{n}.txt"] = (
            f"April_09 (1)#x.avi {1 if n < 3 else 2} \nb.avi {2 if n < 3 else 1} \n"
        )
        lists[f"wave_test_split{n}.txt"] = "b.avi 1 \nc.avi 2 \nd.avi 0 \n"
    put(root / "testTrainMulti_7030_splits", lists)
    put(root, {}, "videos/brush_hair/b.avi videos/wave/b.avi videos/wave/c.mp4 videos/wave/d.avi")
    (root / "videos/brush_hair/April_09 (1)#x.avi").touch()
    return root


def kinetics(root: Path) -> Path:
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    train = (
        header + '"air drumming",_dbcJuKJQNs,40,50,train,0\nabseiling,-3B32lodo2M,59,69,train,0\n'
    )
    train += "abseiling,aaaaaaaaaaa,1,11,train,0\n"
    val = header + "abseiling,bbbbbbbbbbb,0,10,val,0\nair drumming,ccccccccccc,100,110,val,0\n"
    put(root / "annotations", {"train.csv": train, "val.csv": val})
    put(
        root / "annotations",
        {"test.csv": "youtube_id,time_start,time_end,split\nddddddddddd,0,10,test\n"},
    )
    files = (
        "train/air_drumming/_dbcJuKJQNs_000040_000050.mp4 train/-3B32lodo2M.mkv "
        "val/bbbbbbbbbbb_0_10.mp4"
    )
    return put(root, {}, files)


def kinetics_sounds(root: Path, size: int = 31) -> Path:
    rows = ["label,youtube_id,time_start,time_end,split"]
    for part in ("train", "validate"):
        rows += [f"{label},{part}{i:05d},0,10,{part}" for i, label in enumerate(SOUNDS[size][0])]
        rows += [f"abseiling,{part}xxxxx,0,10,{part}"]
    return put(
        root,
        {"kinetics400.csv": "\n".join(rows) + "\n"},
        "train00000_000000_000010.mp4 validate00001.mp4",
    )


def vggsound(root: Path) -> Path:
    text = '---g-f_I2yQ,1,"people marching",test\n--0PQM4-hqg,30,waterfall burbling,train\n'
    text += '-_a,0,"playing violin, fiddle",train\nzzz,5,people marching,train\n'
    return put(
        root,
        {"vggsound.csv": text},
        "video/---g-f_I2yQ_000001.mp4 video/--0PQM4-hqg.mp4 x/-_a_0_10.mp4",
    )


def audioset(root: Path) -> Path:
    comment = (
        "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=2, num_segs=2, "
        "num_unique_labels=3\n"
    )
    comment += "# YTID, start_seconds, end_seconds, positive_labels\n"
    labels = (
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man '
        'speaking"\n2,/t/dd00088,Gargling\n'
    )
    lists = {
        "class_labels_indices.csv": labels,
        "balanced_train_segments.csv": comment
        + '--4gqARaEJE, 0.000, 10.000, "/t/dd00088,/m/09x0r"\n',
        "unbalanced_train_segments.csv": comment + '---1_cCGK4M, 30.500, 40.500, "/m/05zppz"\n',
        "eval_segments.csv": comment
        + '--BfvyPmVMo, 20.000, 30.000, "/m/09x0r"\nmissing_one, 0.000, 9.000, "/m/09x0r"\n',
    }
    files = (
        "balanced/Y--4gqARaEJE.wav unbalanced/part00/---1_cCGK4M_30500_40500.flac "
        "eval/--BfvyPmVMo.wav"
    )
    return put(root, lists, files)


def ave(root: Path) -> Path:
    train, val = (
        "Church bell&RUhOCu3LNXM&good&0&10\nBark&3jS8tWfLJxI&good&7&9\n",
        "Bark&E_1Asfq8it4&good&0&3\n",
    )
    test = (
        "Church bell&VWi2ENBuTbw&good&0&0\nBark&RUhOCu3LNXM&good&2&4\nBark&gone_gone_1&good&0&10\n"
    )
    lists = {"Annotations.txt": "Category&VideoID&Quality&StartTime&EndTime\n" + train + val + test}
    lists |= {"trainSet.txt": train, "valSet.txt": val, "testSet.txt": test}
    return put(
        root,
        lists,
        "AVE/RUhOCu3LNXM.mp4 AVE/3jS8tWfLJxI.mp4 AVE/E_1Asfq8it4.mp4 AVE/VWi2ENBuTbw.mp4",
    )


def esc50(root: Path) -> Path:
    text, files = "filename,fold,target,category,esc10,src_file,take\n", []
    for fold in range(1, 6):
        for target, label in ((1, "rooster"), (0, "dog")):
            text += (
                f"{fold}-10003{fold}-A-{target}.wav,{fold},{target},{label},True,10003{fold},A\n"
            )
            files.append(f"audio/{fold}-10003{fold}-A-{target}.wav")
    return put(root, {"meta/esc50.csv": "\ufeff" + text}, " ".join(files[1:]))


def esc10(root: Path) -> Path:
    """Three folds; the last has one of the classes alone."""
    for name in ("1-100-A", "1-100-B", "2-7-A", "3-21-A"):
        put(root / "010 - Fire crackling", {}, f"{name}.ogg")
    return put(root / "002 - Rain", {}, "1-5-A.ogg 2-9-A.ogg").parent


def dcase2014(root: Path) -> Path:
    files = "scenes_stereo/bus01.wav scenes_stereo/tube03.wav scenes_stereo_testset/bus01.wav "
    return put(root, {}, files + "scenes_stereo_testset/tubestation10.wav events/alert01.wav")


def tut(root: Path) -> Path:
    meta = "audio/b020_90_100.wav\tbeach\tb020\naudio/a001_0_10.wav\tcafe/restaurant\ta001\n"
    meta += "audio/b030_0_10.wav\tbeach\tb030\naudio/a002_0_10.wav\tcafe/restaurant\ta002\n"
    first, second = (meta.split("\n")[i : i + 2] for i in (0, 2))
    lists = {"meta.txt": meta}
    for fold, (train, test) in enumerate([(first, second), (second, first)], 1):
        lists[f"evaluation_setup/fold{fold}_train.txt"] = "".join(
            line.rsplit("\t", 1)[0] + "\n" for line in train
        )
        lists[f"evaluation_setup/fold{fold}_test.txt"] = "".join(
            line.split("\t")[0] + "\n" for line in test
        )
    lists["evaluation_setup/fold1_evaluate.txt"] = "".join(
        line.rsplit("\t", 1)[0] + "\n" for line in second
    )
    files = "audio/b020_90_100.wav audio/b030_0_10.wav audio/a002_0_10.wav"
    return put(root / "TUT-acoustic-scenes-2017-development", lists, files).parent


def urbansound8k(root: Path) -> Path:
    text = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    text += "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
    text += "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children\n"
    text += "100648-1-0-0.wav,100648,4.8,5.4,2,10,3,dog_bark\n"
    files = (
        "audio/fold5/100032-3-0-0.wav audio/fold10/100648-1-0-0.wav audio/fold1/100263-2-0-117.wav"
    )
    return put(root, {"metadata/UrbanSound8K.csv": text}, files)


def speechcommands(root: Path) -> Path:
    lists = {
        "validation_list.txt": "bed/0_nohash_0.wav\n",
        "testing_list.txt": "bed/1_nohash_0.wav\ncat/0_nohash_0.wav\n",
    }
    files = (
        "bed/0_nohash_0.wav bed/1_nohash_0.wav bed/2_nohash_0.wav cat/2_nohash_0.wav "
        "_background_noise_/pink.wav"
    )
    return put(root / "speech_commands_v0.02", lists, files).parent


SMALL = {
    **{f.__name__: f for f in (ucf101, hmdb51, vggsound, audioset, ave, esc50, esc10)},
    **{f.__name__: f for f in (dcase2014, tut, urbansound8k, speechcommands)},
    "kinetics400": kinetics,
}
"""Layout -> what builds a small one."""


def written(root: Path, layout: str) -> Path:
    """A benchmark's layout with short files that can be read in place of empty ones."""
    benchmark_folders.SMALL[layout](root)
    for number, path in enumerate(sorted(root.rglob("*"))):
        sound = {"waveform": lambda t, n=number: tone(t * (1 + n))}
        if path.suffix in (".avi", ".mp4", ".webm", ".mkv"):
            path.unlink()
            picture = np.full((48, 64, 3), 70 * number % 256, np.uint8)
            given = {
                "picture": lambda n, w, h, p=picture: p,
                "video_codec": "mpeg4",
                "container_format": "matroska",
            }
            write_media(
                path,
                seconds=0.4,
                audio_codec="aac" if layout == "vggsound" else None,
                **given,
                **sound,
            )
        elif path.suffix == ".wav":
            wave = {"video_codec": None, "audio_codec": "pcm_s16le", "container_format": "wav"}
            write_media(path, seconds=0.4, **sound, **wave)
    return root
