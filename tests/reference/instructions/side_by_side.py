"""Counts the instructions of the same work in edgeblip, in ONNX Runtime and in tract as it comes, in one emulator.

    python tests/reference/instructions/side_by_side.py --work DIR --quantized-linear PROGRAM --stock-tract PROGRAM
                    [--fp32 BUNDLE --int8 BUNDLE --captions FILE [--picture FILE]] [--tract-encoder]
                    [--processors cortex-a76] [--json FILE]

The work is a linear layer at the sizes of BLIP-base (577 rows, 768 inputs, 3,072 outputs) with activations quantized at
run time; with `--fp32`, also the image encoder and a whole caption of that bundle. The two programs are benchmarks of the
runtime for aarch64. FILE of `--captions` is what caption.py wrote of the bundle of `--int8`, which is of the same
checkpoint, and the same picture.

The others run models that ONNX Runtime's own `quantize_dynamic` made of the fp32 ones, weights in 8 bits by channel. All on
one thread, without start-up, and every answer is held against fp32: the distance is that of the vectors by the length of
fp32's; of our encoder, which prints no features, they are those of ONNX Runtime on the int8 bundle, and
onnxruntime_check.py holds the two readers together. --work is kept: what is in it of the others, their counts too, is not
made again. Needs onnxruntime and onnx here, and what emulator.py and arm_python.py need.
"""

import argparse
import collections
import json
import pathlib
import sys

import numpy

import arm_python
import emulator

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))
TOKENS = 20
LINEAR = "linear 577x768x3072"
ROWS, INPUTS, OUTPUTS = 577, 768, 3072
OPERATION = "picture-768-3072"
# Distances from fp32 that 8 bits may have: a linear layer, and twelve blocks of random weights one after the other.
LARGEST_DISTANCES = {LINEAR: 0.02, "image encoder": 0.1}


def distance(found, exact):
    return float(numpy.linalg.norm(found.ravel() - exact.ravel()) / numpy.linalg.norm(exact))


def row(size, program, counts, sections, apart):
    return {
        "size": size,
        "program": program,
        "instructions": counts.total(sections),
        "kinds": dict(counts.by_kind(sections).most_common()),
        "functions": dict(counts.by_name(sections).most_common(8)),
        "distance_from_fp32": apart,
    }


def kept(work, name, count):
    """Rows that `count` gives, or gave before."""
    file = work / f"{name}.json"
    if not file.exists():
        file.write_text(json.dumps(count(), indent=1) + "\n")
    return json.loads(file.read_text())


def linear(plugin, arguments, processor):
    folder = arguments.work / "linear"
    x, exact, ours = make_linear(folder)
    yield ours_linear(plugin, arguments.quantized_linear, processor, distance(ours, exact))
    yield from kept(folder, f"onnxruntime-{processor}", lambda: theirs_linear(plugin, arguments.work, processor, exact))
    in_tract = lambda: [tract(plugin, arguments.stock_tract, processor, LINEAR, folder / "quantized.onnx", x, exact)]
    yield from kept(folder, f"tract-{processor}", in_tract)


def theirs_linear(plugin, work, processor, exact):
    folder, output = work / "linear", plugin.with_name("output.npy")
    guest = ["graph", folder / "quantized.onnx", folder / "x.npy", output, 2]
    counts = onnxruntime(plugin, work, processor, guest)[1]
    return [row(LINEAR, "ONNX Runtime", counts, slice(2, 3), distance(numpy.load(output), exact))]


def ours_linear(plugin, program, processor, apart):
    """The benchmark holds its answer against scalar's, to the last bit, and prints nothing before: so, twice less once."""
    once, twice = (emulator.run(plugin, processor, [program, OPERATION, runs])[1] for runs in (1, 2))
    less = lambda how: dict((collections.Counter(how(twice)) - collections.Counter(how(once))).most_common())
    return {
        "size": LINEAR,
        "program": "edgeblip",
        "instructions": twice.total() - once.total(),
        "kinds": less(lambda counts: counts.by_kind()),
        "functions": dict(list(less(lambda counts: counts.by_name()).items())[:8]),
        "distance_from_fp32": apart,
    }


def make_linear(folder):
    """The layer of the benchmark, as floats and as ONNX Runtime quantizes it: input, fp32's answer, and our contract's."""
    values = Values()
    weights = (values.next(INPUTS * OUTPUTS) * numpy.float32(127)).astype(numpy.int8).reshape(OUTPUTS, INPUTS)
    scales, x = values.next(OUTPUTS), values.next(ROWS * INPUTS).reshape(ROWS, INPUTS)
    bias = values.next(OUTPUTS)
    matrix = numpy.ascontiguousarray((weights.astype(numpy.float32) * scales[:, None]).T)
    if not folder.exists():
        folder.mkdir(parents=True)
        write_linear(folder, matrix, bias)
        numpy.save(folder / "x.npy", x)
    scale = numpy.maximum(abs(x).max(1, keepdims=True), numpy.float32(1e-12)) / numpy.float32(127)
    sums = numpy.rint(x / scale).astype(numpy.float64) @ weights.T.astype(numpy.float64)
    ours = sums.astype(numpy.float32) * scale * scales + bias
    return x, x.astype(numpy.float64) @ matrix + bias, ours


class Values:
    """The generator of runtime/benches/quantized_linear.rs."""

    def __init__(self):
        self.state = numpy.uint64(1)

    def next(self, count):
        with numpy.errstate(over="ignore"):
            factors = numpy.multiply.accumulate(numpy.full(count, 6364136223846793005, numpy.uint64))
            sums = numpy.add.accumulate(numpy.concatenate([numpy.ones(1, numpy.uint64), factors[:-1]]))
            states = factors * self.state + sums * numpy.uint64(1442695040888963407)
        self.state = states[-1]
        return (states >> numpy.uint64(33)).astype(numpy.float32) / numpy.float32(1 << 30) - numpy.float32(1)


def write_linear(folder, matrix, bias):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, width])
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["product"]), helper.make_node("Add", ["product", "bias"], ["y"])]
    stored = [numpy_helper.from_array(matrix, "weight"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, "linear", [value("x", INPUTS)], [value("y", OUTPUTS)], stored)
    plain = folder / "fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), plain)
    quantize_dynamic(plain, folder / "quantized.onnx", weight_type=QuantType.QInt8, per_channel=True)


def onnxruntime(plugin, work, processor, guest):
    arm_python.prepare(work / "arm")
    script = HERE / "onnxruntime_guest.py"
    return emulator.run(plugin, lines=True, **arm_python.command(work / "arm", processor, script, *guest))


def tract(plugin, program, processor, size, graph, x, exact):
    given, output = (plugin.with_name(name) for name in ("input", "output"))
    given.write_bytes(x.astype("<f4").tobytes())
    shape = "x".join(map(str, x.shape))
    _, counts = emulator.run(plugin, processor, [program, graph, given, shape, output, 2], lines=True)
    return row(size, "tract", counts, slice(2, 3), distance(numpy.fromfile(output, "<f4"), exact))


def whole(plugin, arguments, processor, graph_in_tract):
    """The image encoder and a caption."""
    from bundle import Bundle
    from time_onnxruntime import quantize

    captions = json.loads(arguments.captions.read_text())["captions"]
    ours = next(one for one in captions if one["processor"] == processor)
    quantized = arguments.work / "quantized"
    if not quantized.exists():
        quantize(arguments.fp32, quantized)
    head = json.loads((arguments.fp32 / "manifest.json").read_text())["captioner"]
    plain, int8 = (Bundle(bundle, only=[head["vision"]["graph"]]) for bundle in (arguments.fp32, arguments.int8))
    pixels = plain.pixels(arguments.picture, head["vision"])
    exact, found = (bundle.encode(pixels, head["vision"]) for bundle in (plain, int8))
    yield ours_whole("image encoder", ours, ["image encoder"], distance(found, exact))
    # Preparing the picture is Pillow's on their side, and is left out on ours too.
    yield ours_whole("caption", ours, ["image encoder", "cross keys and values", "decoder"], None)
    theirs = lambda: theirs_whole(plugin, arguments.work, processor, arguments.picture, exact)
    yield from kept(quantized, f"onnxruntime-{processor}", theirs)
    if graph_in_tract:
        graph = quantized / head["vision"]["graph"]
        in_tract = lambda: [tract(plugin, arguments.stock_tract, processor, "image encoder", graph, pixels, exact)]
        yield from kept(quantized, f"tract-{processor}", in_tract)


def theirs_whole(plugin, work, processor, picture, exact):
    states = plugin.with_name("states.npy")
    printed, counts = onnxruntime(plugin, work, processor, ["caption", work / "quantized", picture, states, TOKENS])
    if len(json.loads(printed.splitlines()[-1])) != TOKENS:
        sys.exit(f"ONNX Runtime wrote {printed}")
    return [
        row("image encoder", "ONNX Runtime", counts, slice(6, 7), distance(numpy.load(states), exact)),
        row("caption", "ONNX Runtime", counts, slice(6, 9), None),
    ]


def ours_whole(size, ours, phases, apart):
    of = lambda what: sum((collections.Counter(ours[what][phase]) for phase in phases), collections.Counter())
    return {
        "size": size,
        "program": "edgeblip",
        "instructions": sum(ours["phases"][phase] for phase in phases),
        "kinds": dict(of("kinds_by_phase").most_common()),
        "functions": dict(of("operators_by_phase").most_common(8)),
        "distance_from_fp32": apart,
    }


def check(rows):
    for one in rows:
        apart, largest = one["distance_from_fp32"], LARGEST_DISTANCES.get(one["size"])
        if apart is not None and not apart < largest:
            sys.exit(f"{one['program']}, {one['size']}: {apart:.4f} from fp32, {largest} is the most")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--quantized-linear", type=pathlib.Path, required=True)
    parser.add_argument("--stock-tract", type=pathlib.Path, required=True)
    parser.add_argument("--fp32", type=pathlib.Path)
    parser.add_argument("--int8", type=pathlib.Path)
    parser.add_argument("--captions", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "examples/images/01.png")
    parser.add_argument("--tract-encoder", action="store_true", help="the image encoder in tract too, which takes long")
    parser.add_argument("--processors", default="cortex-a76")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    if len({bool(arguments.fp32), bool(arguments.int8), bool(arguments.captions)}) > 1:
        parser.error("--fp32, --int8 and --captions belong together")
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.work = arguments.work.resolve()
    plugin = emulator.build(arguments.work)
    found = []
    for processor in arguments.processors.split(","):
        rows = list(linear(plugin, arguments, processor))
        if arguments.fp32:
            rows += whole(plugin, arguments, processor, arguments.tract_encoder)
        check(rows)
        found += [{"processor": processor, **one} for one in rows]
        show(processor, rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def show(processor, rows):
    rows = sorted(rows, key=lambda one: [LINEAR, "image encoder", "caption"].index(one["size"]))
    print(f"{processor:<22}{'program':<14}{'instructions':>16}{'to ours':>9}{'from fp32':>11}  of them", flush=True)
    for one in rows:
        ours = next(other["instructions"] for other in rows if other["size"] == one["size"] and other["program"] == "edgeblip")
        apart = "" if one["distance_from_fp32"] is None else f"{one['distance_from_fp32']:.4f}"
        kinds = ", ".join(f"{name} {count:,}" for name, count in list(one["kinds"].items())[:5])
        share = one["instructions"] / ours
        print(f"{one['size']:<22}{one['program']:<14}{one['instructions']:>16,}{share:>9.2f}{apart:>11}  {kinds}", flush=True)


if __name__ == "__main__":
    main()
