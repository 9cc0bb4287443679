"""Reads what the trainer's writers wrote, with other people's readers, and compares it with goldens/datasets/tars.

    for format in image-folder web-dataset blip-json coco-json parquet; do
        cargo run -p edgeblip-trainer --example convert_dataset -- trainer/tests/goldens/datasets/tars OUT/$format $format
    done
    python check_written.py OUT

The same versions as pairs.py.
"""

import hashlib
import json
import sys
from pathlib import Path

import datasets
import pyarrow.parquet
import webdataset
from pycocotools.coco import COCO

OUT = Path(sys.argv[1])
EXPECTED = json.loads((Path(__file__).parent.parent / "goldens" / "datasets" / "expected.json").read_text())["tars"]
PAIRS = {row["sha256"] + row["key"]: [text["text"] for text in row["texts"]] for row in EXPECTED}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def check(name, found):
    assert found == PAIRS, (name, found, PAIRS)
    print(f"{name}: {len(found)} pictures, all texts equal")


def image_folder():
    folder = OUT / "image-folder"
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    rows = rows.cast_column("image", datasets.Image(decode=False))
    found = {}
    for row in rows:
        data = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
        found[digest(data) + row["key"]] = [text["text"] for text in row["texts"]]
        assert row["text"] == row["texts"][0]["text"]
    check("image-folder by datasets", found)


def web_dataset():
    shards = sorted(str(path) for path in (OUT / "web-dataset").glob("*.tar"))
    found = {}
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        picture = sample.get("png") or sample["jpg"]
        facts = json.loads(sample["json"])
        texts = [text["text"] for text in facts["texts"]]
        assert sample["txt"].decode() == texts[0]
        found[digest(picture) + facts["key"]] = texts
    check("web-dataset by webdataset", found)


def blip_json():
    folder = OUT / "blip-json"
    found = {}
    for row in json.loads((folder / "annotations.json").read_text()):
        found.setdefault(digest((folder / row["image"]).read_bytes()) + row["key"], []).append(row["caption"])
    check("blip-json by json", found)


def coco_json():
    folder = OUT / "coco-json"
    coco = COCO(str(folder / "annotations.json"))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        captions = [coco.anns[number]["caption"] for number in sorted(coco.getAnnIds(imgIds=[image["id"]]))]
        found[digest((folder / image["file_name"]).read_bytes()) + image["key"]] = captions
    check("coco-json by pycocotools", found)


def parquet():
    files = sorted((OUT / "parquet").glob("*.parquet"))
    rows = [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()]
    check("parquet by pyarrow", {digest(row["image"]["bytes"]) + row["key"]: row["text"] for row in rows})
    loaded = datasets.load_dataset("parquet", data_files=[str(path) for path in files], split="train")
    decoded = loaded.cast_column("image", datasets.Image())[0]["image"]
    assert decoded.size == (9, 7), decoded


image_folder()
web_dataset()
blip_json()
coco_json()
parquet()
