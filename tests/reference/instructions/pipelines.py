"""What a model of a processor's pipelines makes of the inner loops of the quantized linear layer and of attention.

    python tests/reference/instructions/pipelines.py PROGRAM [--json FILE]

PROGRAM is the benchmark `kernels` of the runtime, built for aarch64. Its loops are taken from the machine code
and given to llvm-mca, which knows instructions' latencies and ports and takes every load for a hit in the first cache.
Prints products and instructions a cycle; `--json` writes the same for ../benchmarks.py. Needs llvm-mca and an objdump for
aarch64.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

# The cores of the boards, and which loops run on them. LLVM has no model of the Cortex-A76; Neoverse N1 is its server.
CORES = {"cortex-a53": "sadalp", "cortex-a72": "sadalp", "neoverse-n1": "sdot"}
PRODUCTS = {"sdot": 16, "smull": 8, "smlal2": 8, "fmla": 4}
# Attention's loops for a block of queries have this many FMLA; the other loops take what is left over.
BLOCK_FMLAS = 64
ITERATIONS = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", arguments.program], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = sorted(loops(listing), key=products)
    rows = []
    for core, integers in CORES.items():
        for kind in (integers, "fmla"):
            chosen = [loop for loop in found if any(line.startswith(kind) for line in loop)]
            if not chosen:
                sys.exit(f"{arguments.program} has no loop with {kind}")
            for loop in chosen:
                facts = {"core": core, "loop": kind, "rows": rows_at_once(loop) if kind != "fmla" else None}
                facts |= {"instructions": len(loop), "products": products(loop), "cycles": cycles_of(loop, core)}
                # Compilers repeat a loop for each block of outputs: once is enough to know.
                if facts not in rows:
                    rows.append(facts)
    print(f"{'core':<13}{'loop':<8}{'rows':>5}{'instructions':>14}{'products':>10}{'cycles':>8}{'products a cycle':>18}{'instructions a cycle':>22}")
    for row in rows:
        rates = [row[what] / row["cycles"] for what in ("products", "instructions")]
        start = f"{row['core']:<13}{row['loop']:<8}{row['rows'] or '':>5}{row['instructions']:>14}{row['products']:>10}"
        print(f"{start}{row['cycles']:>8.1f}{rates[0]:>18.2f}{rates[1]:>22.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def loops(listing):
    """Instructions from a branch's target to the branch, where there is no other branch between and one of the kernels is."""
    before = {}
    for line in listing.splitlines():
        parsed = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
        if not parsed:
            before.clear()
            continue
        address, instruction = parsed[1], re.sub(r"\s*//.*", "", parsed[2]).strip()
        branch = re.match(r"b\.\w+\s+([0-9a-f]+)", instruction)
        if branch:
            addresses = list(before)
            if branch[1] in before:
                body = [before[at] for at in addresses[addresses.index(branch[1]) :]]
                fmlas = sum(line.startswith("fmla") for line in body)
                if any(line.startswith(("sdot", "sadalp")) for line in body) or fmlas == BLOCK_FMLAS:
                    yield body + ["b.hi 0"]
            before.clear()
        else:
            before[address] = instruction


def rows_at_once(loop):
    """Rows that share a register of weights: multiplications by registers of weights that are loaded."""
    multiplied = [re.findall(r"v(\d+)", line)[1] for line in loop if line.startswith(("sdot", "smull"))]
    loaded = [number for line in loop if line.startswith("ld") for number in re.findall(r"[qv](\d+)", line.split("[")[0]) if number in multiplied]
    return len(multiplied) // len(loaded)


def products(loop):
    return sum(PRODUCTS.get(line.split()[0], 0) for line in loop)


def cycles_of(loop, core):
    """Cycles of one time round."""
    mca = ["llvm-mca", "-march=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
    ran = subprocess.run(mca, input="\n".join(loop), check=True, stdout=subprocess.PIPE, text=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", ran.stdout)[1]) / ITERATIONS


main()
