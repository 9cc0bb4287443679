"""Writes docs/benchmarks.md from what the tools wrote, which docs/benchmarks/ keeps.

    python3 tests/reference/benchmarks.py collect KIND FILE [--name NAME] [--command COMMAND] [--note NOTE]
    python3 tests/reference/benchmarks.py render
    python3 tests/reference/benchmarks.py check

`collect` keeps a tool's output in docs/benchmarks/NAME.json (KIND.json without a name) with the date, the commit, the machine and the versions: run it where
and when the tool ran, with its command. KIND is

    criterion     FILE is the folder target/criterion, after `cargo bench`
    counts        FILE is from `instructions/count.py --json`
    pipelines     FILE is from `instructions/pipelines.py --json`
    base          FILE is from `base_benchmark.py --json`
    caption       FILE is from `instructions/caption.py --json`
    threads       FILE is from `instructions/threads.py --json`
    side-by-side  FILE is from `instructions/side_by_side.py --json`

`render` fills the placeholders of docs/benchmarks/page.template: `{{SECTION NAME}}` is a function below and its data, and what stands between `{{if NAME}}` and
`{{end}}` is left out until there is such data. No figure of a run stands in page.template, so that prose and figures cannot disagree. `check` exits with 1 if the
page is not what `render` gives. Needs nothing but Python.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

import estimate

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs/benchmarks"
PAGE = ROOT / "docs/benchmarks.md"
FLAGS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"]
RUSTC = ["rustc", "--version"]
# Programs whose versions say what made the figures; .ci/lib builds for aarch64 with Debian's compiler.
VERSIONS = {
    "criterion": [RUSTC],
    "counts": [["/usr/bin/rustc", "--version"], ["qemu-aarch64", "--version"]],
    "pipelines": [["/usr/bin/rustc", "--version"], ["llvm-mca", "--version"]],
    "base": [RUSTC],
    "caption": [["/usr/bin/rustc", "--version"], ["qemu-aarch64", "--version"]],
    "threads": [["/usr/bin/rustc", "--version"], ["qemu-aarch64", "--version"]],
    "side-by-side": [["/usr/bin/rustc", "--version"], ["qemu-aarch64", "--version"]],
}
# Kinds whose figures are times, which suffer from what else runs.
TIMES = ["criterion", "base"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="task", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("kind", choices=VERSIONS)
    collecting.add_argument("file", type=Path)
    collecting.add_argument("--name")
    collecting.add_argument("--command", default="")
    collecting.add_argument("--note", default="")
    commands.add_parser("render")
    commands.add_parser("check")
    arguments = parser.parse_args()
    if arguments.task == "collect":
        collect(arguments)
    elif arguments.task == "render":
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/benchmarks.md is not what its data says: run `python3 tests/reference/benchmarks.py render`")


# Collecting


def collect(arguments):
    read = criterion_figures if arguments.kind == "criterion" else lambda file: json.loads(file.read_text())
    figures = read(arguments.file)
    kept = {
        "kind": arguments.kind,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": arguments.command,
        "machine": machine(),
        "versions": dict(filter(None, map(version, VERSIONS[arguments.kind]))),
        "note": arguments.note,
        "figures": figures,
    }
    path = DATA / f"{arguments.name or arguments.kind}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(path.relative_to(ROOT))
    if arguments.kind in TIMES and kept["machine"]["load_average"] > kept["machine"]["cores"]:
        print(f"load average {kept['machine']['load_average']}: take times while nothing else runs", file=sys.stderr)


def commit():
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def machine():
    facts = Path("/proc/cpuinfo").read_text()
    first = lambda key: next((line.split(":", 1)[1].strip() for line in facts.splitlines() if line.startswith(key)), "")
    flags = (first("flags") or first("Features")).split()
    board = Path("/proc/device-tree/model")
    return {
        "processor": board.read_text().strip("\0\n ") if board.exists() else f"{first('model name')} (family {first('cpu family')} model {first('model')})",
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_average": round(os.getloadavg()[0], 1),
        "system": f"Linux {platform.release().split('-')[0]}",
    }


def version(command):
    """A program's name and version; nothing if it is not there."""
    try:
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    except FileNotFoundError:
        return None
    return Path(command[0]).name, re.search(r"\d+\.\d+\.\d+", said)[0]


def criterion_figures(folder):
    """Nanoseconds of a run, of all that is in criterion's folder: the median, least and most of its samples."""
    rows = []
    for path in sorted(folder.glob("**/new/benchmark.json")):
        facts, sample = json.loads(path.read_text()), json.loads(path.with_name("sample.json").read_text())
        times = [time / runs for time, runs in zip(sample["times"], sample["iters"])]
        row = {"group": facts["group_id"], "function": facts["function_id"], "threads": int(facts["value_str"]), "samples": len(times)}
        rows.append(row | {"median": statistics.median(times), "least": min(times), "most": max(times)})
    if not rows:
        sys.exit(f"{folder} has no results: run `cargo bench` first")
    return rows


# The page


def page():
    template = (DATA / "page.template").read_text()
    template = re.sub(r"\{\{if (\S+)\}\}\n(.*?)\{\{end\}\}\n", lambda found: found[2] * (DATA / f"{found[1]}.json").exists(), template, flags=re.DOTALL)
    filled = re.sub(r"\{\{(\S+) (\S+)\}\}", lambda found: SECTIONS[found[1]](load(found[2])), template)
    return re.sub(r"\n{3,}", "\n\n", filled)


def load(name):
    return json.loads((DATA / f"{name}.json").read_text())


def table(head, rows):
    line = lambda cells: f"| {' | '.join(cells)} |"
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def provenance(data):
    """Date, machine, versions, commit and command."""
    facts = data["machine"]
    flags = f" ({', '.join(facts['flags'])})" if facts["flags"] else ""
    where = f"{facts['cores']} cores of {facts['processor']}{flags}, {facts['memory_gb']} GB, {facts['system']}, load average {facts['load_average']}"
    versions = "".join(f", {name} {number}" for name, number in data["versions"].items())
    command = f": `{data['command']}`" if data["command"] else ""
    return f"{data['date']}, {where}. edgeblip at commit {data['commit']}{versions}{command}."


def note(data):
    return data["note"]


def rows(data):
    """Rows of words, which were written by hand."""
    return table(data["head"], data["rows"])


def exports(data):
    row = lambda e: [e["precision"], f"{e['wall_s']:.1f}", f"{e['cpu_s']:.1f}", f"{e['peak_rss_bytes'] / 1e6:.0f}", f"{e['bundle_bytes'] / 1e6:.1f}"]
    return table(["precision", "time s", "CPU s", "peak memory MB", "bundle MB"], map(row, filter(None, data["figures"]["exports"])))


def captions(data):
    """The programs of base_benchmark.py."""
    figures, rows = data["figures"], []
    for name, side in figures["full_size"].items():
        seconds = f"{side['caption_s']:.2f} ({side['spread_s'][0]:.2f} to {side['spread_s'][1]:.2f})"
        beams = f"{side['beam_caption_s']:.2f} ({side['beam_cpu_s']:.2f})"
        parts = [f"{side['cpu_s']:.2f}", f"{side['vision_s'] * 1000:.0f}", f"{side['token_s'] * 1000:.1f}", beams, f"{side['peak_rss_bytes'] / 1e6:.0f}"]
        rows.append([name, f"{side['load_s']:.2f}", seconds, *parts])
    head = ["program", "load s", "caption s (least to most)", "its CPU s", "image encoder ms", "a token ms", "three beams s (CPU s)", "peak memory MB"]
    load = figures["load_average"]
    run = f"Threads: {figures['threads']}. Medians of {figures['repeats']}. Load average {load['before'][0]:.1f} before, {load['after'][0]:.1f} after."
    return f"{run}\n\n{table(head, rows)}\n\n{starts(figures['full_size'])} {ratios(figures['full_size'])}\n\n{agreement(figures)}"


def starts(sides):
    """What edgeblip's first start and the next ones take."""
    start = lambda side, name: f"{side[f'{name}_start_s']:.2f} s ({side[f'{name}_start_cpu_s']:.2f} s of CPU), {side[f'{name}_peak_rss_bytes'] / 1e6:.0f} MB at most"
    each = lambda name, side: f"{name} starts cold, without a cache, in {start(side, 'cold')}, and warm in {start(side, 'warm')}."
    return " ".join(each(name, side) for name, side in sides.items() if "cold_start_s" in side)


def ratios(sides):
    """edgeblip int8 as a share of the others."""
    ours = sides["edgeblip int8"]
    share = lambda side, key: f"{ours[key] / side[key]:.2f}"
    against = lambda name: f"{share(sides[name], 'cpu_s')} of the CPU time of {name} (wall time {share(sides[name], 'caption_s')}; three beams {share(sides[name], 'beam_cpu_s')} and {share(sides[name], 'beam_caption_s')})"
    return f"A whole int8 caption takes {against('ONNX Runtime, its own dynamic int8')} and {against('transformers fp32')}."


def agreement(figures):
    sides = figures["full_size"]
    if figures["failures"]:
        return f"**The answers are not right: {'; '.join(figures['failures'])}.**"
    parted = lambda name, side: f"{name} parts from edgeblip at token {side['parting']['step']}, where its two logits are {abs(side['parting']['gap']):.3f} nat apart."
    parts = [parted(name, side) for name, side in sides.items() if side.get("parting")]
    versions = sorted({side["versions"] for side in sides.values()})
    return " ".join(["The three fp32 programs write equal ids.", *parts, f"{'; '.join(versions)}."])


def starter(data):
    figure = lambda name, side: f"{name} {side['cpu_s'] * 1000:.2f} ms ({side['caption_s'] * 1000:.2f} ms of wall time)"
    return ", ".join(figure(name, side) for name, side in data["figures"]["starter"].items())


def counts(data):
    """A row for each operation: its instructions on each processor, and multiply-accumulates (MAC) by instruction."""
    counted = {(row["operation"], row["processor"]): row["instructions"] for row in data["figures"]}
    million = lambda count: f"{count / 1e6:.3f} M" if count < 1e6 else f"{count / 1e6:.2f} M" if count < 2e6 else f"{count / 1e6:.1f} M"
    rows = []
    for name, (words, products) in estimate.OPERATIONS.items():
        cells = [words]
        for processor in ("cortex-a76", "cortex-a72"):
            count = counted[name, processor]
            cells += [million(count), f"{products / count:.1f}" if products else ""]
        if counted[name, "cortex-a72"] != counted[name, "cortex-a53"]:
            sys.exit(f"{name}: the Cortex-A72 and A53 differ, give them a column each")
        rows.append(cells)
    return table(["operation", "Cortex-A76, instructions", "MAC an instruction", "Cortex-A72 and A53", "MAC an instruction"], rows)


def pipelines(data):
    cores = {"cortex-a53": "Cortex-A53", "cortex-a72": "Cortex-A72", "neoverse-n1": "Neoverse N1"}
    rates = {(row["core"], row["rows"]): row for row in data["figures"] if row["loop"] != "fmla"}
    cell = lambda row: f"{row['products'] / row['cycles']:.1f} ({row['instructions'] / row['cycles']:.2f})" if row else ""
    words = {1: "1 (a token)", 3: "3 (three beams)"}
    rows = [[words.get(at, str(at)), *(cell(rates.get((core, at))) for core in cores)] for at in sorted({at for _, at in rates})]
    return table(["rows at once", *cores.values()], rows)


def kernels(data):
    """Criterion's times of the kernels: the fastest instruction set beside scalar of the same run."""
    groups = {}
    for row in data["figures"]:
        groups.setdefault(row["group"], []).append(row)
    cell = lambda row: f"{row['median'] / 1e6:.3f} ({row['least'] / 1e6:.3f} to {row['most'] / 1e6:.3f})" if row else ""
    rows = []
    for name, (words, _) in estimate.OPERATIONS.items():
        of = {(row["function"] == "scalar", row["threads"]): row for row in groups[name]}
        fast, two, scalar = of.get((False, 1)), of.get((False, 2)), of.get((True, 1))
        rows.append([words, fast["function"], cell(fast), cell(two), cell(scalar), f"{scalar['median'] / fast['median']:.1f}"])
    return table(["operation", "instruction set", "ms, one thread (least to most)", "two threads", "scalar, one thread", "times scalar"], rows)


def built_in(data):
    """Criterion's times of a caption of the built-in model, if they were taken."""
    of = {(row["function"], row["threads"]): row for row in data["figures"] if row["group"] == "caption-built-in"}
    if not of:
        return ""
    cell = lambda row: f"{row['median'] / 1e6:.3f} ({row['least'] / 1e6:.3f} to {row['most'] / 1e6:.3f})"
    words = {"picture": "the picture: pixels and image encoder", "token": "a token after the first", "whole": "the whole caption"}
    rows = [[text, cell(of[part, 1]), cell(of[part, 2])] for part, text in words.items()]
    return "The built-in model's caption of the test card:\n\n" + table(["part", "ms, one thread (least to most)", "two threads"], rows)


def frame(data):
    """Criterion's times of the field pipeline's stages, if they were taken."""
    of = {(row["function"], row["threads"]): row for row in data["figures"] if row["group"] == "frame"}
    if not of:
        return ""
    cell = lambda row: f"{row['median'] / 1e6:.3f} ({row['least'] / 1e6:.3f} to {row['most'] / 1e6:.3f})" if row else ""
    words = {
        "motion": "motion: brightness from the JPEG, difference to the background",
        "decode": "the whole JPEG decoded",
        "see": "the model looks: pixels and image encoder",
        "describe": "a caption with three beams, two sampled ones, and all of them judged by ITM and ITC",
        "filter": "the filter decides",
        "store": "the pair is on the disk, alone in its group",
        "store-group": "the pair is on the disk, one of a group of eight",
    }
    rows = [[text, cell(of.get((part, 1))), cell(of.get((part, 2)))] for part, text in words.items()]
    return table(["stage", "ms, one thread (least to most)", "two threads"], rows)


def caption_counts(data):
    """Whole captions of caption.py: instructions by phase, and against the floors."""
    rows = []
    for one in data["figures"]["captions"]:
        floors = [f"{floor / 1e6:,.0f} ({one['ratios'][name]:.2f})" for name, floor in one["floors"].items()]
        rows.append([one["processor"], str(one["tokens"]), f"{one['instructions'] / 1e6:,.0f}", *(f"{count / 1e6:,.0f}" for count in one["phases"].values()), *floors])
    first = data["figures"]["captions"][0]
    return table(["processor", "tokens", "instructions, M", *first["phases"], *(f"floor, {name} (times it)" for name in first["floors"])], rows)


def threads(data):
    """How two threads share the image encoder, of threads.py."""
    figures = data["figures"]
    first, second = figures["threads"]
    shares = f"{first / 1e6:,.0f} and {second / 1e6:,.0f} million, {figures['difference']:.1%} apart"
    return f"Two threads run {shares}; {figures['serial']:.1%} of the image encoder's instructions run while only one can."


def side_by_side(data):
    """The same work in other programs, of side_by_side.py."""
    rows = data["figures"]
    ours = {(row["processor"], row["size"]): row["instructions"] for row in rows if row["program"] == "edgeblip"}
    apart = lambda row: "" if row["distance_from_fp32"] is None else f"{row['distance_from_fp32']:.4f}"
    cells = lambda row: [f"{row['instructions'] / 1e6:,.1f}", f"{row['instructions'] / ours[row['processor'], row['size']]:.2f}", apart(row)]
    head = ["processor", "work", "program", "instructions, M", "times edgeblip's", "distance from fp32"]
    return table(head, [[row["processor"], row["size"], row["program"], *cells(row)] for row in rows])


def estimated(data):
    return estimate.tables(data, load, table, "caption-base" if (DATA / "caption-base.json").exists() else None)


SECTIONS = {
    "provenance": provenance,
    "note": note,
    "rows": rows,
    "exports": exports,
    "captions": captions,
    "starter": starter,
    "counts": counts,
    "pipelines": pipelines,
    "kernels": kernels,
    "frame": frame,
    "built-in": built_in,
    "caption-counts": caption_counts,
    "threads": threads,
    "side-by-side": side_by_side,
    "estimate": estimated,
}


if __name__ == "__main__":
    main()
