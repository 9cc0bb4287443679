"""Makes floats.json: what the float kernels are held against, computed in 64 bits.

    pip install numpy==2.4.6 scipy==1.17.1
    python floats.py > floats.json

Floats are stored as the integers of their bits; answers are rounded to 32 bits once, at the end.
"""

import json
import sys

import numpy
import scipy
from scipy.special import erf, erfc


def bits(values):
    with numpy.errstate(over="ignore", under="ignore"):
        return numpy.ascontiguousarray(values, numpy.float32).view(numpy.uint32).ravel().tolist()


def half_bits(values):
    return numpy.ascontiguousarray(values, numpy.float16).view(numpy.uint16).ravel().tolist()


def powers(random):
    x = numpy.concatenate([-(random.random(60) ** 3) * 126, random.random(20) * 127, [0, -1, -126]]).astype(numpy.float32)
    return {"x": bits(x), "y": bits(2.0 ** x.astype(numpy.float64))}


def gelu(random):
    scales = 10.0 ** random.uniform(-30, 30, 30)
    x = numpy.concatenate([random.standard_normal(90) * 3, random.standard_normal(30) * scales, [0, 1e-40, -1e-40]])
    x = x.astype(numpy.float32)
    wide = x.astype(numpy.float64)
    # The same number both ways; erfc where erf would cancel.
    y = numpy.where(wide < 0, wide * erfc(-wide / numpy.sqrt(2)), wide * (1 + erf(wide / numpy.sqrt(2)))) / 2
    return {"x": bits(x), "y": bits(y)}


def layer_norm(random):
    cases = []
    for rows, width, kind, epsilon in [(2, 1, "plain", 1e-6), (3, 7, "plain", 1e-12), (2, 77, "shifted", 1e-6), (2, 64, "outlier", 1e-12), (2, 33, "flat", 1e-6)]:
        x = random.standard_normal((rows, width)) * 2
        if kind == "shifted":
            x += 10
        if kind == "outlier":
            x[:, 3] *= 50
        if kind == "flat":
            x[:] = 1.5
        x, weight, bias = (value.astype(numpy.float32) for value in (x, random.standard_normal(width), random.standard_normal(width)))
        wide = x.astype(numpy.float64)
        centred = wide - wide.mean(1, keepdims=True)
        y = centred / numpy.sqrt((centred**2).mean(1, keepdims=True) + epsilon) * weight + bias
        cases.append({"kind": kind, "epsilon": epsilon, "x": bits(x), "weight": bits(weight), "bias": bits(bias), "y": bits(y)})
    return cases


def attention(random):
    cases = []
    for heads, width, queries, past, fresh, kind in [
        (2, 8, 3, 0, 5, "all"),
        (1, 5, 9, 0, 9, "all"),
        (3, 4, 4, 3, 4, "causal"),
        (2, 32, 1, 2, 1, "causal"),
        (2, 16, 2, 4, 3, "first"),
        (1, 64, 5, 0, 37, "sharp"),
    ]:
        shape = lambda rows: (heads, rows, width)
        q, k, v = random.standard_normal(shape(queries)), random.standard_normal(shape(past + fresh)), random.standard_normal(shape(past + fresh))
        if kind == "sharp":
            q *= 8
        # What caches keep is representable in 16 bits.
        k[:, :past] = k[:, :past].astype(numpy.float16)
        v[:, :past] = v[:, :past].astype(numpy.float16)
        q, k, v = (value.astype(numpy.float32) for value in (q, k, v))
        scores = q.astype(numpy.float64) @ k.astype(numpy.float64).transpose(0, 2, 1) / numpy.sqrt(width)
        key, query = numpy.arange(past + fresh), numpy.arange(queries)[:, None]
        seen = past + query + 1 if kind == "causal" else past + 1 if kind == "first" else past + fresh
        scores = numpy.where(key < seen, scores, -numpy.inf)
        weights = numpy.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = (weights @ v.astype(numpy.float64)).transpose(1, 0, 2)
        case = {"kind": kind, "heads": heads, "head_width": width, "queries": queries, "past": past, "fresh": fresh}
        # Queries and fresh keys and values side by side, [tokens, heads * width]; the past by head.
        case |= {"q": bits(q.transpose(1, 0, 2)), "k": bits(k[:, past:].transpose(1, 0, 2)), "v": bits(v[:, past:].transpose(1, 0, 2))}
        case |= {"past_k": half_bits(k[:, :past]), "past_v": half_bits(v[:, :past]), "y": bits(y)}
        cases.append(case)
    return cases


def half(random):
    x = random.standard_normal(60) * 10.0 ** random.uniform(-9, 6, 60)
    x = numpy.concatenate([x, [65504, 65519.996, 65520, -65520, 2049, 2051, 6e-8, 2.9e-8, 2.98e-8, 3.1e-8, 0, -0.0, numpy.inf]])
    x = x.astype(numpy.float32)
    with numpy.errstate(over="ignore", under="ignore"):
        return {"x": bits(x), "y": half_bits(x)}


def main():
    random = numpy.random.default_rng(11)
    made = {"made_by": "floats.py", "versions": {"numpy": numpy.__version__, "scipy": scipy.__version__}}
    made["versions"]["python"] = sys.version.split()[0]
    for make in (powers, gelu, layer_norm, attention, half):
        made[make.__name__] = make(random)
    print(json.dumps(made, separators=(",", ":")).replace(',{"kind"', ',\n{"kind"').replace('},"', '},\n"'))


main()
