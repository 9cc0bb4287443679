"""Makes layers.json and layers.bin: what every int8 layer of the built-in bundle read of a real picture, and its sums.

Made with the versions in layers.json. Run it without arguments, in an environment with `../requirements.txt`; it needs no
network. Run it again whenever `models/built-in` changes.

ONNX Runtime captions, judges and embeds examples/images/01.png. At most three rows of what each `QuantizedLinear` reads,
over all its runs, are quantized and multiplied here in numpy, in integers. ONNX Runtime's own answers to those rows must
equal, bit for bit, what the sums give.

layers.json lists the layers with their rows, layers.bin has for each, in this order and little-endian: rows f32, quantized
rows i8, row scales f32, sums i32 `[rows, outputs]`.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
import PIL
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests/reference"))

from bundle import Bundle, load_session  # noqa: E402

BUNDLE = ROOT / "models/built-in"
PICTURE = ROOT / "examples/images/01.png"
CAPTION = "a car at night"


class Recorder:
    """A graph that keeps what its layers read and answer, run after run. Stands in for `bundle.Graph`."""

    def __init__(self, name, facts, scratch):
        self.name, self.inputs, self.outputs = name, facts["inputs"], facts["outputs"]
        model = onnx.load(BUNDLE / name, load_external_data=False)
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.layers = [node for node in model.graph.node if node.op_type == "QuantizedLinear"]
        known = {port["name"] for port in self.inputs + self.outputs}
        values = dict.fromkeys(value for node in self.layers for value in (node.input[0], node.output[0]))
        for value in values:
            if value not in known:
                model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
        onnx.save(model, scratch / name)
        self.session = load_session(scratch / name)
        self.runs = []

    def run(self, *values):
        feeds = {port["name"]: value for port, value in zip(self.inputs, values, strict=True)}
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(None, feeds), strict=True))
        self.runs.append(feeds | found)
        return [found[port["name"]] for port in self.outputs]

    def rows(self, value):
        """The first, the middle and the last row of all runs, as far as there are so many."""
        rows = numpy.concatenate([run[value].reshape(-1, run[value].shape[-1]) for run in self.runs])
        return rows[sorted({0, len(rows) // 2, len(rows) - 1})]

    def constant(self, name):
        return onnx.numpy_helper.to_array(self.tensors[name], base_dir=str(BUNDLE))


def ask(bundle):
    """Makes every graph of the captioner and of the matcher run; the decoder's second run reads a cache."""
    captioner, matcher = bundle.manifest["captioner"], bundle.manifest["matcher"]
    assert captioner["vision"] == matcher["vision"] and captioner["decoder"]["cross"] == matcher["encoder"]["cross"]
    words = json.loads((BUNDLE / "tokenizer.json").read_text())["model"]["vocab"]
    tokens, caption = bundle.manifest["tokens"], [words[word] for word in CAPTION.split()]
    features = bundle.features(PICTURE, captioner["vision"])
    memory = bundle.memory(captioner["decoder"], features)
    decoding = bundle.decoding(captioner["decoder"], memory)
    decoding.step([tokens["decoder_start"], *caption[:-1]])
    logits = decoding.step(caption[-1:])[0]
    assert logits.argmax() == bundle.end, f"{CAPTION!r} is not what the model writes"
    text = [tokens["class"], *caption, tokens["separator"]]
    bundle.match(memory, text)
    assert bundle.image_vector(features) @ bundle.text_vector(text) > 0.9, f"{CAPTION!r} is not what the model sees"


def quantize(rows):
    """The contract, in f32: `max(max|x|, 1e-12) / 127`, half to even."""
    scales = numpy.maximum(abs(rows).max(-1), numpy.float32(1e-12)) / numpy.float32(127)
    assert scales.dtype == numpy.float32
    return numpy.rint(rows / scales[:, None]).astype(numpy.int8), scales


def entry(graph, layer):
    """What layers.json and layers.bin say of one layer."""
    weight, scale, bias = (graph.constant(name) for name in layer.input[1:])
    place = {fact.key: fact.value for fact in graph.tensors[layer.input[1]].external_data}
    assert place["location"] == "weights.bin" and weight.dtype == numpy.int8
    rows, answers = graph.rows(layer.input[0]), graph.rows(layer.output[0])
    q, scales = quantize(rows)
    sums = q.astype(numpy.int32) @ weight.T.astype(numpy.int32)
    expected = sums.astype(numpy.float32) * scales[:, None] * scale + bias
    assert expected.tobytes() == answers.tobytes(), f"{graph.name}: {layer.input[1]}: ONNX Runtime has other sums"
    outputs, inputs = weight.shape
    facts = {"graph": graph.name, "weight": layer.input[1], "start": int(place["offset"]), "length": int(place["length"])}
    facts |= {"outputs": outputs, "inputs": inputs, "rows": len(rows)}
    parts = (rows.astype("<f4"), q, scales.astype("<f4"), sums.astype("<i4"))
    return facts, b"".join(part.tobytes() for part in parts)


def main():
    bundle = Bundle(BUNDLE)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        shutil.copy(BUNDLE / "weights.bin", scratch)
        graphs = bundle.manifest["graphs"]
        bundle.graphs = {name: Recorder(name, facts, scratch) for name, facts in graphs.items()}
        ask(bundle)
    entries = [entry(graph, layer) for graph in bundle.graphs.values() for layer in graph.layers]
    versions = {module.__name__: module.__version__ for module in (numpy, onnx, onnxruntime, PIL)}
    versions["python"] = sys.version.split()[0]
    weights = hashlib.sha256((BUNDLE / "weights.bin").read_bytes()).hexdigest()
    head = json.dumps({"made_by": "make.py", "versions": versions, "weights_sha256": weights})[:-1]
    layers = ",\n".join(json.dumps(facts, separators=(",", ":")) for facts, _ in entries)
    (HERE / "layers.json").write_text(f'{head}, "layers": [\n{layers}\n]}}\n')
    (HERE / "layers.bin").write_bytes(b"".join(data for _, data in entries))
    print(f"{len(entries)} layers, {len({facts['start'] for facts, _ in entries})} weights")


if __name__ == "__main__":
    main()
