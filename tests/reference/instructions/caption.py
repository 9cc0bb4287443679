"""Counts the instructions of a whole caption, by operator, against those that its multiplications alone would take.

    python tests/reference/instructions/caption.py PROGRAM --native PROGRAM [--bundle DIR] [--picture FILE]
                                                   [--processors cortex-a76,cortex-a72] [--json FILE] [--update]

PROGRAM is `edgeblip` for aarch64, and `--native` the one of this machine, which must write the same tokens. The caption
is greedy and exactly 20 tokens long, the start token among them, on one thread. Two are written, and the second is
counted: it has neither start-up nor loading in it.

Without `--bundle` it is the built-in one, whose count must not exceed that of caption_budgets.json by more than 2 %;
`--update` writes what was counted. Needs what emulator.py needs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import emulator
import operators

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUDGETS = HERE / "caption_budgets.json"
# What another compiler may make of the same source.
ALLOWANCE = 1.02
TOKENS = 20
GRAPH_RUN = r"edgeblip::inference::Graph>?::run_over"
KIND = "SDOT, UDOT"


class Captions:
    """Captions of a picture, one after another, and which sections of the counts belong to the last of them."""

    def __init__(self, plugin, program, processor, bundle, picture, threads=1, captions=2):
        # What an earlier start left would change what loading takes.
        cache = plugin.with_name(f"cache-{processor}-{threads}")
        self.flags = [*flags(bundle, manifest_of(bundle), threads), "--cache", cache]
        enter = emulator.symbol(program, GRAPH_RUN)
        command = [program, *self.flags, *[picture] * captions]
        printed, self.counts = emulator.run(plugin, processor, command, enter=enter, lines=True)
        self.lines = [answer(line) for line in printed.splitlines()]
        # A section ends where each graph begins, the encoder, the memory, and a step for each token but the first, and
        # where a line is written; what is left is the program's end.
        graphs = 2 + TOKENS - 1
        sections, expected = len(self.counts.sections), captions * (graphs + 1) + 1
        if sections != expected:
            sys.exit(f"{sections} sections, {expected} belong: a caption has another length, or its line was written in parts")
        first, last = (captions - 1) * (graphs + 1), expected - 1
        self.caption = slice(first, last)
        # The first section of the first caption has loading in it too.
        self.load = slice(0, 1)
        self.phases = {
            "picture": slice(first, first + 1),
            "image encoder": slice(first + 1, first + 2),
            "cross keys and values": slice(first + 2, first + 3),
            "decoder": slice(first + 3, last),
        }


def manifest_of(bundle):
    return json.loads(((bundle or ROOT / "models/built-in") / "manifest.json").read_text())


def flags(bundle, manifest, threads=1):
    # With `--json` a matcher would score the caption.
    form = [] if manifest["matcher"] else ["--json"]
    exact = ["--prompt", "", "--decode", "greedy", "--min-length", TOKENS, "--max-length", TOKENS]
    return ["caption", "--threads", threads, *form, *exact, *(["--bundle", bundle] if bundle else [])]


def answer(line):
    """Token ids where they are given, else the caption."""
    return json.loads(line)["token_ids"] if line.startswith("{") else line


def native(program, captions, picture):
    command = list(map(str, [program, *captions.flags, picture]))
    return answer(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def measure(plugin, arguments, processor):
    captions = Captions(plugin, arguments.program, processor, arguments.bundle, arguments.picture)
    if set(map(str, captions.lines)) != {str(native(arguments.native, captions, arguments.picture))}:
        sys.exit(f"{processor}: here the caption is another one")
    counts, caption = captions.counts, captions.caption
    kinds = counts.by_kind(caption)
    if (KIND in kinds) != (processor == "cortex-a76"):
        sys.exit(f"{processor}: it ran on another instruction set than it has")
    floors = operators.floors(manifest_of(arguments.bundle), TOKENS, processor)
    names = counts.by_name(caption)
    total = counts.total(caption)
    return {
        "processor": processor,
        "tokens": TOKENS,
        "answer": captions.lines[1],
        "instructions": total,
        "load": counts.total(captions.load) - counts.total(captions.phases["picture"]),
        "phases": {name: counts.total(part) for name, part in captions.phases.items()},
        "operators": dict(operators.by_operator(names).most_common()),
        "operators_by_phase": {
            name: dict(operators.by_operator(counts.by_name(part)).most_common()) for name, part in captions.phases.items()
        },
        "kinds_by_phase": {name: dict(counts.by_kind(part).most_common()) for name, part in captions.phases.items()},
        "functions": dict(names.most_common(40)),
        "kinds": dict(kinds.most_common()),
        "floors": floors,
        "ratios": {name: total / floor for name, floor in floors.items()},
    }


def show(found, products):
    total = found["instructions"]
    print(f"{found['processor']}: {total:,} instructions a caption, load {found['load']:,}")
    for title in ("phases", "operators", "kinds"):
        print(f"  {title}")
        for name, count in found[title].items():
            print(f"    {name:<38}{count:>16,}{count / total:>8.2%}")
    print("  multiplications")
    for form, parts in products.items():
        for name, count in parts.items():
            print(f"    {form + ': ' + name:<42}{count:>16,}")
    for name, floor in found["floors"].items():
        print(f"  floor, {name:<20}{floor:>16,.0f}{found['ratios'][name]:>8.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--native", type=pathlib.Path, required=True)
    parser.add_argument("--bundle", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "examples/images/01.png")
    parser.add_argument("--processors", default="cortex-a76,cortex-a72")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    products = dict(zip(("8 bits", "floats"), operators.products(manifest_of(arguments.bundle), TOKENS)))
    with tempfile.TemporaryDirectory() as folder:
        plugin = emulator.build(folder)
        found = [measure(plugin, arguments, processor) for processor in arguments.processors.split(",")]
    for one in found:
        show(one, products)
    if arguments.json:
        arguments.json.write_text(json.dumps({"products": products, "captions": found}, indent=1) + "\n")
    if not arguments.bundle:
        check_budgets(found, arguments.update)


def check_budgets(found, update):
    budgets = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    exceeded = [one for one in found if one["instructions"] > ALLOWANCE * budgets.get(one["processor"], 0)]
    if update:
        budgets |= {one["processor"]: one["instructions"] for one in found}
        BUDGETS.write_text(json.dumps(budgets, indent=1) + "\n")
    elif exceeded:
        lines = [f"{one['processor']}: {one['instructions']:,}, {budgets.get(one['processor'], 0):,} are allowed" for one in exceeded]
        sys.exit("a caption takes more than 2 % over its budget\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
