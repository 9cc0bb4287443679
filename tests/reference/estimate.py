"""Estimates how long boards take for a caption of BLIP-base that nobody has timed on them.

    time = instructions / (instructions a cycle * clock * share * cores * scaling)   or   bytes / bandwidth,   whichever is longer

Instructions are counted under qemu, instructions a cycle are llvm-mca's for the inner loops, bandwidth is what others measured on these boards. `boards.json`
has, for each of what is uncertain, a low, a middle and a high value: all high gives the least time, with computing and memory side by side; all low gives the
most, with one after the other. docs/benchmarks/page.template has the reasoning. Part of benchmarks.py.
"""

# BLIP-base: `BlipConfig`'s defaults, see random_base.py.
LAYERS, PATCHES, WIDTH, HEADS, HEAD_WIDTH, WORDS = 12, 577, 768, 12, 64, 30524
WIDE = 4 * WIDTH
CAPTION_TOKENS = 20
# How often a caption of 20 tokens, of which the first is given, has each part.
PARTS = {"picture": 1, "keys and values": 1, "token": CAPTION_TOKENS - 1}
# The same in caption.py's words.
PHASES = {"picture": "image encoder", "keys and values": "cross keys and values", "token": "decoder"}

# Names of the benchmarks in budgets.json: words, and products where they are what it does.
OPERATIONS = {
    "picture-768-3072": ("linear 577 x 768 x 3072, quantization included", PATCHES * WIDTH * WIDE),
    "picture-3072-768": ("linear 577 x 3072 x 768 with residual", PATCHES * WIDTH * WIDE),
    "picture-768-768": ("linear 577 x 768 x 768", PATCHES * WIDTH * WIDTH),
    "token-768-3072": ("linear 1 x 768 x 3072, a token", WIDTH * WIDE),
    "beams-768-3072": ("linear 3 x 768 x 3072, three beams", 3 * WIDTH * WIDE),
    "picture-quantize": ("quantizing 577 rows of 768", None),
    "attention": ("attention 577 x 577, 12 heads of 64, f32", 2 * PATCHES * PATCHES * WIDTH),
    "attention-step": ("attention of one token over 577 f16 keys", 2 * PATCHES * WIDTH),
    "layer-norm": ("layer norm 577 x 768", None),
    "gelu": ("GELU 577 x 3072", None),
}

# Weights that a token needs: four square matrices of self-attention, two of cross-attention, the feed-forward; then the head.
TOKEN_WEIGHTS = LAYERS * (6 * WIDTH * WIDTH + 2 * WIDTH * WIDE) + WIDTH * WIDTH + WIDTH * WORDS
PICTURE_WEIGHTS = LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * WIDE) + WIDTH * WIDTH
STATES = PATCHES * WIDTH
# States that the operators of a layer read and write: norm 2, linear 4, attention 4, linear 3, norm 2, linear 5, GELU 8, linear 6.
STATES_OF_A_LAYER = 34

# int8 weights, f32 states, f16 keys and values.
BYTES = {
    "picture": PICTURE_WEIGHTS + 4 * LAYERS * STATES_OF_A_LAYER * STATES,
    "keys and values": 2 * LAYERS * (WIDTH * WIDTH + (4 + 4 + 2) * STATES),
    "token": TOKEN_WEIGHTS + 2 * 2 * LAYERS * STATES,
}


def derived(counts, processor):
    """Instructions of each part from those of its operators: of integers, and of floats."""
    of = {row["operation"]: row["instructions"] for row in counts["figures"] if row["processor"] == processor}
    square, wide = of["picture-768-768"], of["picture-768-3072"]
    float_layer = of["attention"] + 2 * of["layer-norm"] + of["gelu"]
    word_norms = 3 * of["layer-norm"] / PATCHES
    return {
        "picture": (LAYERS * (0.75 * wide + square + wide + of["picture-3072-768"]) + square, LAYERS * float_layer + of["layer-norm"]),
        "keys and values": (LAYERS * 2 * square, 0),
        "token": (of["token-768-3072"] * TOKEN_WEIGHTS / (WIDTH * WIDE), LAYERS * (of["attention-step"] + word_norms)),
    }


def cycles(board, counts, pipelines, whole):
    """Cycles of one core for each part, if its loops ran as llvm-mca says."""
    loops = [row for row in pipelines["figures"] if row["core"] == board["model"]]
    rate = lambda rows: sum(row["instructions"] for row in rows) / sum(row["cycles"] for row in rows)
    integer = sorted((row for row in loops if row["loop"] != "fmla"), key=lambda row: row["rows"])
    float_rate = rate([row for row in loops if row["loop"] == "fmla"])
    most, one = rate(integer[-1:]), rate(integer[:1])
    taken = {}
    for part, (integers, floats) in derived(counts, board["processor"]).items():
        taken[part] = integers / (one if part == "token" else most) + floats / float_rate
        if whole:
            # What runs besides the operators, at the rate of the whole.
            taken[part] *= whole[PHASES[part]] / PARTS[part] / (integers + floats)
    return taken


def seconds(board, cycles, cores):
    """Least, middle and most seconds of each part."""
    times = {}
    for part, count in cycles.items():
        compute, memory = [], []
        for at in range(3):
            scaling = board["scaling"][at] if cores > 1 else 1
            compute.append(count / (board["clock_ghz"][at] * 1e9 * board["share"][at] * cores * scaling))
            memory.append(BYTES[part] / (board["read_mb_s"][at] * 1e6))
        times[part] = (max(compute[2], memory[2]), max(compute[1], memory[1]), compute[0] + memory[0])
    times["caption"] = tuple(sum(times[part][at] * times_over for part, times_over in PARTS.items()) for at in range(3))
    return times




def tables(data, load, table, counted):
    """A table of times and one of memory, from the data that there is."""
    counts, pipelines, base = load("counts"), load("pipelines"), load("base-1-thread")["figures"]
    phases = {one["processor"]: one["phases"] for one in load(counted)["figures"]["captions"]} if counted else {}
    rows, memory = [], []
    for board in data["boards"]:
        # The two processors without dot products run the same instructions.
        whole = phases.get(board["processor"]) or phases.get({"cortex-a53": "cortex-a72"}.get(board["processor"]))
        for cores in (board["cores"], 1):
            times = seconds(board | data, cycles(board, counts, pipelines, whole), cores)
            show = lambda part, scale=1: "{1} ({0} to {2})".format(*(f"{time * scale:.2g}" if time * scale < 100 else f"{time * scale:.0f}" for time in times[part]))
            rows.append([board["name"], str(cores), show("picture"), show("keys and values"), show("token", 1000), show("caption")])
        memory.append([board["name"], board["parts"], *map(str, board["read_mb_s"]), board["source"]])
    head = ["board", "threads", "image encoder s", "its keys and values s", "a token ms", f"caption of {CAPTION_TOKENS} tokens s"]
    where = ["board", "processor and memory", "low", "middle", "high MB/s", "source"]
    source = "counted whole" if phases else "put together from the operators' counts"
    return "\n\n".join([f"Instructions of a caption: {source}.", table(head, rows), table(where, memory), fits(data["boards"][0], base)])


def fits(board, base):
    """Whether the smallest board has the memory for the base model."""
    peak = base["full_size"]["edgeblip int8"]["peak_rss_bytes"] / 1e6
    bundle = next(cost["bundle_bytes"] for cost in base["exports"] if cost["precision"] == "int8") / 1e6
    held = peak - bundle
    facts = (
        f"int8, base size: the peak is {peak:.0f} MB where there is room, of which {bundle:.0f} MB at most are the bundle's file, mapped, which the system can drop and "
        f"read again, and {held:.0f} MB are not. {board['name']}: {board['memory_mb']} MB, {board['available_mb']} MB of them free of the system."
    )
    if peak <= board["available_mb"]:
        return f"{facts} **It fits.**"
    if held <= board["available_mb"]:
        return f"{facts} **It fits only by dropping the file's pages**, so loading is as slow as the card."
    return f"{facts} **It does not fit**: it needs swap, or a board with more."
