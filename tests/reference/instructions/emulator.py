"""Runs a program for aarch64 in qemu and says which instructions it ran: how many, in which functions, on which threads.

Needs qemu-user, a C compiler, and nm for aarch64. The plugin is count.c.
"""

import bisect
import collections
import functools
import pathlib
import re
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NAMES = "aarch64-linux-gnu-nm"

# Name, mask and value: an instruction is of the first kind whose value it has under the mask. Arm's architecture
# reference manual, "A64 instruction set encoding".
KINDS = [
    ("SDOT, UDOT", 0x9FE0FC00, 0x0E809400),
    ("SDOT, UDOT", 0x9FC0F400, 0x0F80E000),
    ("SMULL, SMLAL", 0x9F20DC00, 0x0E208000),
    ("SMULL, SMLAL", 0x9F20FC00, 0x0E20C000),
    ("SMULL, SMLAL", 0x9F007400, 0x0F002000),
    ("SADALP", 0x9F3FFC00, 0x0E206800),
    ("FMLA", 0xBF20FC00, 0x0E20CC00),
    ("FMLA", 0xBF80B400, 0x0F801000),
    ("loads and stores", 0x0A000000, 0x08000000),
    ("branches", 0x1C000000, 0x14000000),
    ("other vector and float", 0x0E000000, 0x0E000000),
    ("integer", 0, 0),
]


@functools.cache
def kind(word):
    return next(name for name, mask, value in KINDS if word & mask == value)


class Counts:
    """What ran, by block: `sections` has for each section how often each thread ran each block."""

    def __init__(self, text):
        self.sections, self.words, self.places, self.maps = [], {}, {}, []
        self._names, self._kinds = {}, {}
        for line in text.splitlines():
            what, _, rest = line.partition(" ")
            if what == "ran":
                block, thread, times = (int(word, 16) for word in rest.split())
                ran[block, thread] += times
            elif what == "section":
                ran = collections.Counter()
                self.sections.append(ran)
            elif what == "block":
                block, place, *words = (int(word, 16) for word in rest.split())
                self.places[block], self.words[block] = place, words
            elif what == "map":
                self._add_map(rest)
        if not self.words:
            sys.exit("qemu loaded no plugin of version 1: it wrote no counts")

    def _add_map(self, line):
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = (int(word, 16) for word in fields[0].split("-"))
            self.maps.append((start, end, int(fields[2], 16), fields[5].strip()))

    def total(self, sections=None):
        return sum(times * len(self.words[block]) for ran in self.chosen(sections) for (block, _), times in ran.items())

    def by_thread(self, sections=None):
        found = collections.Counter()
        for ran in self.chosen(sections):
            for (block, thread), times in ran.items():
                found[thread] += times * len(self.words[block])
        return found

    def by_name(self, sections=None):
        """Instructions by function, of all threads."""
        found = collections.Counter()
        for ran in self.chosen(sections):
            for (block, _), times in ran.items():
                found[self.name(block)] += times * len(self.words[block])
        return found

    def by_kind(self, sections=None):
        found = collections.Counter()
        for ran in self.chosen(sections):
            for (block, _), times in ran.items():
                for name, count in self.kinds(block).items():
                    found[name] += times * count
        return found

    def chosen(self, sections):
        return self.sections if sections is None else self.sections[sections]

    def kinds(self, block):
        if block not in self._kinds:
            self._kinds[block] = collections.Counter(map(kind, self.words[block]))
        return self._kinds[block]

    def name(self, block):
        """`FILE FUNCTION`, or the file alone where it does not name its functions."""
        if block not in self._names:
            place = self.places[block]
            self._names[block] = next(
                (named(path, place - start + offset) for start, end, offset, path in self.maps if start <= place < end), "?"
            )
        return self._names[block]


_symbols = {}


def named(path, offset):
    file = pathlib.Path(path)
    if path not in _symbols:
        _symbols[path] = (segments(file), functions(file))
    loaded, (addresses, names) = _symbols[path]
    address = next((offset - start + address for start, size, address in loaded if start <= offset < start + size), None)
    at = bisect.bisect_right(addresses, address) - 1 if address is not None else -1
    return f"{file.name} {names[at]}" if at >= 0 else file.name


def segments(file):
    """Offset, size and address of each part of an ELF file that is loaded."""
    data = file.read_bytes()[:65536]
    if data[:5] != b"\x7fELF\x02":
        return []
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    parts = [struct.unpack_from("<IIQQQQ", data, table + at * size) for at in range(count)]
    return [(offset, length, address) for kind, _, offset, address, _, length in parts if kind == 1]


def functions(file):
    ran = subprocess.run([NAMES, "-n", "-C", "--defined-only", file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = [line.split(maxsplit=2) for line in ran.stdout.splitlines()]
    # `$x` and `$d` say where code and data begin.
    found = [words for words in found if len(words) == 3 and words[1] in "tTwWi" and not words[2].startswith("$")]
    return [int(words[0], 16) for words in found], [re.sub(r"::h[0-9a-f]{16}$", "", words[2]) for words in found]


def symbol(file, pattern):
    """What the file calls the one function whose readable name ends in `pattern`."""
    listed = [
        subprocess.run([NAMES, *form, "-p", "--defined-only", file], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        for form in ([], ["-C"])
    ]
    found = {raw.split()[-1] for raw, name in zip(*listed) if re.search(pattern + r"(::h[0-9a-f]{16})?$", name)}
    if len(found) != 1:
        sys.exit(f"{file}: {len(found)} functions are named like {pattern}, one belongs; is it stripped?")
    return found.pop()


def build(folder):
    """Compiles the plugin."""
    plugin = pathlib.Path(folder) / "count.so"
    source = str(HERE / "count.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", plugin, source], check=True)
    return plugin


def run(plugin, processor, command, enter=None, lines=False, prefix="/", environment=()):
    """Runs a command: what it printed, and its counts. See count.c for `enter` and `lines`."""
    counts, log = plugin.with_name("counts"), plugin.with_name("log")
    options = f"{plugin},out={counts}" + (f",enter={enter}" if enter else "") + (",lines=on" if lines else "")
    variables = [word for variable in environment for word in ("-E", variable)]
    # Only where it logs does qemu read the names of a program's functions.
    qemu = ["qemu-aarch64", "-cpu", processor, "-L", prefix, *variables, "-plugin", options, "-d", "plugin", "-D", log]
    ran = subprocess.run([*map(str, qemu), *map(str, command)], stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        sys.exit(f"{command[0]} on {processor}: exit code {ran.returncode}")
    found = Counts(counts.read_text())
    counts.unlink()
    return ran.stdout, found
