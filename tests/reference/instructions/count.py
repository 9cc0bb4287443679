"""Counts the instructions that an operation takes on a processor, and fails when one takes more than it may.

    python tests/reference/instructions/count.py PROGRAM... [--update] [--json FILE]

The programs are the benchmarks of the runtime, built for aarch64, with or without what cargo adds to their names. Each
line of budgets.json names one, which is run twice, the second time with twice the runs: the difference has no start-up
in it. Instructions are repeatable where times are not; they say nothing about memory or how well a pipeline is filled.
Needs what emulator.py needs.

`--update` writes what was counted, which is then a change for a reviewer to see; `--json` writes it for ../benchmarks.py.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import emulator

HERE = pathlib.Path(__file__).resolve().parent
BUDGETS = HERE / "budgets.json"
# What another compiler may make of the same source.
ALLOWANCE = 1.02


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, nargs="+")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    budgets = json.loads(BUDGETS.read_text())
    programs = {path.name.split("-")[0]: path for path in arguments.programs}
    if missing := {budget["program"] for budget in budgets} - programs.keys():
        sys.exit(f"name the programs {', '.join(sorted(missing))} too")
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        plugin = emulator.build(folder)
        print(f"{'processor':<12}{'operation':<20}{'instructions':>14}{'budget':>14}{'':>8}")
        for budget in budgets:
            counted = count(plugin, programs[budget["program"]], budget)
            # A new line has no budget until it is counted.
            allowed = budget.get("instructions", counted if arguments.update else 1)
            share = counted / allowed
            row = f"{budget['processor']:<12}{budget['operation']:<20}{counted:>14,}{allowed:>14,}"
            exceeded = share > ALLOWANCE and not arguments.update
            failures += exceeded
            print(f"{row}{share:>8.1%}{'  exceeded' if exceeded else ''}", flush=True)
            budget["instructions"] = counted
    if arguments.json:
        arguments.json.write_text(json.dumps(budgets, indent=1) + "\n")
    if arguments.update:
        lines = ",\n".join("  " + json.dumps(budget) for budget in budgets)
        BUDGETS.write_text(f"[\n{lines}\n]\n")
    if failures:
        sys.exit(f"{failures} of {len(budgets)} take more than {ALLOWANCE - 1:.0%} over their budget")


def count(plugin, program, budget):
    """Instructions of one run, and that it ran on the instruction set it was meant for."""
    runs = budget["runs"]
    once, twice = (instructions(plugin, program, budget, runs) for runs in (runs, 2 * runs))
    return (twice - once) // runs


def instructions(plugin, program, budget, runs):
    printed, counts = emulator.run(plugin, budget["processor"], [program, budget["operation"], runs])
    expected = f"{budget['operation']} on {budget['instruction_set']}\n"
    if printed != expected:
        sys.exit(f"{budget['processor']}: expected {expected.strip()!r}, got {printed.strip()!r}")
    return counts.total()


main()
