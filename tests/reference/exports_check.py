"""`edgeblip pairs export`, read back by each format's own reader, and its pictures by ExifTool.

The store is made by `edgeblip run` on the example pictures, with a GPS receiver that is played here, and by
`edgeblip pairs label`. What must come out is worked out here from `pairs show`, and compared with what `datasets`,
`webdataset`, `pycocotools`, `pyarrow`, and `frictionless` with the schemas of Camtrap DP 1.0.2 find.
Usage: exports_check.py EDGEBLIP [FOLDER]
"""

import csv
import datetime
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", SOURCE_DATE_EPOCH="1795000000")

import datasets
import frictionless
import jsonschema
import pyarrow.parquet
import referencing
import referencing.jsonschema
import webdataset
from PIL import Image
from pycocotools.coco import COCO

from board import PICTURES, ROOT, Board

SCHEMAS = ROOT / "tests" / "goldens" / "camtrap-dp"
PLACE = (-33.925, 18.424)
ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
HOSTILE = '=HYPERLINK("http://x","y"), <b>bold</b> & ]]> "quoted" \'text\''
FOREIGN = "eine Eule im Schnee, größer als 猫"
CAMTRAP = ["--project", "Owls & <others>", "--contributor", "A. Person"]
FORMATS = ["imagefolder", "webdataset", "coco", "blip", "parquet", "sidecars", "camtrap-dp"]


def play_gpsd(listener):
    """A receiver that knows its place and the time."""
    while True:
        try:
            connection, _ = listener.accept()
            while True:
                now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
                report = {"class": "TPV", "mode": 3, "time": now.replace("+00:00", "Z"), "lat": PLACE[0], "lon": PLACE[1]}
                connection.sendall(json.dumps(report).encode() + b"\n")
                time.sleep(0.2)
        except OSError:
            if listener.fileno() < 0:
                return


def picture_of_a_camera(path):
    """A JPEG that stands on its side and has EXIF, with notes of its maker and a thumbnail, and XMP."""
    Image.open(PICTURES / "11.png").convert("RGB").save(path, quality=92)
    small = path.with_suffix(".small")
    Image.open(path).resize((32, 32)).save(small, "JPEG")
    tags = ["-Orientation#=6", "-Make=Acme", "-Model=Trap 1", "-DateTimeOriginal=2020:01:02 03:04:05", "-ImageDescription=DCIM"]
    tags += [f"-ThumbnailImage<={small}", "-XMP-dc:Description=theirs", "-XMP-dc:Creator=somebody", "-ExifByteOrder=MM"]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, str(path)], check=True)
    small.unlink()


def make_store(program, work):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=play_gpsd, args=(listener,), daemon=True).start()
    settings = [
        "[captions]\ncandidates = 2",
        '[triggers]\nduplicate_cosine = "never"',
        '[place]\ndeployment = "nest-3"\nname = "Nest <3> & sons"\nzone = "+05:30"\nposition = "gpsd"\ndecimals = 3',
        f'gpsd = "127.0.0.1:{listener.getsockname()[1]}"',
    ]
    with Board(program, work, *settings, pictures=["01.png"]) as board:
        count = 1
        # Until the board knows place and time.
        while board.pairs(least=count)[-1]["taken"]["quality"] != "gps":
            assert count < 40, "the board never hears of its place"
            count += 1
            shutil.copy(PICTURES / "01.png", board.camera / f"warm-{count:02}.png")
        for name in ["03.png", "05.png", "07.png", "10.png", "11.png"]:
            shutil.copy(PICTURES / name, board.camera)
            count += 1
        board.pairs(least=count)
        made = board.work / "sideways.jpg"
        picture_of_a_camera(made)
        made.rename(board.camera / "sideways.jpg")
        board.pairs(least=count + 1)
        # While the service writes the store.
        done = export(board, "imagefolder", "beside-the-service")
        assert done["pairs"] > 0 and done["faults"] == 0
    listener.close()
    return board


def label(board):
    """A rewritten, an added, an accepted and a rejected pair, by people; gives their names."""
    pairs = board.pairs()
    kept = [pair["pair"] for pair in pairs if pair["state"] == "kept" and pair["taken"]["quality"] == "gps"]
    rejected = [pair["pair"] for pair in pairs if pair["state"] == "rejected" and pair["picture"]]
    assert len(kept) >= 4 and rejected, pairs
    sideways = pairs[-1]["pair"]
    kept = [pair for pair in kept if pair != sideways]
    board.json("pairs", "label", kept[0], "--rewrite", HOSTILE, "--by", "Ada")
    board.json("pairs", "label", kept[1], "--add", FOREIGN)
    board.json("pairs", "label", kept[2], "--reject")
    board.json("pairs", "label", rejected[0], "--accept")
    board.json("pairs", "label", sideways, "--accept")
    return {"rewritten": kept[0], "added": kept[1], "rejected": kept[2], "accepted": rejected[0], "sideways": sideways}


def export(board, name, folder, *arguments, code=0):
    target = board.work / folder
    command = [board.program, "pairs", "export", name, str(target), "--config", str(board.config), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}: {done.returncode}: {done.stderr}"
    assert not list(board.work.glob(".writing-*")), "something is left behind"
    return {**json.loads(done.stdout), "said": done.stderr} if done.stdout else {"said": done.stderr}


def texts_of(facts, labels):
    """The texts that go with a picture: the rules of docs/exports.md."""
    kept = [text for text in facts["texts"] if text["decision"] == "kept"]
    accepted = False
    for action in (entry["action"] for entry in labels):
        by_hand = {"origin": "human", "itm": None}
        if isinstance(action, dict) and "add" in action:
            kept = [*kept, {**by_hand, "words": action["add"]}]
        elif isinstance(action, dict):
            kept = [{**by_hand, "words": action["rewrite"]}]
        else:
            accepted = action == "accept"
    if not kept and accepted:
        kept = sorted(facts["texts"], key=lambda text: -(text["itm"] or 0))[:1]
    return sorted(kept, key=lambda text: (text["origin"] != "human", -(text["itm"] or 0)))


def expected(board):
    """Key -> picture as stored, texts and facts, of all pairs that are kept and have a picture."""
    found = {}
    for pair in board.pairs():
        if pair["state"] != "kept" or not pair["picture"]:
            continue
        picture = board.work / "stored.jpg"
        shown = board.json("pairs", "show", pair["pair"], "--picture", str(picture))[0]
        facts = shown["facts"]
        key = facts["boot_id"].replace("-", "")[:8] + "-" + pair["pair"]
        texts = texts_of(facts, shown["labels"])
        origins = {"human": "human", "caption": "synthetic", "candidate": "synthetic"}
        found[key] = {
            "id": pair["pair"],
            "picture": picture.read_bytes(),
            "facts": facts,
            "texts": [text["words"] for text in texts],
            "origins": [origins.get(text["origin"], "web") for text in texts],
            "scores": [text["itm"] for text in texts],
        }
    return found


def coded(jpeg):
    """A JPEG without its APP1 segments."""
    assert jpeg[:2] == b"\xff\xd8"
    at, kept = 2, [jpeg[:2]]
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        kept += [jpeg[at:end]] if jpeg[at + 1] != 0xE1 else []
        at = end
    return b"".join(kept) + jpeg[at:]


def same_picture(jpeg, stored):
    assert coded(jpeg) == coded(stored), "something else than EXIF and XMP has changed"


def same_pixels(image, stored, work):
    (work / "pixels.jpg").write_bytes(stored)
    plain = Image.open(work / "pixels.jpg").convert("RGB")
    assert image.convert("RGB").tobytes() in (plain.tobytes(), upright(plain, work).tobytes())


def upright(plain, work):
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(work / "pixels.jpg")).convert("RGB")


def same_scores(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted):
        assert one is other is None or abs(one - other) < 1e-6, (found, wanted)


def check_imagefolder(folder, pairs, work):
    table = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(work / "hf"))
    assert sorted(table["key"]) == sorted(pairs)
    for row in table:
        pair = pairs[row["key"]]
        same_pixels(row["image"], pair["picture"], work)
        assert row["text"] == (pair["texts"] or [None])[0]
        assert [text["text"] for text in row["texts"]] == pair["texts"]
        assert [text["origin"] for text in row["texts"]] == pair["origins"]
        same_scores([text["score"] for text in row["texts"]], pair["scores"])
    for key, pair in pairs.items():
        same_picture((folder / "images" / f"{key}.jpg").read_bytes(), pair["picture"])


def check_webdataset(folder, pairs, work):
    tars = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert sorted(sample["__key__"] for sample in samples) == sorted(pairs)
    for sample in samples:
        pair = pairs[sample["__key__"]]
        same_picture(sample["jpg"], pair["picture"])
        assert sample.get("txt", b"").decode() == (pair["texts"] or [""])[0]
        fields = json.loads(sample["json"])
        assert [text["text"] for text in fields["texts"]] == pair["texts"]
        same_scores([text["score"] for text in fields["texts"]], pair["scores"])
    decoded = next(iter(webdataset.WebDataset(tars, shardshuffle=False).decode("pil")))
    same_pixels(decoded["jpg"], pairs[decoded["__key__"]]["picture"], work)


def check_coco(folder, pairs, work):
    coco = COCO(str(folder / "annotations.json"))
    images = coco.loadImgs(coco.getImgIds())
    assert sorted(image["key"] for image in images) == sorted(pairs)
    for image in images:
        pair = pairs[image["key"]]
        same_picture((folder / image["file_name"]).read_bytes(), pair["picture"])
        captions = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert [caption["caption"] for caption in captions] == pair["texts"]
        same_scores([caption["score"] for caption in captions], pair["scores"])


def check_blip(folder, pairs, work):
    """As BLIP's `data/pretrain_dataset.py` reads it: a list of `image` and `caption`."""
    rows = json.loads((folder / "annotations.json").read_text())
    found = {}
    for row in rows:
        Image.open(folder / row["image"]).load()
        same_picture((folder / row["image"]).read_bytes(), pairs[row["key"]]["picture"])
        found.setdefault(row["key"], []).extend([row["caption"]] if row["caption"] else [])
    assert found == {key: pair["texts"] for key, pair in pairs.items()}


def check_parquet(folder, pairs, work):
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert sorted(row["key"] for row in rows) == sorted(pairs)
    for row in rows:
        pair = pairs[row["key"]]
        same_picture(row["image"]["bytes"], pair["picture"])
        assert (row["text"], row["origin"]) == (pair["texts"], pair["origins"])
        same_scores(row["score"], pair["scores"])
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(work / "hf"))
    first = table.cast_column("image", datasets.Image())[0]
    same_pixels(first["image"], pairs[first["key"]]["picture"], work)


def check_sidecars(folder, pairs, work):
    pictures = {path.stem: path for path in (folder / "images").glob("*.jpg")}
    assert sorted(pictures) == sorted(pairs)
    for key, path in pictures.items():
        same_picture(path.read_bytes(), pairs[key]["picture"])
        assert path.with_suffix(".txt").read_text().splitlines() == pairs[key]["texts"]


def taken(pair):
    stamp = pair["facts"]["taken"]
    return datetime.datetime.fromtimestamp(stamp["wall_ms"] // 1000, ZONE) if stamp["wall_ms"] else None


def check_camtrap(folder, pairs, work):
    """Against the version's profile and table schemas, which lie beside this, and not by the network."""
    package = json.loads((folder / "datapackage.json").read_text())
    assert "/1.0.2/" in package["profile"] and package["project"]["title"] == CAMTRAP[1]
    profile = json.loads((SCHEMAS / "camtrap-dp-profile.json").read_text())
    # What the profile refers to, as frictionless has it.
    places = pathlib.Path(frictionless.__file__).parent / "assets" / "profiles" / "geojson.json"
    others = {
        "https://specs.frictionlessdata.io/schemas/data-package.json": frictionless.Package.metadata_profile,
        "http://json.schemastore.org/geojson.json": json.loads(places.read_text()),
    }
    drafts = referencing.jsonschema.DRAFT4
    resources = [(url, drafts.create_resource(schema)) for url, schema in others.items()]
    registry = referencing.Registry().with_resources(resources)
    checker = jsonschema.Draft4Validator(profile, registry=registry, format_checker=jsonschema.FormatChecker())
    checker.validate(package)
    for resource in package["resources"]:
        schema = SCHEMAS / resource["schema"].rsplit("/", 1)[1]
        assert f"/1.0.2/{schema.name}" in resource["schema"]
        resource["schema"] = json.loads(schema.read_text())
    del package["profile"]
    report = frictionless.Package(package, basepath=str(folder)).validate()
    assert report.valid, report.flatten(["type", "note", "rowNumber", "fieldName"])
    tables = {}
    for name in ["deployments", "media", "observations"]:
        with (folder / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    [deployment] = tables["deployments"]
    assert (deployment["deploymentID"], deployment["locationName"]) == ("nest-3", "Nest <3> & sons")
    assert (float(deployment["latitude"]), float(deployment["longitude"])) == PLACE
    assert deployment["timestampIssues"] == "false"
    times = sorted(taken(pair) for pair in pairs.values())
    assert [deployment["deploymentStart"], deployment["deploymentEnd"]] == [times[0].isoformat(), times[-1].isoformat()]
    assert sorted(medium["mediaID"] for medium in tables["media"]) == sorted(pairs)
    for medium in tables["media"]:
        pair = pairs[medium["mediaID"]]
        assert medium["timestamp"] == taken(pair).isoformat()
        same_picture((folder / medium["filePath"]).read_bytes(), pair["picture"])
        observed = [row for row in tables["observations"] if row["mediaID"] == medium["mediaID"]]
        texts = ["'" + text if text[0] in "=+-@" else text for text in pair["texts"]]
        assert [row["observationComments"] for row in observed] == texts
        human = ["human" if origin == "human" else "machine" for origin in pair["origins"]]
        assert [row["classificationMethod"] for row in observed] == human
        found = [float(row["classificationProbability"]) if row["classificationProbability"] else None for row in observed]
        same_scores(found, pair["scores"])
        assert all("bundle" in row["classifiedBy"] for row in observed if row["classificationMethod"] == "machine")
    assert any(row["classifiedBy"] == "Ada" for row in tables["observations"])


def exif_of(paths):
    command = ["exiftool", "-json", "-n", "-G1", "-struct", "-charset", "utf8", "-validate", "-warning", "-error", "-a", "-all"]
    command += ["-ThumbnailImage", "-b", *map(str, paths)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def check_metadata(folder, pairs, sideways):
    """Every value as ExifTool reads it, and nothing that it warns of."""
    for tags in exif_of(sorted((folder / "images").glob("*.jpg"))):
        key = pathlib.Path(tags["SourceFile"]).stem
        pair = pairs[key]
        is_cameras = pair["id"] == sideways
        # Errors, warnings, minor warnings. What a camera left out is the camera's.
        found = tags["ExifTool:Validate"]
        assert found.startswith("0 ") if is_cameras else found == "0 0 0", (key, found, tags.get("ExifTool:Warning"))
        assert not [name for name in tags if name.endswith(":Error" if is_cameras else (":Warning", ":Error"))], tags
        assert tags["IFD0:ImageDescription"] == pair["texts"][0]
        assert tags["XMP-dc:Description"] == ("theirs" if is_cameras else pair["texts"][0])
        when, place = taken(pair), pair["facts"]["place"]
        trusted = pair["facts"]["taken"]["quality"] != "guessed"
        assert tags["XMP-edgeblip:Clock"] == ("known" if trusted else "guessed")
        local = when.strftime("%Y:%m:%d %H:%M:%S")
        if is_cameras:
            assert tags["IFD0:Orientation"] == 6 and tags["IFD0:Make"] == "Acme" and tags["IFD0:Model"] == "Trap 1"
            assert tags["ExifIFD:DateTimeOriginal"] == "2020:01:02 03:04:05" and "ExifIFD:OffsetTimeOriginal" not in tags
            assert tags["XMP-dc:Creator"] in ("somebody", ["somebody"])
            assert tags["IFD1:ThumbnailImage"].startswith("base64:")
            assert tags["File:ExifByteOrder"] == "MM"
        elif trusted:
            assert tags["ExifIFD:DateTimeOriginal"] == local
            assert tags["ExifIFD:OffsetTimeOriginal"] == "+05:30"
            assert int(tags["ExifIFD:SubSecTimeOriginal"]) == pair["facts"]["taken"]["wall_ms"] % 1000
            assert tags["XMP-exif:DateTimeOriginal"] == tags["XMP-photoshop:DateCreated"] == local + "+05:30"
        else:
            assert "ExifIFD:DateTimeOriginal" not in tags and tags["XMP-edgeblip:GuessedTime"] == local + "+05:30"
        if place["coordinates"]:
            north, east = place["coordinates"]
            assert abs(tags["Composite:GPSLatitude"] - north) < 1e-6 and abs(tags["Composite:GPSLongitude"] - east) < 1e-6
            assert abs(abs(tags["XMP-exif:GPSLatitude"]) - abs(north)) < 1e-6
            assert (tags["GPS:GPSLatitudeRef"], tags["GPS:GPSLongitudeRef"]) == ("S", "E")
        assert tags["XMP-iptcCore:Location"] == place["name"] == "Nest <3> & sons"
        assert tags["IFD0:Software"].startswith("edgeblip ")
        others = tags.get("XMP-edgeblip:Texts", [])
        assert (others if isinstance(others, list) else [others]) == pair["texts"][1:]
        if pair["scores"][0] is not None:
            assert abs(tags["XMP-edgeblip:Match"] - pair["scores"][0]) < 1e-6


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_refusals(board, pairs):
    """What is there stays; what is damaged is named, and the rest is exported."""
    before = tree(board.work / "coco")
    assert "exists already" in export(board, "coco", "coco", code=1)["said"]
    assert tree(board.work / "coco") == before
    assert "--project" in export(board, "camtrap-dp", "no-project", code=1)["said"]
    wrong = board.work / "damaged"
    shutil.copytree(board.store, wrong / "pairs")
    victim = next(iter(pairs.values()))["id"]
    boot, number = map(int, victim.split("-"))
    for path in sorted((wrong / "pairs").rglob("*")):
        if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            with sqlite3.connect(path) as database:
                database.execute("UPDATE pairs SET jpeg = zeroblob(100) WHERE id = ?", [(boot << 40) | number])
            database.close()
    arguments = ["--store", str(wrong / "pairs"), "--json"]
    command = [board.program, "pairs", "export", "sidecars", str(wrong / "out"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"pair {victim}" in done.stderr, done
    said = json.loads(done.stdout)
    assert (said["pairs"], said["faults"]) == (len(pairs) - 1, 1), said


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else scratch).resolve()
        start = time.monotonic()
        board = make_store(program, work)
        names = label(board)
        pairs = expected(board)
        by_id = {pair["id"]: pair for pair in pairs.values()}
        assert by_id[names["rewritten"]]["texts"] == [HOSTILE] and names["rejected"] not in by_id
        assert by_id[names["added"]]["texts"][0] == FOREIGN and len(by_id[names["accepted"]]["texts"]) == 1
        print(f"a store of {len(board.pairs())} pairs, {len(pairs)} kept: {time.monotonic() - start:.1f} s", flush=True)
        for name in FORMATS:
            arguments = CAMTRAP if name == "camtrap-dp" else []
            wanted = pairs
            if name == "camtrap-dp":
                wanted = {key: pair for key, pair in pairs.items() if pair["facts"]["taken"]["quality"] != "guessed"}
            start = time.monotonic()
            done = export(board, name, name, *arguments)
            assert (done["pairs"], done["faults"], done["partly_told"]) == (len(wanted), 0, 0), done
            assert done["untimed"] == len(pairs) - len(wanted)
            export(board, name, f"{name}-again", *arguments)
            assert tree(work / name) == tree(work / f"{name}-again"), f"{name}: other bytes"
            globals()[f"check_{name.split('-')[0]}"](work / name, wanted, work)
            print(f"{name}: {len(wanted)} pairs read back: {time.monotonic() - start:.1f} s", flush=True)
        check_metadata(work / "imagefolder", pairs, names["sideways"])
        print("EXIF and XMP: read back by ExifTool", flush=True)
        export(board, "sidecars", "as-they-are", "--metadata", "leave")
        for key, pair in pairs.items():
            assert (work / "as-they-are" / "images" / f"{key}.jpg").read_bytes() == pair["picture"]
        rejected = export(board, "sidecars", "rejected", "--state", "rejected")["pairs"]
        assert export(board, "sidecars", "all", "--state", "all")["pairs"] == rejected + len(pairs)
        last = sorted(pairs.values(), key=lambda pair: tuple(map(int, pair["id"].split("-"))))
        assert export(board, "sidecars", "since", "--since", last[1]["id"])["pairs"] == len(pairs) - 2
        check_refusals(board, pairs)
        print("states, a place that is taken, a damaged pair: as documented")


if __name__ == "__main__":
    main()
