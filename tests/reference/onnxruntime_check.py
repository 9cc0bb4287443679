"""Runs exported bundles in ONNX Runtime, unmodified, and compares with `edgeblip` and with transformers' goldens.

    python onnxruntime_check.py --export PATH_TO_edgeblip-export --edgeblip PATH_TO_edgeblip [--limit N] [--work DIR]

Exports the starter and the tiny families, fp32 and int8; loads every graph of every bundle and makes each of them run:
pictures are read with Pillow, captions and answers written greedily and with three beams, texts matched and embedded.

fp32: ids are equal, numbers within 1e-4 of `edgeblip`'s and of the goldens.
int8: at least 99 % of the starter's captions have equal ids, and every difference, in any family, hangs on a near-tie. Greedy: at the
first step that differs, ONNX Runtime's logits of the two tokens are less than `NEAR_TIE` apart. Beams: with pixel values moved by no
more than `MOVED`, ONNX Runtime itself writes what `edgeblip` wrote. (Floats in another order of addition move an activation across a
rounding border here and there, and what follows from it further; a moved pixel does the same.)

Needs requirements.txt beside this file. `--limit` takes the first N held-out scenes only (one caption may differ, however few). The exit code is 1 on any failure.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnxruntime
import PIL

from bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests/goldens"
CLOSE = 1e-4
"""Largest difference in fp32: of probabilities and cosines, and of other numbers relative to the largest magnitude, at least 1."""
NEAR_TIE = 0.1
"""Largest gap, in nat, between two tokens of which either may be written."""
MOVED = 1e-5
"""Farthest that a pixel value moves: one grey level is about 1.5e-2."""
MOVES = [(reach, seed) for reach in (1e-7, 1e-6, MOVED) for seed in range(50)]
"""Reaches and seeds that are tried, the smallest reach first, before a difference counts as more than a near-tie."""
SCORES_CLOSE = 0.02
"""Largest difference of an int8 probability or cosine between the two programs: a rounded activation may fall to either side."""
EQUAL_CAPTIONS = 0.99


class Report:
    """What was compared, how far apart it was, and what was wrong."""

    def __init__(self):
        self.furthest, self.equal, self.ties, self.failures = {}, {}, [], []

    def close(self, where, what, found, expected, bound):
        found, expected = numpy.asarray(found, numpy.float64), numpy.asarray(expected, numpy.float64)
        apart = float(abs(found - expected).max() / max(1.0, abs(expected).max()))
        self.furthest[where, what] = max(self.furthest.get((where, what), 0.0), apart)
        if not apart <= bound:
            self.failures.append(f"{where}: {what} is {apart:.2e} apart")

    def ids(self, where, what, equal):
        done, count = self.equal.get((where, what), (0, 0))
        self.equal[where, what] = (done + equal, count + 1)

    def fail(self, message):
        self.failures.append(message)

    def print(self):
        for (where, what), (equal, count) in self.equal.items():
            print(f"{where:14} {what:34} ids equal {equal}/{count}")
        for (where, what), apart in self.furthest.items():
            print(f"{where:14} {what:34} at most {apart:.1e} apart")
        for tie in self.ties:
            print("near-tie", tie)
        for failure in self.failures:
            print("FAILED", failure)


def read_safetensors(path):
    """Arrays by name; float32 only, as the goldens are."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    arrays = {}
    for name, facts in header.items():
        assert facts["dtype"] == "F32", name
        start, end = (8 + length + offset for offset in facts["data_offsets"])
        arrays[name] = numpy.frombuffer(data[start:end], "<f4").reshape(facts["shape"])
    return arrays


class Programs:
    """Our two binaries."""

    def __init__(self, export, edgeblip):
        self.exporter, self.edgeblip = export, edgeblip

    def export(self, checkpoints, precision, out):
        command = [self.exporter, *checkpoints, "--precision", precision, "--out", out]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return out

    def ask(self, bundle, command, *arguments):
        line = [self.edgeblip, command, "--json", "--threads", 1, "--bundle", bundle.folder, *arguments]
        done = subprocess.run(list(map(str, line)), check=True, capture_output=True, text=True)
        return [json.loads(row) for row in done.stdout.splitlines()]


class Writer:
    """A decoder in front of a picture; `see` makes of pixels what its cross-attention reads."""

    def __init__(self, stack, see, pixels):
        self.stack, self.see, self.pixels = stack, see, pixels
        self.memory = see(pixels)


class Check:
    """One bundle, ours against ONNX Runtime's."""

    def __init__(self, name, bundle, programs, report):
        self.precision = bundle.manifest["precision"]
        self.where = f"{name} {self.precision}"
        self.bundle, self.programs, self.report = bundle, programs, report
        self.start = bundle.manifest["tokens"]["decoder_start"]
        self.exact = self.precision == "fp32"

    def close(self, what, found, expected, int8_bound=SCORES_CLOSE):
        self.report.close(self.where, what, found, expected, CLOSE if self.exact else int8_bound)

    def golden(self, what, found, expected):
        """Against transformers; int8 answers other numbers by design."""
        if self.exact:
            self.report.close(self.where, f"{what} (transformers)", found, expected, CLOSE)

    def writes(self, beams, stack, memory):
        if beams == 1:
            return self.bundle.greedy(stack, memory, self.start)
        return self.bundle.beam(stack, memory, self.start, beams)

    def text(self, what, beams, writer, ours, expected=None):
        """A caption or an answer: `ours` is a JSON line of our binary, `expected` transformers' ids."""
        ids, log_prob = self.writes(beams, writer.stack, writer.memory)
        equal = ids == ours["token_ids"]
        self.report.ids(self.where, what, equal)
        if self.exact and expected is not None:
            self.report.ids(self.where, f"{what} (transformers)", ids == expected)
            if ids != expected:
                self.report.fail(f"{self.where}: {what}: {ids}, transformers {expected}")
        if equal:
            self.close(f"{what} log_prob", ours["log_prob"], log_prob, int8_bound=NEAR_TIE)
        elif self.exact:
            self.report.fail(f"{self.where}: {what}: {ours['image']}: ours {ours['token_ids']}, ONNX Runtime {ids}")
        else:
            self.tie(what, beams, writer, ours, ids)

    def tie(self, what, beams, writer, ours, ids):
        ours_ids = ours["token_ids"]
        step = next(i for i, pair in enumerate(zip(ours_ids, ids)) if pair[0] != pair[1])
        line = f"{self.where}: {what}: {Path(ours['image']).name}: step {step}: ours {ours_ids[step]}, ONNX Runtime {ids[step]}"
        if beams == 1:
            logits = self.bundle.logits(writer.stack, writer.memory, ids[:step])
            gap = float(logits[ids[step]] - logits[ours_ids[step]])
            is_near, line = abs(gap) < NEAR_TIE, f"{line}, gap {gap:.4f} nat"
        else:
            reach = self.reach(beams, writer, ours_ids)
            is_near, line = reach is not None, f"{line}, equal with pixel values moved by at most {reach}"
        if is_near:
            self.report.ties.append(line)
        else:
            self.report.fail(line)

    def reach(self, beams, writer, wanted):
        """How far pixel values have to move for the beams to end in `wanted`."""
        for reach, seed in MOVES:
            move = numpy.random.default_rng(seed).uniform(-reach, reach, writer.pixels.shape)
            memory = writer.see(writer.pixels + move.astype(numpy.float32))
            if self.writes(beams, writer.stack, memory)[0] == wanted:
                return reach
        return None

    def captions(self, pictures, expected=None, features=None, first_logits=None):
        """`expected` maps 1 and 3 beams to ids by picture."""
        head = self.bundle.manifest["captioner"]
        see = lambda pixels: self.bundle.memory(head["decoder"], self.bundle.encode(pixels, head["vision"]))
        writers = {}
        for picture in pictures:
            pixels = self.bundle.pixels(picture, head["vision"])
            writers[picture] = Writer(head["decoder"], see, pixels)
            if features:
                self.golden("image features", self.bundle.encode(pixels, head["vision"])[0], features[picture])
            if first_logits:
                logits = self.bundle.logits(head["decoder"], writers[picture].memory, [self.start])
                self.golden("first logits", logits, first_logits[picture])
        for what, beams, flags in (("greedy captions", 1, ["--decode", "greedy"]), ("beam-3 captions", 3, ["--decode", "beam", "--beams", 3])):
            lines = self.programs.ask(self.bundle, "caption", *flags, "--max-length", 20, *pictures)
            for picture, line in zip(pictures, lines, strict=True):
                golden = expected[beams][picture] if expected else None
                self.text(what, beams, writers[picture], line, golden)

    def scores(self, picture, texts, goldens=None, image_vector=None):
        """`texts` maps a text to its ids, `[CLS]` first; `goldens` to transformers' probability and cosine."""
        head = self.bundle.manifest["matcher"]
        states = self.bundle.features(picture, head["vision"])
        memory = self.bundle.memory(head["encoder"], states)
        vector = self.bundle.image_vector(states)
        if image_vector is not None:
            self.golden("image vector", vector, image_vector)
            self.close("image vector", self.programs.ask(self.bundle, "embed", picture)[0]["embedding"], vector)
        for line in self.programs.ask(self.bundle, "score", picture, *texts):
            ids = texts[line["text"]]
            itm, itc = self.bundle.match(memory, ids), float(self.bundle.text_vector(ids) @ vector)
            self.close("itm", line["itm"], itm)
            self.close("itc", line["itc"], itc)
            if goldens:
                self.golden("itm", itm, goldens[line["text"]][0])
                self.golden("itc", itc, goldens[line["text"]][1])

    def every_graph_ran(self):
        idle = [graph.name for graph in self.bundle.graphs.values() if graph.runs == 0]
        if idle:
            self.report.fail(f"{self.where}: never ran: {idle}")
        print(f"{self.where}: {len(self.bundle.graphs)} graphs loaded and run: {', '.join(self.bundle.graphs)}", flush=True)


def runs_by_beams(entry):
    return {beams: next(run for run in entry["runs"] if run["name"] == name) for beams, name in ((1, "greedy"), (3, "beam-3"))}


def check_starter(check, scenes):
    words = (ROOT / "models/starter/matcher/vocab.txt").read_text().split()
    ids = lambda text: [words.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
    folder = GOLDENS / "starter/held-out"
    paths = [folder / scene["file"] for scene in scenes]
    expected = {1: {}, 3: {}}
    for path, scene in zip(paths, scenes):
        expected[1][path], expected[3][path] = scene["greedy_ids"], scene["beam3_ids"]
    check.captions(paths, expected)
    for path, scene in zip(paths, scenes):
        goldens = {scene[key]: (scene[f"itm_enc_{key}"], scene[f"itc_{key}"]) for key in ("truth", "wrong")}
        check.scores(path, {text: ids(text) for text in goldens}, goldens)


def check_goldens(check, folder):
    """Every role that the goldens in `folder` have."""
    for role in ("captioner", "matcher", "answerer"):
        if not (folder / f"{role}.json").exists():
            continue
        document, arrays = json.loads((folder / f"{role}.json").read_text()), read_safetensors(folder / f"{role}.safetensors")
        paths = {entry["key"]: ROOT / entry["picture"] for entry in document["pictures"]}
        if role == "captioner":
            expected = {1: {}, 3: {}}
            for entry in document["pictures"]:
                for beams, run in runs_by_beams(entry).items():
                    expected[beams][paths[entry["key"]]] = run["sequences"][0]["ids"]
            by_picture = lambda what: {path: arrays[f"{key}/{what}"] for key, path in paths.items()}
            check.captions(list(paths.values()), expected, by_picture("image_features"), by_picture("first_logits"))
        for entry in document["pictures"]:
            path, key = paths[entry["key"]], entry["key"]
            if role == "matcher":
                texts = {row["text"]: row["ids"] for row in entry["texts"]}
                goldens = {row["text"]: (row["itm_enc"], row["itc"]) for row in entry["texts"]}
                check.scores(path, texts, goldens, arrays[f"{key}/image_vector"])
            if role == "answerer":
                check_answers(check, path, key, entry["questions"], arrays)
        if role == "matcher":
            for number, row in enumerate(document["pictures"][0]["texts"]):
                vector = check.bundle.text_vector(row["ids"])
                check.golden("text vector", vector, arrays[f"texts/{number}/vector"])
                line = check.programs.ask(check.bundle, "embed", "--text", row["text"])[0]
                check.close("text vector", line["embedding"], vector)


def check_answers(check, path, key, questions, arrays):
    bundle = check.bundle
    head = bundle.manifest["answerer"]
    pixels = bundle.pixels(path, head["vision"])
    seen = lambda pixels: bundle.memory(head["question"], bundle.encode(pixels, head["vision"]))
    marked = [row for row in questions if row["encoder_token"] == head["encoder_token"]]
    for number, row in enumerate(marked):
        states = lambda pixels: bundle.question_states(seen(pixels), row["ids"])
        writer = Writer(head["decoder"], lambda pixels: bundle.memory(head["decoder"], states(pixels)), pixels)
        stem = f"{key}/questions/{number}/{head['encoder_token']}"
        first = bundle.logits(head["decoder"], writer.memory, [check.start])
        check.golden("question states", states(pixels)[0], arrays[f"{stem}/states"])
        check.golden("first logits of answers", first, arrays[f"{stem}/first_logits"])
        for beams, run in runs_by_beams(row).items():
            flags = ["--decode", "greedy"] if beams == 1 else ["--decode", "beam", "--beams", beams]
            line = check.programs.ask(bundle, "ask", *flags, "--max-length", 20, path, row["question"])[0]
            what = "greedy answers" if beams == 1 else "beam-3 answers"
            check.text(what, beams, writer, line, run["sequences"][0]["ids"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", required=True)
    parser.add_argument("--edgeblip", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--work", help="an empty folder for the bundles; a temporary one if not given")
    arguments = parser.parse_args()

    print(f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}, pillow {PIL.__version__}", flush=True)
    programs, report = Programs(arguments.export, arguments.edgeblip), Report()
    scenes = json.loads((GOLDENS / "starter/held-out.json").read_text())[: arguments.limit]
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        for name, checkpoints in {
            "starter": ROOT / "models/starter",
            "tiny-a": GOLDENS / "tiny-a",
            "tiny-b": GOLDENS / "tiny-b",
            "tiny-c": GOLDENS / "tiny-c",
        }.items():
            roles = [checkpoints / role for role in ("captioner", "matcher", "answerer") if (checkpoints / role).is_dir()]
            for precision in ("fp32", "int8"):
                bundle = Bundle(programs.export(roles, precision, Path(work) / f"{name}-{precision}"))
                check = Check(name, bundle, programs, report)
                if name == "starter":
                    check_starter(check, scenes)
                check_goldens(check, GOLDENS / name)
                check.every_graph_ran()
    for what in ("greedy captions", "beam-3 captions"):
        equal, count = report.equal["starter int8", what]
        if count - equal > max(1, (1 - EQUAL_CAPTIONS) * count):
            report.fail(f"starter int8: only {equal} of {count} {what} are equal")
    report.print()
    print("failed" if report.failures else "passed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
