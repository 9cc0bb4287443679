"""A bundle in ONNX Runtime: what the runtime does, written a second time in numpy, from `manifest.json` alone.

Needs onnxruntime, numpy and pillow. Token ids come from the caller: there is no tokenizer here.
"""

import json
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image

ELEMENTS = {"f32": numpy.float32, "f16": numpy.float16, "i64": numpy.int64}


def load_session(path, threads=1):
    """An inference session on the graph at `path`; its external data is found beside it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def log_softmax(logits):
    """Along the last axis, in float64."""
    logits = logits.astype(numpy.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))


class Graph:
    """One graph; every call is held against what the manifest says of it."""

    def __init__(self, folder, name, facts, threads):
        self.name, self.inputs, self.outputs = name, facts["inputs"], facts["outputs"]
        self.session = load_session(Path(folder) / name, threads)
        self.runs = 0
        for kind, ports, found in (
            ("inputs", self.inputs, self.session.get_inputs()),
            ("outputs", self.outputs, self.session.get_outputs()),
        ):
            names = [port["name"] for port in ports]
            assert [value.name for value in found] == names, f"{name}: {kind} are not those of the manifest"

    def run(self, *values):
        """Inputs and outputs in the manifest's order."""
        feeds = {port["name"]: value for port, value in zip(self.inputs, values, strict=True)}
        self.check(self.inputs, values)
        outputs = self.session.run(None, feeds)
        self.check(self.outputs, outputs)
        self.runs += 1
        return outputs

    def check(self, ports, values):
        for port, value in zip(ports, values, strict=True):
            fits = len(port["shape"]) == value.ndim and all(
                isinstance(size, str) or size == found for size, found in zip(port["shape"], value.shape)
            )
            right = value.dtype == ELEMENTS[port["element"]]
            assert fits and right, f"{self.name}: {port} is {value.dtype} {value.shape}"


class Decoding:
    """Rows of tokens in the making, with their caches."""

    def __init__(self, graph, memory, config):
        self.graph, self.memory = graph, memory
        past = [port for port in graph.inputs if port["name"].startswith("past_")]
        shape = (1, config["heads"], 0, config["width"] // config["heads"])
        self.caches = [numpy.zeros(shape, ELEMENTS[port["element"]]) for port in past]

    def step(self, ids, parents=(0,)):
        """Logits `[rows, vocabulary]` after `ids`; each row goes on from its parent among the rows before."""
        past = [cache[list(parents)] for cache in self.caches]
        ids = numpy.array(ids, numpy.int64).reshape(len(parents), -1)
        logits, *new = self.graph.run(ids, *past, *self.memory)
        self.caches = [numpy.concatenate(pair, axis=2) for pair in zip(past, new)]
        return logits


class Bundle:
    """The graphs of a bundle, loaded: every one, or those named in `only`."""

    def __init__(self, folder, threads=1, only=None):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.end = self.manifest["tokens"]["separator"]
        graphs = self.manifest["graphs"]
        self.graphs = {name: Graph(folder, name, graphs[name], threads) for name in only or graphs}

    def pixels(self, picture, vision):
        """`[1, 3, S, S]`: Pillow's bicubic, then mean and deviation."""
        side, normalization = vision["config"]["image_size"], vision["normalization"]
        with Image.open(picture) as opened:
            resized = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        values = numpy.asarray(resized, numpy.float32) * numpy.float32(1 / 255)
        values = (values - numpy.float32(normalization["mean"])) / numpy.float32(normalization["std"])
        return numpy.ascontiguousarray(values.transpose(2, 0, 1))[None]

    def encode(self, pixels, vision):
        return self.graphs[vision["graph"]].run(pixels)[0]

    def features(self, picture, vision):
        return self.encode(self.pixels(picture, vision), vision)

    def memory(self, stack, states):
        """Keys and values that the stack's cross-attention reads."""
        return self.graphs[stack["cross"]].run(states)

    def decoding(self, stack, memory):
        return Decoding(self.graphs[stack["graph"]], memory, stack["config"])

    def logits(self, stack, memory, ids):
        """Logits after `ids`, read one after another as a search reads them."""
        decoding = self.decoding(stack, memory)
        return [decoding.step([token])[0] for token in ids][-1]

    def greedy(self, stack, memory, start, max_length=20, min_length=0):
        """Token ids, `start` first, and the log probability of the others. Lengths count every token."""
        decoding, ids, total = self.decoding(stack, memory), [start], 0.0
        logits = decoding.step(ids)[0]
        while True:
            allowed = logits.copy()
            if len(ids) < min_length:
                allowed[self.end] = -numpy.inf
            ids.append(int(allowed.argmax()))
            total += log_softmax(logits)[ids[-1]]
            if ids[-1] == self.end or len(ids) == max_length:
                return ids, total
            logits = decoding.step([ids[-1]])[0]

    def beam(self, stack, memory, start, beams, max_length=20, min_length=0):
        """Beam search as transformers 5 does it with length penalty 1 and without early stopping."""
        decoding = self.decoding(stack, memory)
        running, finished = [([start], 0.0)], []
        logits = decoding.step([start])
        while True:
            scores = numpy.array([[score] for _, score in running]) + log_softmax(logits)
            length = len(running[0][0]) + 1
            if length <= min_length:
                scores[:, self.end] = -numpy.inf
            best = numpy.argsort(-scores, axis=None, kind="stable")[: 2 * beams]
            best = [(int(index) // scores.shape[1], int(index) % scores.shape[1]) for index in best]
            ended = lambda token: token == self.end or length == max_length
            grown = lambda row, token: (running[row][0] + [token], float(scores[row, token]))
            finished += [grown(row, token) for row, token in best[:beams] if ended(token)]
            finished = sorted(finished, key=lambda text: -text[1] / (len(text[0]) - 1))[:beams]
            going = [(row, token) for row, token in best if not ended(token)][:beams]
            if not going:
                return finished[0]
            running = [grown(row, token) for row, token in going]
            full = len(finished) == beams
            if full and running[0][1] / (length - 1) <= finished[-1][1] / (len(finished[-1][0]) - 1):
                return finished[0]
            logits = decoding.step([token for _, token in going], [row for row, _ in going])

    def marked(self, ids, head):
        """`ids` with the head's own token first."""
        tokens = self.manifest["tokens"]
        first = {"ENC": tokens["encoder_start"], "CLS": tokens["class"]}[head["encoder_token"]]
        return numpy.array([[first, *ids[1:]]], numpy.int64)

    def match(self, memory, ids):
        """ITM: the probability of a match."""
        head = self.manifest["matcher"]
        logits = self.graphs[head["encoder"]["graph"]].run(self.marked(ids, head), *memory)[0]
        return float(numpy.exp(log_softmax(logits))[0, 1])

    def image_vector(self, features):
        return self.graphs[self.manifest["matcher"]["image_embedding"]].run(features)[0][0]

    def text_vector(self, ids):
        """`ids` with `[CLS]` first."""
        return self.graphs[self.manifest["matcher"]["text_embedding"]].run(numpy.array([ids], numpy.int64))[0][0]

    def question_states(self, memory, ids):
        head = self.manifest["answerer"]
        return self.graphs[head["question"]["graph"]].run(self.marked(ids, head), *memory)[0]
