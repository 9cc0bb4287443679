"""What a model of a processor's pipelines makes of the inner loops of the quantized linear layer.

    python tests/reference/instructions/pipelines.py PROGRAM

PROGRAM is the benchmark `quantized_linear` of the runtime, built for aarch64. Its loops are taken from the machine code
and given to llvm-mca, which knows instructions' latencies and ports and takes every load for a hit in the first cache.
Prints products a cycle; a loop's sums say how many rows it is for. Needs llvm-mca and an objdump for aarch64.
"""

import re
import subprocess
import sys

# The cores of the boards, and which loops run on them. LLVM has no model of the Cortex-A76; Neoverse N1 is its server.
CORES = {"cortex-a53": "sadalp", "cortex-a72": "sadalp", "neoverse-n1": "sdot"}
PRODUCTS = {"sdot": 16, "smull": 8, "smlal2": 8}
ITERATIONS = 1000


def main():
    _, program = sys.argv
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = sorted(loops(listing), key=products)
    print(f"{'core':<13}{'loop':<8}{'sums':>5}{'instructions':>14}{'products':>10}{'cycles':>8}{'a cycle':>9}")
    for core, instruction in CORES.items():
        chosen = [loop for loop in found if any(line.startswith(instruction) for line in loop)]
        if not chosen:
            sys.exit(f"{program} has no loop with {instruction}")
        rows = []
        for loop in chosen:
            cycles = cycles_of(loop, core)
            sums = len({line.split()[1] for line in loop if line.startswith(instruction)})
            row = f"{core:<13}{instruction:<8}{sums:>5}{len(loop):>14}{products(loop):>10}"
            rows.append(f"{row}{cycles:>8.1f}{products(loop) / cycles:>9.2f}")
        # Compilers repeat a loop for each block of outputs: once is enough to know.
        print("\n".join(dict.fromkeys(rows)))


def loops(listing):
    """Instructions from a branch's target to the branch, where there is no other branch between and SDOT or SADALP is."""
    before = {}
    for line in listing.splitlines():
        parsed = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
        if not parsed:
            before.clear()
            continue
        address, instruction = parsed[1], re.sub(r"\s*//.*", "", parsed[2]).strip()
        branch = re.match(r"(?:b\.\w+)\s+([0-9a-f]+)", instruction)
        if branch:
            addresses = list(before)
            if branch[1] in before:
                body = [before[at] for at in addresses[addresses.index(branch[1]) :]]
                if any(line.startswith(("sdot", "sadalp")) for line in body):
                    yield body + ["b.hi 0"]
            before.clear()
        else:
            before[address] = instruction


def products(loop):
    return sum(PRODUCTS.get(line.split()[0], 0) for line in loop)


def cycles_of(loop, core):
    """Cycles of one time round."""
    mca = ["llvm-mca", "-march=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
    ran = subprocess.run(mca, input="\n".join(loop), check=True, stdout=subprocess.PIPE, text=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", ran.stdout)[1]) / ITERATIONS


main()
