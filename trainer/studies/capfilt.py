#!/usr/bin/env python3
"""Does CapFilt help? Four ways to train on pairs of which half are wrong, at equal steps.

    none       people's pairs and all pairs from the web
    filter     people's pairs and what the filter keeps of the web's
    captioner  people's pairs, the web's, and a synthetic text for each picture of the web
    both       people's pairs and what the filter keeps of the web's and the synthetic texts

Captioner and filter start from the model of "none" and are fine-tuned apart on people's pairs. The other three models
are new ones. Needs Python's standard library alone, and the program `edgeblip-trainer`.

    capfilt.py run FOLDER --seed 1 --trainer target/release/edgeblip-trainer    goes on where it was stopped
    capfilt.py better FOLDER --seed 1 --right 0.75                              after a run: had the captioner been better
    capfilt.py report FOLDER...                                                 tables of several seeds, as Markdown
    capfilt.py check FOLDER                                                     fails unless "both" beats "none"

Source of the four ways: Li et al., "BLIP" (arXiv 2201.12086), section 3.3 and table 1.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = ["none", "filter", "captioner", "both"]

SCENES = """
side = 48
nouns = ["ball", "boat", "car", "cup", "fish", "house", "star", "tree"]
relations = ["left-of", "right-of"]
backgrounds = ["grass", "sand"]
held-out-combinations = 0.0
pair-share = {pairs}
"""

# The paper's image encoder comes from ImageNet; this one from another model, which saw other drawings of other things.
PRETRAIN = """
[model]
tokenizer = "captions"
vision_from = "{vision}"
vision_width = 128
vision_layers = 4
vision_heads = 4
vision_feed_forward = 512
patch_size = 8
image_size = 48
text_width = 96
text_layers = 2
text_heads = 3
text_feed_forward = 288
positions = 24
projection_width = 48
deviation = 0.1

[data]
train = [{train}]
tokens = 20
{common}
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
seed = {seed}
threads = {threads}

[output]
snapshot_every = 0
captions_every = 0
"""

FINETUNE = """
[model]
from = [{models}]
image_size = 48

[data]
train = [{train}]
tokens = 20
{prompt}
{common}
[losses]
queue = {queue}
{alpha}

[optimizer]
rate = 3e-4
least_rate = 1e-5
decay = "cosine"
clip = 1.0

[run]
batch = 24
steps = {steps}
seed = {seed}
threads = {threads}

[output]
snapshot_every = 0
captions_every = 0
"""

# Scenes say left and right, and models this small need no dropout.
COMMON = """
[augmentation]
enabled = false

[dropout]
hidden = 0.0
attention = 0.0
"""

# "pairs" is the share of scenes with two things, one beside the other; the others have one to three of one thing.
SIZES = {
    "full": {
        "web": 8000, "people": 400, "test": 150, "beams": 1500, "pairs": 0.5, "steps": 1200,
        "tuning": {"captioner": 150, "matcher": 120},
    },
    # For a GPU: three times the pictures, six times the pairs by people, four times the steps.
    "large": {
        "web": 24000, "people": 2400, "test": 150, "beams": 1500, "pairs": 0.5, "steps": 5000,
        "tuning": {"captioner": 600, "matcher": 500},
    },
    "smoke": {
        "web": 2000, "people": 100, "test": 48, "beams": 0, "pairs": 0.0, "steps": 300,
        "tuning": {"captioner": 60, "matcher": 60},
    },
}

# Numbers of the first scenes: none is in two sets.
FIRST = {"web": 0, "people": 1_000_000, "test": 2_000_000}

# The filter learned from two wrong texts for each right one: a text as likely right as wrong scores one third.
THRESHOLD = 1 / 3


class Study:
    def __init__(self, arguments):
        self.folder = Path(arguments.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trainer = str(Path(arguments.trainer).resolve())
        self.vision = str(Path(arguments.vision).resolve())
        self.seed, self.threads = arguments.seed, arguments.threads
        self.sizes = SIZES[arguments.size]

    def call(self, *arguments, out=None):
        """Runs the trainer; its output is the file `out`, which shows that it is done."""
        target = self.folder / out
        if target.exists():
            return
        began = time.monotonic()
        done = subprocess.run([self.trainer, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")
        partial = target.with_suffix(".partial")
        partial.write_text(done.stdout)
        partial.rename(target)
        print(f"seed {self.seed}: {out}: {time.monotonic() - began:.0f} s", flush=True)

    def scenes(self, name, count, noise=0.0):
        settings = self.folder / "scenes.toml"
        settings.write_text(SCENES.format(pairs=self.sizes["pairs"]))
        arguments = ["scenes", "--settings", settings, "--seed", self.seed, "--first", FIRST[name], "--count", count]
        self.call(*arguments, "--noise", noise, "--out", self.folder / name, out=f"{name}.made")
        return rows(self.folder / name)

    def dataset(self, name, source, texts):
        """A dataset of pictures of `source`: those that `texts` has texts for, as (text, origin)."""
        folder = self.folder / name
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with open(folder / "metadata.jsonl", "w") as out:
            for row in rows(self.folder / source):
                own = [{"text": text, "origin": origin, "score": None} for text, origin in texts.get(row["key"], [])]
                if own:
                    link(self.folder / source / row["file_name"], folder / row["file_name"])
                    row |= {"texts": own, "text": own[0]["text"]}
                    out.write(json.dumps(row) + "\n")

    def train(self, way, datasets):
        self.settle(way, PRETRAIN.format(
            vision=self.vision, train=self.paths(datasets), common=COMMON, steps=self.sizes["steps"], seed=self.seed,
            threads=self.threads))
        self.call("pretrain", self.folder / f"{way}.toml", "--out", self.folder / way, out=f"{way}.trained")

    def tune(self, task):
        models = ", ".join(f'"{self.model("none", role)}"' for role in ["captioner", "matcher"])
        captioner = task == "captioner"
        self.settle(f"tuned-{task}", FINETUNE.format(
            models=models, train=self.paths(["people"]), common=COMMON, seed=self.seed, threads=self.threads,
            steps=self.sizes["tuning"][task], prompt='prompt = ""' if captioner else "",
            queue=0 if captioner else 24, alpha="" if captioner else "alpha = 0.0"))
        out = self.folder / f"tuned-{task}"
        self.call("finetune", task, self.folder / f"tuned-{task}.toml", "--out", out, out=f"{task}.tuned")

    def capfilt(self, name, dataset, *more):
        self.call(
            "capfilt", self.folder / dataset, "--captioner", self.model("tuned-captioner", "captioner"),
            "--filter", self.model("tuned-matcher", "matcher"), "--threshold", THRESHOLD,
            "--seed", self.seed, "--threads", self.threads, "--out", self.folder / name, "--json", *more,
            out=f"{name}.json")

    def figures(self, way):
        self.call(
            "evaluate", self.folder / "test", "--captioner", self.model(way, "captioner"), "--matcher",
            self.model(way, "matcher"), "--threads", self.threads, "--json", out=f"{way}.evaluated")
        found = json.loads((self.folder / f"{way}.evaluated").read_text())
        scores, retrieval = found["captions"]["scores"], found["retrieval"]
        return {
            "exact": scores["exact"], "cider": scores["cider"],
            "texts_at_1": retrieval["texts_of_images"]["at_1"], "images_at_1": retrieval["images_of_texts"]["at_1"],
        }

    def settle(self, name, text):
        (self.folder / f"{name}.toml").write_text(text)

    def paths(self, datasets):
        return ", ".join(f'"{(self.folder / name).resolve()}"' for name in datasets)

    def model(self, run, role):
        return str((self.folder / run / "model" / role).resolve())

    def run(self):
        sizes = self.sizes
        truth = {row["key"]: captions(row) for row in self.scenes("web", sizes["web"], noise=0.5)}
        self.scenes("people", sizes["people"])
        self.distinct_test()

        self.train("none", ["people", "web"])
        self.tune("captioner")
        self.tune("matcher")
        self.capfilt("cleaned", "web")
        decisions = read(self.folder / "cleaned" / "decisions.jsonl")
        kept = [row for row in decisions if row["kept"] and row["origin"] == "web"]
        self.dataset("kept", "web", texts_of(kept))
        self.dataset("captioned", "web", texts_of(row for row in decisions if row["reason"] != "empty"))
        self.train("filter", ["people", "kept"])
        self.train("captioner", ["people", "captioned"])
        self.train("both", ["people", "cleaned/dataset"])

        result = {"seed": self.seed, "sizes": sizes, "ways": {}}
        for way in WAYS:
            result["ways"][way] = self.figures(way)
        for origin in ["web", "synthetic"]:
            result[origin] = judged([row for row in decisions if row["origin"] == origin and row["itm"] is not None], truth)
        if sizes["beams"]:
            result["beams"] = self.beams(truth, decisions)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        result["cpu_minutes"] = (usage.ru_utime + usage.ru_stime) / 60
        (self.folder / "result.json").write_text(json.dumps(result, indent=1))

    def better(self, share):
        """"captioner" and "both" again, with true captions in the place of wrong synthetic texts until `share` are right.

        A true caption passes the filter as often as the captioner's right texts did; the rest is as it was decided.
        """
        truth = {row["key"]: sorted(captions(row)) for row in rows(self.folder / "web")}
        result = json.loads((self.folder / "result.json").read_text())
        wrong = 1 - result["synthetic"]["right"]
        chance = random.Random(self.seed)
        decisions = read(self.folder / "cleaned" / "decisions.jsonl")
        for row in decisions:
            replaced = row["origin"] == "synthetic" and row["text"] not in truth[row["key"]]
            if replaced and chance.random() < (share - 1 + wrong) / wrong:
                row["text"] = chance.choice(truth[row["key"]])
                row["kept"] = chance.random() < result["synthetic"]["recall"]
        self.dataset("better-captioned", "web", texts_of(row for row in decisions if row["reason"] != "empty"))
        self.dataset("better-kept", "web", texts_of(row for row in decisions if row["kept"]))
        for way, dataset in [("better-captioner", "better-captioned"), ("better-both", "better-kept")]:
            self.train(way, ["people", dataset])
            figures = self.figures(way)
            print(f"{way}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in figures.items()), flush=True)

    def distinct_test(self):
        """Pictures of which no two have the same caption, each with every caption that is true of it."""
        first, seen = {}, set()
        for row in self.scenes("test", 10 * self.sizes["test"]):
            true = captions(row)
            if true.isdisjoint(seen) and len(first) < self.sizes["test"]:
                seen |= true
                first[row["key"]] = [(caption, "human") for caption in sorted(true)]
        if len(first) < self.sizes["test"] and not (self.folder / "test.cut").exists():
            print(f"only {len(first)} pictures differ", flush=True)
        if not (self.folder / "test.cut").exists():
            (self.folder / "test").rename(self.folder / "pool")
            self.dataset("test", "pool", first)
            (self.folder / "test.cut").touch()

    def beams(self, truth, decisions):
        keys = [row["key"] for row in rows(self.folder / "web")[: self.sizes["beams"]]]
        self.dataset("some", "web", {key: [("none", "web")] for key in keys})
        self.capfilt("beams", "some", "--beams")
        found = read(self.folder / "beams" / "decisions.jsonl")
        own = lambda rows: [row for row in rows if row["origin"] == "synthetic" and row["key"] in set(keys)]
        return {"nucleus": judged(own(decisions), truth), "beams": judged(own(found), truth)}


def rows(folder):
    return read(folder / "metadata.jsonl")


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def captions(row):
    return set(json.loads(row["truth"])["captions"])


def texts_of(decisions):
    texts = {}
    for row in decisions:
        texts.setdefault(row["key"], []).append((row["text"], row["origin"]))
    return texts


def link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.link(source, target)


def judged(decisions, truth):
    """How often texts are right, and how well the filter knows. A duplicate was judged to match."""
    right = [row["text"] in truth[row["key"]] for row in decisions]
    passed = [row["reason"] in ("matches", "duplicate") for row in decisions]
    both = sum(a and b for a, b in zip(right, passed))
    share = lambda part, whole: part / whole if whole else 0.0
    return {
        "texts": len(right), "right": share(sum(right), len(right)), "rejected": 1 - share(sum(passed), len(passed)),
        "precision": share(both, sum(passed)), "recall": share(both, sum(right)),
    }


def report(folders):
    results = [json.loads((Path(folder) / "result.json").read_text()) for folder in folders]
    mean = lambda values: statistics.mean(values)
    names = {"exact": "exact captions %", "cider": "CIDEr", "texts_at_1": "texts R@1 %", "images_at_1": "pictures R@1 %"}
    print("| way | its texts that are right % |", " | ".join(f"{name}: mean (each seed)" for name in names.values()), "|")
    print("|---" * (len(names) + 2) + "|")
    for way in WAYS:
        cells = []
        for figure in names:
            values = [100 * result["ways"][way][figure] for result in results]
            cells.append(f"{mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})")
        print(f"| {way} | {100 * mean(right(result, way) for result in results):.0f} |", " | ".join(cells), "|")
    print("\n| texts | number | right % | rejected % | filter's precision % | recall % |\n|---|---|---|---|---|---|")
    table = [("from the web", lambda result: result["web"]), ("synthetic, nucleus", lambda result: result["synthetic"])]
    if all("beams" in result for result in results):
        table.append(("synthetic, nucleus, the pictures below", lambda result: result["beams"]["nucleus"]))
        table.append(("synthetic, three beams", lambda result: result["beams"]["beams"]))
    for name, of in table:
        numbers = [f"{100 * mean(of(result)[key] for result in results):.1f}" for key in ["right", "rejected", "precision", "recall"]]
        print(f"| {name} | {of(results[0])['texts']} |", " | ".join(numbers), "|")
    print(f"\nSeeds {', '.join(str(result['seed']) for result in results)}; CPU minutes a seed", ", ".join(f"{result['cpu_minutes']:.0f}" for result in results))


def right(result, way):
    """Share of the right texts among those that a way learns from."""
    texts = [(result["sizes"]["people"], 1.0)]
    for origin, kept_by in [("web", ("filter", "both")), ("synthetic", ("both",))]:
        found = result[origin]
        if way in kept_by:
            texts.append((found["texts"] * (1 - found["rejected"]), found["precision"]))
        elif origin == "web" or way == "captioner":
            texts.append((found["texts"], found["right"]))
    return sum(number * share for number, share in texts) / sum(number for number, _ in texts)


def check(folder):
    ways = json.loads((Path(folder) / "result.json").read_text())["ways"]
    for way in WAYS:
        print(f"{way}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in ways[way].items()))
    worse = [name for name in ["exact", "cider"] if ways["both"][name] <= ways["none"][name]]
    if worse:
        sys.exit(f"both is not better than none: {', '.join(worse)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run, better = commands.add_parser("run"), commands.add_parser("better")
    for command in [run, better]:
        command.add_argument("folder")
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--trainer", default="target/release/edgeblip-trainer")
        command.add_argument("--vision", default="models/starter/captioner", help="whose image encoder all start from")
        command.add_argument("--size", choices=SIZES, default="full")
        command.add_argument("--threads", type=int, default=1)
    better.add_argument("--right", type=float, default=0.75, help="share of synthetic texts to be right")
    commands.add_parser("report").add_argument("folders", nargs="+")
    commands.add_parser("check").add_argument("folder")
    arguments = parser.parse_args()
    if arguments.command == "run":
        Study(arguments).run()
    elif arguments.command == "better":
        Study(arguments).better(arguments.right)
    elif arguments.command == "report":
        report(arguments.folders)
    else:
        check(arguments.folder)


if __name__ == "__main__":
    main()
