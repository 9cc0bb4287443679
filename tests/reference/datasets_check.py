"""`edgeblip-trainer dataset write`, read back by pyarrow, DuckDB and Hugging Face's `datasets`.

The shards are made here, from what docs/sync.md and store/src/pair.rs say, so that the host reads another program's. What
must be in a version is worked out from the shards: pictures are compared by their SHA-256.
Usage: datasets_check.py EDGEBLIP EDGEBLIP_TRAINER [FOLDER]
"""

import collections
import hashlib
import io
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tarfile
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

import datasets
import duckdb
import pyarrow.dataset
import pyarrow.parquet
from PIL import Image

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01
COLUMNS = ["image", "text", "sha256", "device", "day", "source", "itm", "itc", "verdict", "verdict_by"]


def picture(chance):
    """A JPEG of 9 x 8 random shades, softly drawn."""
    cells = Image.frombytes("L", (9, 8), bytes(chance.randrange(256) for _ in range(72)))
    out = io.BytesIO()
    cells.resize((288, 256), Image.BICUBIC).convert("RGB").save(out, "JPEG", quality=88)
    return out.getvalue()


def pair(number, jpeg, words, kept, day):
    """Hash, facts and picture of a pair, as a board stores them."""
    decision = "kept" if kept else {"rejected": "threshold"}
    text = {"words": words, "origin": "caption", "itm": 0.75, "itc": None, "log_prob": None, "decision": decision, "model": None}
    sensor = {"camera": "test", "trigger": "interval", "exposure_us": None, "temperature_c": None, "throttled": None}
    taken = {"since_boot_ms": number, "wall_ms": None, "quality": "guessed"}
    if day is not None:
        taken |= {"wall_ms": START_MS + day * DAY_MS + 3_600_000, "quality": "ntp"}
    facts = {"id": f"1-{number}", "boot_id": "a boot", "jpeg_bytes": len(jpeg), "texts": [text], "sensor": sensor, "place": None}
    facts = json.dumps({**facts, "taken": taken, "bundle": None}, ensure_ascii=False).encode()
    mark = b"edgeblip pair 1\n" + struct.pack("<Q", len(facts))
    return hashlib.sha256(mark + facts + jpeg).hexdigest(), facts, jpeg


def pack(pairs):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, facts, jpeg in pairs:
            texts = [text["words"] for text in json.loads(facts)["texts"] if text["decision"] == "kept"]
            members = [("jpg", jpeg), *[("txt", text.encode()) for text in texts[:1]], ("json", facts)]
            for ending, data in members:
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


class Host:
    def __init__(self, edgeblip, trainer, work):
        self.edgeblip, self.trainer, self.work, self.folder = edgeblip, trainer, work, work / "host"

    def say(self, *command):
        return run(self.trainer, *command, "--host", self.folder, "--json")

    def let_in(self, device):
        request, grant = self.work / f"{device}.request", self.work / f"{device}.grant"
        run(self.edgeblip, "enrol", "--store", self.work / device / "pairs", "--out", request, "--name", device, "--json")
        self.say("devices", "approve", request, "--out", grant)

    def bring(self, device, pairs):
        shards = self.folder / "objects" / "devices" / device / "shards"
        shards.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(pairs), 50):
            tar = pack(pairs[start : start + 50])
            (shards / f"{hashlib.sha256(tar).hexdigest()}.tar").write_bytes(tar)
        summary = self.say("inbox")[0]
        assert summary["pairs"] == len(pairs) and not summary["refused"], summary

    def write(self, *more):
        return self.say("dataset", "write", "--shares", "60/20/20", *more)[0]


def make(host):
    """Two boards, three weeks; gives what must be in the dataset: picture, text, board, day, source, whose word."""
    chance = random.Random(7)
    expected = {}
    number = 0
    again = picture(chance)  # on every day: what is not in test must leave it out
    for device in ["garden", "roof"]:
        host.let_in(device)
        pairs = []
        for day in [None, *range(20)]:
            for place in range(9):
                number += 1
                kept = number % 10 != 0
                made = pair(number, again if place == 4 else picture(chance), f"Eule № {number}, \"größer\" als 猫", kept, day)
                pairs.append(made)
                if kept:
                    date = None if day is None else f"2026-01-{day + 1:02}"
                    text = json.loads(made[1])["texts"][0]["words"]
                    expected[made[0]] = [hashlib.sha256(made[2]).hexdigest(), text, device, date, "model", "filter"]
        host.bring(device, pairs)
        first, second = pairs[1][0], pairs[2][0]
        host.say("pairs", "rewrite", first[:16], "a small owl, by hand")
        expected[first][1], expected[first][4], expected[first][5] = "a small owl, by hand", "human", "host"
        host.say("pairs", "reject", second)
        del expected[second]
    return expected


def seen(rows):
    """The same from rows with the bytes of pictures."""
    fields = ["text", "device", "day", "source", "verdict_by"]
    found = {}
    for row in rows:
        assert row["sha256"] not in found, "a pair stands twice"
        assert row["image"]["path"] == f"{row['sha256']}.jpg" and row["verdict"] == "kept"
        assert row["itm"] == (0.75 if row["source"] == "model" else None) and row["itc"] is None
        found[row["sha256"]] = [hashlib.sha256(row["image"]["bytes"]).hexdigest(), *[row[field] for field in fields]]
    return found


def check(version, expected):
    folder, card = pathlib.Path(version["folder"]), version["card"]
    splits = {}
    for split, count in card["splits"].items():
        files = sorted(str(path) for path in folder.glob(f"data/{split}-*.parquet"))
        by_arrow = seen(pyarrow.dataset.dataset(files).to_table().to_pylist())
        assert len(by_arrow) == count, split
        relation = duckdb.read_parquet(files)
        assert relation.columns == COLUMNS, relation.columns
        by_duckdb = seen(dict(zip(COLUMNS, row)) for row in relation.fetchall())
        assert by_duckdb == by_arrow, f"{split}: DuckDB and pyarrow do not agree"
        for path in files:
            parquet = pyarrow.parquet.ParquetFile(path)
            assert all(parquet.metadata.row_group(group).num_rows <= 100 for group in range(parquet.num_row_groups))
        splits[split] = by_arrow
    everything = {key: row for rows in splits.values() for key, row in rows.items()}
    left_out = card["left_out"]["near_in_train"] + card["left_out"]["near_in_validation"]
    assert len(everything) == card["pairs"] == sum(map(len, splits.values())), "a pair is in two splits"
    assert len(expected) - len(everything) == left_out, (len(expected), len(everything), left_out)
    assert all(expected[key] == row for key, row in everything.items())
    groups = collections.defaultdict(set)
    for split, rows in splits.items():
        for row in rows.values():
            groups[row[2], row[3]].add(split)
    assert all(len(where) == 1 for where in groups.values()), groups
    check_by_datasets(folder, card, splits)
    for name, facts in card["files"].items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == facts["sha256"] and len(data) == facts["bytes"], name
        assert (folder / name).stat().st_mode & 0o777 == 0o444, name
    return {group: where.pop() for group, where in groups.items()}


def check_by_datasets(folder, card, splits):
    with tempfile.TemporaryDirectory() as cache:
        readme = datasets.load_dataset_builder(str(folder), cache_dir=cache).info.splits
        assert {name: split.num_examples for name, split in readme.items()} == card["splits"], "README.md is not read"
        loaded = datasets.load_dataset(str(folder), cache_dir=cache)
        assert {split: len(rows) for split, rows in loaded.items()} == card["splits"], loaded
        for split, rows in loaded.items():
            assert isinstance(rows.features["image"], datasets.Image), rows.features
            assert rows[0]["image"].size == (288, 256)
            raw = rows.cast_column("image", datasets.Image(decode=False))
            assert seen(raw) == splits[split], f"{split}: datasets reads something else"


def main():
    edgeblip, trainer = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as made:
        work = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else made).resolve()
        host = Host(edgeblip, trainer, work)
        expected = make(host)
        first = host.write()
        groups = check(first, expected)
        assert first["card"]["left_out"]["near_in_train"] > 10, first["card"]["left_out"]
        assert set(groups.values()) == {"train", "validation", "test"}, groups
        assert host.write()["version"] == first["version"], "nothing has changed"
        key = next(iter(expected))
        assert host.say("pairs", "delete", key)[0] == {"pairs": 1, "shards": 0, "versions": [1]}
        del expected[key]
        second = host.write()
        again = check(second, expected)
        assert all(groups[group] == split for group, split in again.items()), "a group has moved"
        states = [version["state"] for version in host.say("dataset", "list")]
        assert "withdrawn" in states[0] and states[1] == "standing", states
        assert host.say("dataset", "verify", 2)[0]["faults"] == []
        backup = host.say("backup", "--to", work / "backup", "--verify")[0]
        assert backup["faults"] == [] and backup["checked"] == backup["pairs"], backup
        print(json.dumps({"pairs": second["card"]["pairs"], "splits": second["card"]["splits"], "left_out": second["card"]["left_out"]}))
    print("pyarrow, DuckDB and datasets read what came home")


if __name__ == "__main__":
    main()
