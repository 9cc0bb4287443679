"""Times a full-size captioner: `edgeblip`, transformers and ONNX Runtime, one after another in one run, after checking that they agree.

    python base_benchmark.py CHECKPOINT --export PATH_TO_edgeblip-export --edgeblip PATH_TO_edgeblip
                             [--work DIR] [--repeats 5] [--threads 1] [--json FILE]

CHECKPOINT is a Hugging Face folder of a captioner (random_base.py makes one). It is exported, int8 and fp32, into --work (kept there if the folder is
given, and not made again), and one picture of 640 x 480 is captioned greedily and with three beams, exactly 20 tokens long with the start token
counted. A cold start of edgeblip has no cache of packed weights, a warm one has. All files are in the system's page cache.
The fp32 sides must write the same ids, and the two readers of the int8 bundle too, or part at a near-tie of less than `NEAR_TIE`: a model with
random weights has many of those.
Then the starter, int8 and fp32, on 50 of its held-out scenes with its own defaults (three beams).

Wall seconds suffer from whatever else the machine does; CPU seconds (user and system, of one thread) less so. Prints a markdown table.
Needs torch and transformers for time_transformers.py, and onnx for ONNX Runtime's own quantizer.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOKENS = 20
LARGEST_EXPORT_S = 300
LARGEST_EXPORT_BYTES = 3_000_000_000
BEAMS = 3
SCENES = 50
NEAR_TIE = 0.1
"""Largest gap, in nat, between two tokens of which either may be written; as in onnxruntime_check.py."""


def run(command):
    """Runs a program: standard output, wall seconds, CPU seconds, peak resident bytes."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.PIPE, text=True)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode != 0:
            raise SystemExit(f"{command[0]} failed:\n{errors}")
        output.seek(0)
        return output.read(), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def draw(path):
    """A picture of smooth colours with some hard edges."""
    y, x = numpy.mgrid[0:480, 0:640]
    values = numpy.stack([x * 255 // 639, y * 255 // 479, (x // 40 + y // 40) % 2 * 120 + 60], axis=-1)
    Image.fromarray(values.astype(numpy.uint8)).save(path)


def export(exporter, checkpoints, precision, out):
    """Exports, unless it is there; what it cost."""
    if out.exists():
        return None
    _, wall, cpu, peak = run([exporter, *checkpoints, "--precision", precision, "--out", out])
    size = sum(file.stat().st_size for file in out.iterdir())
    return {"precision": precision, "wall_s": wall, "cpu_s": cpu, "peak_rss_bytes": peak, "bundle_bytes": size}


def time_edgeblip(program, bundle, pictures, flags, threads, cache):
    """Costs by caption from two runs: with the first picture alone, and with all. Starting is what is left of the first."""
    command = [program, "caption", "--json", "--threads", threads, "--bundle", bundle, "--cache", cache, *flags]
    shutil.rmtree(cache, ignore_errors=True)
    starts = [run([*command, pictures[0]]) for _ in range(3)]
    output, wall, cpu, peak = run([*command, *pictures])
    lines = [json.loads(line) for line in output.splitlines()]
    timings = [line["timing_ms"] for line in lines]
    captions = [sum(timing.values()) / 1000 for timing in timings]
    tokens = statistics.median(timing["decoder"] / (len(line["token_ids"]) - 1) for timing, line in zip(timings, lines))
    caption_cpu = (cpu - starts[-1][2]) / (len(pictures) - 1)
    costs = {}
    for name, (answer, start_wall, start_cpu, start_peak) in zip(("cold", None, "warm"), starts):
        if name:
            costs[f"{name}_start_s"] = start_wall - sum(json.loads(answer.splitlines()[0])["timing_ms"].values()) / 1000
            costs[f"{name}_start_cpu_s"] = start_cpu - caption_cpu
            costs[f"{name}_peak_rss_bytes"] = start_peak
    return {
        **costs,
        "load_s": costs["warm_start_s"],
        "caption_s": statistics.median(captions),
        "spread_s": [min(captions), max(captions)],
        "cpu_s": caption_cpu,
        "vision_s": statistics.median(timing["vision"] for timing in timings) / 1000,
        "token_s": tokens / 1000,
        "peak_rss_bytes": max(peak, *(start[3] for start in starts)),
        "token_ids": lines[0]["token_ids"],
        "versions": run([program, "--version"])[0].strip(),
    }


def table(sides):
    lines = [
        "| program | start s | caption s (least to most) | caption CPU s | image encoder ms | a token ms | three beams s | peak memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, side in sides.items():
        cells = [
            f"{side['load_s']:.2f}",
            f"{side['caption_s']:.2f} ({side['spread_s'][0]:.2f} to {side['spread_s'][1]:.2f})",
            f"{side['cpu_s']:.2f}",
            f"{side['vision_s'] * 1000:.0f}",
            f"{side['token_s'] * 1000:.1f}",
            f"{side['beam_caption_s']:.2f} (CPU {side['beam_cpu_s']:.2f})",
            f"{side['peak_rss_bytes'] / 1e6:.0f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def both(time_side):
    """A side's costs, greedy, and those of three beams."""
    side, beams = time_side(1), time_side(BEAMS)
    return {**side, **{f"beam_{key}": beams[key] for key in ("caption_s", "spread_s", "cpu_s", "token_s", "token_ids")}}


def full_size(arguments, work):
    picture = work / "picture.png"
    draw(picture)
    exports = [export(arguments.export, [arguments.checkpoint], precision, work / precision) for precision in ("int8", "fp32")]
    length = ["--min-length", TOKENS, "--max-length", TOKENS]
    run([sys.executable, HERE / "time_onnxruntime.py", work / "fp32", picture, "--quantize", work / "own", "--quantize-only"])

    def ours(precision):
        pictures = [picture] * (arguments.repeats + 1)
        decode = lambda beams: ["--decode", "greedy"] if beams == 1 else ["--decode", "beam", "--beams", beams]
        return both(
            lambda beams: time_edgeblip(
                arguments.edgeblip, work / precision, pictures, [*decode(beams), *length], arguments.threads, work / "cache"
            )
        )

    def python(script, *rest, against=None):
        def time_side(beams):
            common = ["--threads", arguments.threads, "--repeats", arguments.repeats, "--beams", beams]
            ids = ["--against", json.dumps(against)] if against and beams == 1 else []
            return json.loads(run([sys.executable, HERE / script, *rest, picture, *common, *ids])[0].splitlines()[-1])

        return both(time_side)

    int8 = ours("int8")
    sides = {
        "edgeblip int8": int8,
        "edgeblip fp32": ours("fp32"),
        "ONNX Runtime, our int8 bundle": python("time_onnxruntime.py", work / "int8", against=int8["token_ids"]),
        "ONNX Runtime, our fp32 bundle": python("time_onnxruntime.py", work / "fp32"),
        "ONNX Runtime, its own dynamic int8": python("time_onnxruntime.py", "--quantize", work / "own", work / "fp32"),
        "transformers fp32": python("time_transformers.py", arguments.checkpoint),
    }
    failures = []
    for left, right, decoding in (
        ("edgeblip fp32", "transformers fp32", ""),
        ("edgeblip fp32", "transformers fp32", "beam_"),
        ("edgeblip fp32", "ONNX Runtime, our fp32 bundle", ""),
        ("edgeblip fp32", "ONNX Runtime, our fp32 bundle", "beam_"),
        ("edgeblip int8", "ONNX Runtime, our int8 bundle", ""),
    ):
        parting = sides[right].get("parting")
        is_near = "int8" in left and parting is not None and abs(parting["gap"]) < NEAR_TIE
        ids = [sides[side][f"{decoding}token_ids"] for side in (left, right)]
        if ids[0] != ids[1] and not is_near:
            failures.append(f"{decoding}{left} wrote {ids[0]}, {right} {ids[1]}, {parting}")
    for cost in filter(None, exports):
        if cost["wall_s"] > LARGEST_EXPORT_S or cost["peak_rss_bytes"] > LARGEST_EXPORT_BYTES:
            failures.append(f"the export is over its limits: {cost}")
    if not sides["edgeblip int8"]["cpu_s"] <= sides["edgeblip fp32"]["cpu_s"]:
        failures.append("int8 is slower than fp32")
    return sides, exports, failures


def starter(arguments, work):
    """Means over many small captions."""
    pictures = sorted((ROOT / "tests/goldens/starter/held-out").glob("*.png"))[:SCENES]
    sides = {}
    for precision in ("int8", "fp32"):
        out = work / f"starter-{precision}"
        export(arguments.export, [ROOT / "models/starter/captioner"], precision, out)
        runs = [time_edgeblip(arguments.edgeblip, out, pictures, [], arguments.threads, work / "cache") for _ in range(3)]
        sides[precision] = {key: statistics.median(run[key] for run in runs) for key in ("load_s", "caption_s", "cpu_s", "vision_s", "token_s")}
    return sides, [] if sides["int8"]["cpu_s"] <= sides["fp32"]["cpu_s"] else ["int8 is slower than fp32 on the starter"]


def processor():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    flags = next((line.split() for line in open("/proc/cpuinfo") if line.startswith("flags")), [])
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in flags]
    return f"{len(names)} x {names[0] if names else 'unknown'} ({', '.join(wide)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--export", required=True)
    parser.add_argument("--edgeblip", required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        load_before = os.getloadavg()
        sides, exports, failures = full_size(arguments, work)
        small, slower = starter(arguments, work)
    failures += slower
    document = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "exports": exports,
        "full_size": sides,
        "starter": small,
        "failures": failures,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{document['date']}, {document['processor']}, {arguments.threads} thread(s), medians of {arguments.repeats}, load average {load_before[0]:.1f}")
    print("; ".join(sorted({side["versions"] for side in sides.values()})))
    for cost in filter(None, exports):
        costs = f"{cost['wall_s']:.1f} s, {cost['cpu_s']:.1f} CPU s, peak {cost['peak_rss_bytes'] / 1e6:.0f} MB"
        print(f"export {cost['precision']}: {costs}, bundle {cost['bundle_bytes'] / 1e6:.1f} MB")
    print(table(sides))
    for name, side in sides.items():
        if side.get("parting"):
            print(f"{name}: ids part at token {side['parting']['step']}, where its own logits are {side['parting']['gap']:.4f} nat apart")
    for precision, side in small.items():
        print(f"starter {precision}: caption {side['caption_s'] * 1000:.2f} ms, {side['cpu_s'] * 1000:.2f} CPU ms, load {side['load_s'] * 1000:.0f} ms")
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
