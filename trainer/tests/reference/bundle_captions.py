"""Whether a bundle of a captioner says what the trainer says with the same weights. Python's standard library alone.

    python bundle_captions.py CAPTIONER DATASET [--programs target/release]

Exports CAPTIONER in f32 and captions the dataset's pictures with `edgeblip`; ends with 1 where a caption differs from that of
`edgeblip-trainer evaluate`. Then does the same in int8, and prints how many agree: rounding may change a close call.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def output(*arguments):
    return subprocess.run([str(argument) for argument in arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--programs", type=Path, default=Path("target/release"))
    arguments = parser.parse_args()
    trainer, exporter, runtime = (arguments.programs / name for name in ["edgeblip-trainer", "edgeblip-export", "edgeblip"])

    found = output(trainer, "evaluate", arguments.dataset, "--captioner", arguments.captioner, "--device", "cpu", "--json")
    expected = {example["key"]: example["caption"] for example in json.loads(found)["captions"]["examples"]}
    with open(arguments.dataset / "metadata.jsonl") as lines:
        rows = [json.loads(line) for line in lines]
    pictures = {row["key"]: arguments.dataset / row["file_name"] for row in rows if row["key"] in expected}
    differ = 0
    for precision in ["fp32", "int8"]:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle"
            output(exporter, "--captioner", arguments.captioner, "--precision", precision, "--out", bundle)
            flags = ["--decode", "beam", "--beams", 3, "--min-length", 5, "--max-length", 20]
            lines = output(runtime, "caption", "--bundle", bundle, "--json", *flags, *pictures.values())
        captions = [json.loads(line)["caption"] for line in lines.splitlines()]
        same = sum(caption == expected[key] for key, caption in zip(pictures, captions, strict=True))
        print(f"{precision}: {same} of {len(pictures)} captions are the trainer's")
        differ += len(pictures) - same if precision == "fp32" else 0
    if differ:
        sys.exit(f"{differ} captions of the f32 bundle differ")


if __name__ == "__main__":
    main()
