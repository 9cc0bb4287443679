"""Captions one picture with a bundle in ONNX Runtime and says what it cost.

    python time_onnxruntime.py BUNDLE PICTURE [--threads N] [--tokens 20] [--beams 1] [--repeats 3] [--quantize FOLDER] [--against IDS]

The caption is greedy, or of the best of so many beams, and `--tokens` long, as in time_transformers.py, whose JSON line this one prints too. Only the captioner's three graphs are
loaded. `--quantize` first makes ONNX Runtime's own dynamic int8 of them in FOLDER (weights by channel), and times those; that needs onnx besides.
`--against` takes another program's ids: the line then says where they part from these, and how far apart the two logits are there.
"""

import argparse
import json
import resource
import shutil
import statistics
import time
from pathlib import Path

import onnxruntime

from bundle import Bundle


def captioner_graphs(manifest):
    head = manifest["captioner"]
    return [head["vision"]["graph"], head["decoder"]["cross"], head["decoder"]["graph"]]


def quantize(bundle, out):
    """ONNX Runtime's own int8: weights transposed into place first, so that its quantizer sees them as constants."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out.mkdir(parents=True)
    shutil.copy(bundle / "manifest.json", out)
    for name in captioner_graphs(json.loads((bundle / "manifest.json").read_text())):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(out / f"folded-{name}")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"folded-{name}.bin")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(bundle / name), options, providers=["CPUExecutionProvider"])
        quantize_dynamic(
            out / f"folded-{name}",
            out / name,
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quantize", type=Path)
    parser.add_argument("--against", type=json.loads, help="ids as a JSON list")
    parser.add_argument("--quantize-only", action="store_true", help="make the int8 graphs and stop")
    arguments = parser.parse_args()
    if arguments.quantize and not arguments.quantize.exists():
        quantize(arguments.bundle, arguments.quantize)
    if arguments.quantize_only:
        return
    folder = arguments.quantize or arguments.bundle
    started = time.perf_counter()
    bundle = Bundle(folder, arguments.threads, only=captioner_graphs(json.loads((folder / "manifest.json").read_text())))
    load = time.perf_counter() - started

    head, start = bundle.manifest["captioner"], bundle.manifest["tokens"]["decoder_start"]
    spent = {"caption_s": [], "cpu_s": [], "vision_s": [], "token_s": []}
    for _ in range(arguments.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        pixels = bundle.pixels(arguments.picture, head["vision"])
        prepared = time.perf_counter()
        (states,) = bundle.graphs[head["vision"]["graph"]].run(pixels)
        seen = time.perf_counter()
        memory = bundle.memory(head["decoder"], states)
        length = {"max_length": arguments.tokens, "min_length": arguments.tokens}
        if arguments.beams == 1:
            ids, _ = bundle.greedy(head["decoder"], memory, start, **length)
        else:
            ids, _ = bundle.beam(head["decoder"], memory, start, arguments.beams, **length)
        ended = time.perf_counter()
        spent["caption_s"].append(ended - wall)
        spent["cpu_s"].append(time.process_time() - cpu)
        spent["vision_s"].append(seen - prepared)
        spent["token_s"].append((ended - seen) / (len(ids) - 1))
    parting = None
    if arguments.against and arguments.against != ids:
        step = next(i for i, pair in enumerate(zip(arguments.against, ids)) if pair[0] != pair[1])
        logits = bundle.logits(head["decoder"], memory, ids[:step])
        parting = {"step": step, "gap": float(logits[ids[step]] - logits[arguments.against[step]])}
    print(
        json.dumps(
            {
                "versions": f"onnxruntime {onnxruntime.__version__}",
                "load_s": load,
                **{name: statistics.median(values) for name, values in spent.items()},
                "spread_s": [min(spent["caption_s"]), max(spent["caption_s"])],
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "token_ids": ids,
                "parting": parting,
            }
        )
    )


if __name__ == "__main__":
    main()
