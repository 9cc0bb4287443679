"""Makes goldens/datasets: one small dataset in each format, by other people's writers, and what must be read from it.

    python pairs.py

Python 3.11, datasets 5.2.0, pyarrow 26.0.1, webdataset 1.0.2, pycocotools 2.0.11, Pillow 13.0.0.
"""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import webdataset
from PIL import Image
from pycocotools.coco import COCO

GOLDENS = Path(__file__).parent.parent / "goldens" / "datasets"
CAPTIONS = ["a red square", "two blue stars", "ein grünes Haus, 雪", "", "a \"quoted\" cat\nin two lines", "a dog", "x"]


def picture(index):
    image = Image.new("RGB", (9 + index, 7), (40 * index, 255 - 30 * index, 90))
    image.putpixel((index, 2), (255, 255, 255))
    buffer = io.BytesIO()
    if index % 3 == 1:
        image.save(buffer, "JPEG", quality=80)
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue(), "jpg" if index % 3 == 1 else "png"


def text(caption, origin="web", score=None):
    return {"text": caption, "origin": origin, "score": score}


def entry(key, index, texts, **others):
    return {"key": key, "sha256": hashlib.sha256(picture(index)[0]).hexdigest(), "texts": texts, **others}


def folder_with_metadata():
    folder = GOLDENS / "folder"
    (folder / "train").mkdir(parents=True)
    lines, expected = [], []
    for index in range(3):
        name = f"train/{index}.{picture(index)[1]}"
        (folder / name).write_bytes(picture(index)[0])
        lines.append({"file_name": name, "text": CAPTIONS[index], "origin": "human", "extra": index})
        expected.append(entry(name, index, [text(CAPTIONS[index], "human")]))
    lines.append({"file_name": lines[0]["file_name"], "caption": ["again", "and again"], "score": [0.5, None]})
    expected[0]["texts"] += [text("again", score=0.5), text("and again")]
    body = "\n".join(json.dumps(line, ensure_ascii=index % 2 == 0) for index, line in enumerate(lines))
    (folder / "metadata.jsonl").write_text(body + "\n", encoding="utf-8")
    read = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    assert read.num_rows >= 3, read
    return expected


def folder_with_texts():
    folder = GOLDENS / "beside"
    (folder / "deep").mkdir(parents=True)
    expected = []
    for index, name in enumerate(["a", "deep/b"]):
        ending = picture(index)[1]
        (folder / f"{name}.{ending}").write_bytes(picture(index)[0])
        if index == 0:
            (folder / f"{name}.txt").write_text(CAPTIONS[2] + "\n", encoding="utf-8")
        expected.append(entry(f"{name}.{ending}", index, [text(CAPTIONS[2])] if index == 0 else []))
    return expected


def add(tar, name, data, **fields):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


def tars():
    folder = GOLDENS / "tars"
    folder.mkdir()
    expected = []
    with webdataset.TarWriter(str(folder / "web-000.tar"), mtime=0, user="nobody", group="nobody") as writer:
        for index in range(3):
            data, ending = picture(index)
            facts = {"origin": "synthetic", "score": 0.25, "truth": {"objects": index}, "caption": "not this one"}
            writer.write({"__key__": f"{index:05}", ending: data, "txt": CAPTIONS[index], "json": facts})
            texts = [text(CAPTIONS[index], "synthetic", 0.25)]
            expected.append(entry(f"{index:05}", index, texts, truth={"objects": index}))
    long = "folder/" + "n" * 150
    for number, layout in ((1, tarfile.PAX_FORMAT), (2, tarfile.GNU_FORMAT)):
        with tarfile.open(folder / f"web-00{number}.tar", "w", format=layout) as tar:
            index = 2 + number
            add(tar, "folder", b"", type=tarfile.DIRTYPE)
            add(tar, f"./{long}{number}.png.txt", CAPTIONS[index].encode())
            add(tar, f"./{long}{number}.{picture(index)[1]}", picture(index)[0])
            facts = {"texts": [{"text": "one", "origin": "human"}, "two"], "key": f"own-{number}"}
            add(tar, "again.JPEG", picture(1)[0])
            add(tar, "again.json", json.dumps(facts).encode())
            expected.append(entry(f"{long}{number}", index, [text(CAPTIONS[index])]))
            expected.append(entry(f"own-{number}", 1, [text("one", "human"), text("two")]))
    return expected


def hostile_tar():
    with tarfile.open(GOLDENS / "hostile.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        add(tar, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.png", b"", type=tarfile.LNKTYPE, linkname="good.png")
        add(tar, "../up.png", picture(0)[0])
        add(tar, "a/../../up.png", picture(0)[0])
        add(tar, "/etc/absolute.png", picture(0)[0])
        add(tar, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(tar, "lonely.txt", b"no picture")
        add(tar, "latin.png", picture(1)[0])
        add(tar, "latin.txt", "gr\u00fcn".encode("latin-1"))
        add(tar, "bad.png", picture(2)[0])
        add(tar, "bad.json", b"[1, 2")
        add(tar, "good.png", picture(3)[0])
        add(tar, "good.txt", b"good")
    return [entry("latin", 1, []), entry("bad", 2, []), entry("good", 3, [text("good")])]


def jsons():
    folder = GOLDENS / "jsons"
    (folder / "pictures").mkdir(parents=True)
    names = [f"{index}.{picture(index)[1]}" for index in range(4)]
    for index, name in enumerate(names):
        (folder / "pictures" / name).write_bytes(picture(index)[0])
    blip = [{"image": name, "caption": CAPTIONS[index], "image_id": f"coco_{index}"} for index, name in enumerate(names)]
    blip.append({"image": names[1], "caption": ["more", "and more"], "image_id": "coco_1"})
    (folder / "blip.json").write_text(json.dumps(blip))
    expected_blip = [entry(name, index, [text(CAPTIONS[index])]) for index, name in enumerate(names)]
    expected_blip[1]["texts"] += [text("more"), text("and more")]

    coco = {
        "annotations": [
            {"id": 10 + index, "image_id": 100 + index % 3, "caption": CAPTIONS[index]} for index in range(5)
        ],
        "info": {"year": 2014, "nested": [{"a": [1]}]},
        "images": [{"id": 100 + index, "file_name": names[index], "width": 9, "height": 7} for index in range(4)],
        "licenses": [],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    read = COCO(str(folder / "coco.json"))
    expected_coco = []
    for image in read.loadImgs(read.getImgIds()):
        captions = [read.anns[number]["caption"] for number in sorted(read.getAnnIds(imgIds=[image["id"]]))]
        index = image["id"] - 100
        expected_coco.append(entry(image["file_name"], index, [text(caption) for caption in captions]))

    vqa = [
        {"question_id": 5, "question": "what is it?", "answer": ["a square"] * 9 + ["red"], "image": names[0],
         "dataset": "vqa"},
        {"question_id": 6, "question": "how many?", "answer": ["2", "3", "2", "two"], "image": names[0],
         "dataset": "vqa"},
        {"question": "what?", "answer": "house", "image": names[2], "dataset": "vg"},
        {"question_id": 7, "question": "withheld?", "image": names[3], "dataset": "vqa"},
    ]
    (folder / "vqa.json").write_text(json.dumps(vqa))
    (folder / "vqa.expected.json").write_text(json.dumps([authors_weights(row) for row in vqa]))
    return expected_blip, expected_coco


def authors_weights(row):
    """Answers and weights, as `vqa_dataset.__getitem__` of BLIP's data/vqa_dataset.py makes them."""
    if "answer" not in row:
        return {"question": row["question"], "answers": [], "weights": []}
    if row["dataset"] == "vg":
        return {"question": row["question"], "answers": [row["answer"]], "weights": [0.2]}
    weights = {}
    for answer in row["answer"]:
        weights[answer] = weights.get(answer, 0) + 1 / len(row["answer"])
    return {"question": row["question"], "answers": list(weights), "weights": list(weights.values())}


def tables():
    folder = GOLDENS / "tables"
    folder.mkdir()
    rows = {"image": [{"bytes": picture(index)[0], "path": None} for index in range(3)], "text": CAPTIONS[:3]}
    made = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    made.to_parquet(str(folder / "hf-0.parquet"))
    expected = [entry(f"hf-0.parquet#{index}", index, [text(CAPTIONS[index])]) for index in range(3)]

    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([
        ("image", struct), ("caption", pyarrow.list_(pyarrow.string())), ("other", pyarrow.list_(pyarrow.float32())),
        ("score", pyarrow.list_(pyarrow.float64())), ("truth", pyarrow.string()),
    ])
    captions = [["one", "two"], None, [], ["three"], ["four", "five"], ["six"], ["seven"]]
    table = pyarrow.table({
        "image": [{"bytes": picture(index)[0], "path": f"p{index}.png"} for index in range(7)],
        "caption": captions, "other": [[1.0]] * 7, "score": [[0.5, None]] + [None] * 6,
        "truth": ['{"count": 2}'] + [None] * 6,
    }, schema=schema)
    pyarrow.parquet.write_table(table, folder / "own-1.parquet", row_group_size=3, compression="zstd",
                                data_page_size=128)
    for index, found in enumerate(captions):
        texts = [text(caption, score=0.5 if caption == "one" else None) for caption in found or []]
        others = {"truth": {"count": 2}} if index == 0 else {}
        expected.append(entry(f"p{index}.png", index, texts, **others))
    plain = pyarrow.table({"image": [picture(index)[0] for index in range(4)], "text": CAPTIONS[3:7]})
    pyarrow.parquet.write_table(plain, folder / "plain-2.parquet", data_page_version="2.0", compression="gzip")
    expected += [entry(f"plain-2.parquet#{index}", index, [text(CAPTIONS[3 + index])]) for index in range(4)]
    return expected


def main():
    shutil.rmtree(GOLDENS, ignore_errors=True)
    GOLDENS.mkdir(parents=True)
    blip, coco = jsons()
    expected = {
        "folder": folder_with_metadata(),
        "beside": folder_with_texts(),
        "tars": tars(),
        "hostile.tar": hostile_tar(),
        "jsons/blip.json": blip,
        "jsons/coco.json": coco,
        "tables": tables(),
    }
    (GOLDENS / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
