"""How well `edgeblip run` filters: scenes of which half have a wrong text beside them, watched as a folder.

    filter_on_board.py FOLDER [--count 300] [--pictures 12000] [--steps 3000]

Goes on training the starter checkpoint on scenes whose texts are all right, exports it as an int8 bundle, makes other scenes with wrong texts for half of them,
once of the cut-outs that it learned from and once of held-out cut-outs and combinations, puts each scene's text beside its picture, lets `edgeblip run` take them
all, and compares what it decided with what is known to be right. Goes on where it was stopped. Prints a table for the docs. Needs Python's standard library, our three programs, and for cut-outs Tux Paint's
stamps: Debian's package tuxpaint-stamps-default.
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
STARTER = ROOT / "models/starter"
SCENES = """
side = 64
cutouts = "stamps"
nouns = ["apple", "banana", "bear", "bus", "car", "chicken", "cow", "elephant", "frog", "horse", "owl", "penguin", "rabbit", "strawberry", "tiger"]
"""
TRAIN = """
[model]
from = ["{starter}/captioner", "{starter}/matcher"]
image_size = 64

[data]
train = ["{learned}"]
tokens = 20

[augmentation]
enabled = false

[dropout]
hidden = 0.0
attention = 0.0

[losses]
queue = 32
alpha = 0.0

[optimizer]
rate = 1e-3
least_rate = 1e-5
warm_up_steps = 100
decay = "cosine"
clip = 1.0

[run]
batch = 32
steps = {steps}
seed = 1
threads = 2

[output]
snapshot_every = 0
captions_every = 0
"""
KINDS = {"raw": ["sidecar"], "synthetic": ["caption", "candidate"]}
SPLITS = {"new scenes of things it knows": [], "things it has never seen": ["--held-out"]}


def call(*arguments):
    subprocess.run(list(map(str, arguments)), check=True)


def bundle(arguments):
    """Goes on training the starter on scenes that are all right, and exports."""
    folder = arguments.folder
    done = folder / "bundle"
    if done.exists():
        return done
    settings = folder / "scenes.toml"
    settings.write_text(SCENES)
    learned, trained = folder / "learned", folder / "trained"
    if not learned.exists():
        call(arguments.trainer, "scenes", "--settings", settings, "--count", arguments.pictures, "--out", learned)
    if not (trained / "model").exists():
        shutil.rmtree(trained, ignore_errors=True)
        (folder / "train.toml").write_text(TRAIN.format(starter=STARTER, learned=learned.resolve(), steps=arguments.steps))
        call(arguments.trainer, "pretrain", folder / "train.toml", "--out", trained)
    call(arguments.export, trained / "model/captioner", trained / "model/matcher", "--out", done)
    return done


def scenes(arguments, held_out):
    made = arguments.folder / ("unseen" if held_out else "seen")
    if not made.exists():
        call(
            arguments.trainer, "scenes", "--settings", arguments.folder / "scenes.toml", "--out", made, "--first", 1_000_000,
            "--count", arguments.count, "--noise", 0.5, *held_out,
        )
    watched = arguments.folder / "watched"
    shutil.rmtree(watched, ignore_errors=True)
    watched.mkdir(parents=True)
    truth = {}
    for line in (made / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        picture = made / row["file_name"]
        name = f"{len(truth):05}"
        shutil.copy(picture, watched / f"{name}{picture.suffix}")
        text = row["text"].strip()
        # Some wrong texts are empty: a file without words is no text.
        (watched / f"{name}.txt").write_text(text + "\n")
        truth[name] = (text, set(json.loads(row["truth"])["captions"]))
    return watched, truth


def run(arguments, watched, count):
    store = arguments.folder / "pairs"
    shutil.rmtree(store, ignore_errors=True)
    config = arguments.folder / "edgeblip.toml"
    config.write_text(
        f'[model]\nbundle = "{bundle(arguments).resolve()}"\n[camera]\nsource = "folder:{watched.resolve()}"\n[store]\nfolder = "{store.resolve()}"\n'
        '[triggers]\nduplicate_cosine = "never"\n[filter]\naudit = 1.0\n'
    )
    program = subprocess.Popen([arguments.edgeblip, "run", "--config", config], stderr=subprocess.PIPE, text=True)
    frames = 0
    for line in program.stderr:
        frames += " frame=" in line
        if frames == count:
            program.send_signal(signal.SIGTERM)
            frames += 1
    assert program.wait() == 0, "edgeblip run failed"
    listed = subprocess.run(
        [arguments.edgeblip, "pairs", "list", "--store", store, "--json", "--limit", str(count)],
        check=True, capture_output=True, text=True,
    )
    return [json.loads(line) for line in listed.stdout.splitlines()]


def share(part, whole):
    return f"{100 * part / whole:.1f}" if whole else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=12_000, help="to learn from")
    parser.add_argument("--steps", type=int, default=3000)
    for name, program in [("edgeblip", "edgeblip"), ("trainer", "edgeblip-trainer"), ("export", "edgeblip-export")]:
        parser.add_argument(f"--{name}", default=ROOT / "target/release" / program)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    bundle(arguments)
    print(f"{arguments.count} scenes each, ITM from 0.5\n")
    print("| scenes | texts | number | right % | rejected % | filter's precision % | recall % |\n|---|---|---|---|---|---|---|")
    for split, held_out in SPLITS.items():
        watched, truth = scenes(arguments, held_out)
        pairs = run(arguments, watched, len(truth))
        assert len(pairs) == len(truth), f"{len(pairs)} pairs of {len(truth)} scenes"
        # Pictures of a folder are taken by when they were written, and of one moment by name: so are the pairs.
        ordered = sorted(pairs, key=lambda pair: [int(part) for part in pair["pair"].split("-")])
        for kind, origins in KINDS.items():
            print(f"| {split} | {kind} | {' | '.join(map(str, figures(ordered, truth, origins)))} |")


def figures(pairs, truth, origins):
    """Number of texts, and in percent: right ones, rejected ones, right ones of the kept, kept ones of the right."""
    rows = []
    for pair, (text, right) in zip(pairs, truth.values(), strict=True):
        sidecars = [row["words"] for row in pair["texts"] if row["origin"] == "sidecar"]
        assert sidecars == [text] * bool(text), f"{sidecars} is beside another picture than {text!r}"
        # A duplicate of a kept text was judged to match.
        rows += [
            (row["words"] in right, row["decision"] == "kept" or row["reason"] == "same")
            for row in pair["texts"] if row["origin"] in origins
        ]
    both = sum(is_right and is_kept for is_right, is_kept in rows)
    kept, rights = sum(is_kept for _, is_kept in rows), sum(is_right for is_right, _ in rows)
    return len(rows), share(rights, len(rows)), share(len(rows) - kept, len(rows)), share(both, kept), share(both, rights)


if __name__ == "__main__":
    main()
