"""Makes quantized_linear.json: what ONNX Runtime answers for the function body of edgeblip.QuantizedLinear.

    pip install numpy onnx onnxruntime
    python quantized_linear.py > quantized_linear.json

Floats are stored as the integers of their bits.
"""

import json
import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# rows, inputs, outputs, what is awkward
CASES = [
    (1, 1, 1, "plain"),
    (3, 5, 7, "plain"),
    (13, 33, 17, "plain"),
    (2, 64, 33, "outliers"),
    (5, 130, 19, "extremes"),
    (6, 12, 16, "ties"),
]


def graph(weights, scales, bias):
    outputs, inputs = weights.shape
    constants = {
        "weights": weights.T.copy(),
        "scales": scales,
        "bias": bias,
        "smallest": numpy.float32(1e-12),
        "largest": numpy.float32(127),
        "last": numpy.array([-1], numpy.int64),
    }
    nodes = [
        helper.make_node("Abs", ["x"], ["magnitudes"]),
        helper.make_node("ReduceMax", ["magnitudes", "last"], ["magnitude"], keepdims=1),
        helper.make_node("Max", ["magnitude", "smallest"], ["divisible"]),
        helper.make_node("Div", ["divisible", "largest"], ["scale"]),
        helper.make_node("Div", ["x", "scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["q"], to=TensorProto.INT8),
        helper.make_node("MatMulInteger", ["q", "weights"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["by_row"]),
        helper.make_node("Mul", ["by_row", "scales"], ["by_output"]),
        helper.make_node("Add", ["by_output", "bias"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "quantized_linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
            [
                helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs]),
                helper.make_tensor_value_info("q", TensorProto.INT8, ["rows", inputs]),
                helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["rows", 1]),
            ],
            [numpy_helper.from_array(numpy.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def activations(random, rows, inputs, kind):
    x = random.standard_normal((rows, inputs)).astype(numpy.float32)
    if kind == "outliers":
        x[:, ::17] *= 100
    if kind == "extremes":
        x[0] = 0
        x[1] *= numpy.float32(1e30)
        x[2] *= numpy.float32(1e-30)
        x[3] *= numpy.float32(1e-42)
        x[4] = numpy.where(x[4] > 0, numpy.float32(2.5), numpy.float32(-2.5))
    if kind == "ties":
        x = numpy.floor(x * 40) + numpy.float32(0.5)
        x[:, 0] = 127
    return x


def bits(values):
    return numpy.ascontiguousarray(values, numpy.float32).view(numpy.uint32).ravel().tolist()


def main():
    random = numpy.random.default_rng(7)
    cases = []
    for rows, inputs, outputs, kind in CASES:
        weights = random.integers(-127, 128, (outputs, inputs)).astype(numpy.int8)
        if kind == "extremes":
            weights[0], weights[1], weights[2] = 127, -127, -128
        scales = (random.random(outputs) * 0.02 + 1e-4).astype(numpy.float32)
        bias = random.standard_normal(outputs).astype(numpy.float32)
        x = activations(random, rows, inputs, kind)
        session = onnxruntime.InferenceSession(
            graph(weights, scales, bias).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        y, q, scale = session.run(["y", "q", "scale"], {"x": x})
        case = {"kind": kind, "rows": rows, "inputs": inputs, "outputs": outputs}
        case |= {"x": bits(x), "weights": weights.ravel().tolist(), "weight_scales": bits(scales), "bias": bits(bias)}
        case |= {"q": q.ravel().tolist(), "x_scales": bits(scale), "y": bits(y)}
        cases.append(case)
    versions = {module.__name__: module.__version__ for module in (numpy, onnx, onnxruntime)}
    versions["python"] = sys.version.split()[0]
    print('{"made_by": "quantized_linear.py", "versions": %s, "cases": [' % json.dumps(versions))
    print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
    print("]}")


main()
