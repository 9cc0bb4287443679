"""How evenly two threads share the image encoder, and how much of it only one can do: in instructions.

    python tests/reference/instructions/threads.py PROGRAM --native PROGRAM [--bundle DIR] [--picture FILE]
                                                   [--processor cortex-a76] [--json FILE]

A caption as caption.py's, on two threads and on one. One of the two threads leads, and the other one helps: a function that
it never entered ran outside of what is shared, and of allocation, copies and tract's own code, what the leading one ran
more of counts as not shared too. Waiting for each other counts for neither. How pieces fall to threads is not repeatable:
where other programs want this machine's cores too, the system has a say in who works.
"""

import argparse
import collections
import json
import pathlib
import re
import sys
import tempfile

import caption
import emulator
import operators

# What looks for work or sleeps.
WAITING = r"rayon|crossbeam"
# Operators whose functions run inside pieces, and nowhere else where rows are many.
PIECES = ("linear", "row quantization", "attention", "layer norm", "GELU")
LARGEST_DIFFERENCE, LARGEST_SERIAL = 0.05, 0.05


def split(counts, sections):
    """Instructions by function for each of the two threads that ran most of them, the one that leads first."""
    by_thread = collections.defaultdict(collections.Counter)
    for ran in counts.chosen(sections):
        for (block, thread), times in ran.items():
            by_thread[thread][counts.name(block)] += times * len(counts.words[block])
    working = {thread: without_waiting(names) for thread, names in by_thread.items()}
    two = sorted(working.values(), key=lambda names: -sum(names.values()))[:2]
    return sorted(two, key=lambda names: -sum(count for name, count in names.items() if not is_piece(name)))


def without_waiting(names):
    return collections.Counter({name: count for name, count in names.items() if not re.search(WAITING, name)})


def is_piece(name):
    return operators.operator(name).startswith(PIECES)


def serial(leading, helping):
    """What the helping thread has no part in, by function."""
    found = collections.Counter()
    for name, count in leading.items():
        if name not in helping:
            found[name] = count
        elif not is_piece(name):
            found[name] = max(count - helping[name], 0)
    return found


def measure(plugin, arguments):
    runs = [
        caption.Captions(plugin, arguments.program, arguments.processor, arguments.bundle, arguments.picture, threads, 1)
        for threads in (1, 2)
    ]
    expected = str(caption.native(arguments.native, runs[0], arguments.picture))
    if {str(line) for run in runs for line in run.lines} != {expected}:
        sys.exit("here, or on another number of threads, the caption is another one")
    one, two = ((run.counts, run.phases["image encoder"]) for run in runs)
    leading, helping = split(*two)
    alone = without_waiting(one[0].by_name(one[1]))
    unshared = serial(leading, helping)
    amounts = [sum(names.values()) for names in (leading, helping)]
    unshared_alone = {name: count for name, count in alone.items() if name in unshared and name not in helping}
    total = sum(alone.values())
    return {
        "processor": arguments.processor,
        "alone": total,
        "threads": amounts,
        "difference": abs(amounts[0] - amounts[1]) / max(amounts),
        # That waiting hides no work, and that splitting makes little.
        "together": sum(amounts) / total,
        "serial": sum(unshared.values()) / total,
        "serial_alone": sum(unshared_alone.values()) / total,
        "serial_functions": dict(unshared.most_common(15)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--native", type=pathlib.Path, required=True)
    parser.add_argument("--bundle", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path, default=caption.ROOT / "examples/images/01.png")
    parser.add_argument("--processor", default="cortex-a76")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(emulator.build(folder), arguments)
    print(f"{found['processor']}, the image encoder on one thread: {found['alone']:,} instructions")
    print(f"on two: {found['threads'][0]:,} and {found['threads'][1]:,}, {found['difference']:.1%} apart, {found['together']:.2%} together")
    print(f"not shared: {found['serial']:.2%}; of it in functions that only one thread enters: {found['serial_alone']:.2%}")
    for name, count in found["serial_functions"].items():
        print(f"    {count:>14,}  {name}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if found["difference"] > LARGEST_DIFFERENCE or found["serial"] > LARGEST_SERIAL:
        sys.exit(f"more than {LARGEST_DIFFERENCE:.0%} apart, or more than {LARGEST_SERIAL:.0%} not shared")


if __name__ == "__main__":
    main()
