"""Captions one picture with transformers in float32 and says what it cost.

    python time_transformers.py CHECKPOINT PICTURE [--threads N] [--tokens 20] [--beams 1] [--repeats 3]

CHECKPOINT is a Hugging Face folder of a captioner. The caption is greedy, or of the best of so many beams, from the start token alone, `--tokens` long with the start token
counted; `min_length` keeps a random model from ending early, so that the work is the same for everybody. Preprocessing is inside the timed part.
Prints one JSON line: versions, seconds to load, medians of the wall and CPU seconds of a caption, of the image encoder and of a generated token,
peak resident memory of the process, token ids.
"""

import argparse
import json
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint")
parser.add_argument("picture")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--tokens", type=int, default=20)
parser.add_argument("--beams", type=int, default=1)
parser.add_argument("--repeats", type=int, default=3)
arguments = parser.parse_args()

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

import torch
import transformers
from PIL import Image
from transformers import BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

transformers.logging.disable_progress_bar()
torch.set_num_threads(arguments.threads)

started = time.perf_counter()
model = BlipForConditionalGeneration.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval()
processor = BlipImageProcessorPil.from_pretrained(arguments.checkpoint)
load = time.perf_counter() - started

vision, began = [], []
model.vision_model.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
model.vision_model.register_forward_hook(lambda *_: vision.append(time.perf_counter() - began[-1]))
seconds, cpu_seconds, writing = [], [], []
for _ in range(arguments.repeats):
    wall, cpu = time.perf_counter(), time.process_time()
    picture = Image.open(arguments.picture)
    pixel_values = processor(picture, return_tensors="pt").pixel_values
    prepared = time.perf_counter()
    length = {"max_length": arguments.tokens, "min_length": arguments.tokens}
    ids = model.generate(pixel_values, num_beams=arguments.beams, do_sample=False, **length)[0].tolist()
    ended = time.perf_counter()
    seconds.append(ended - wall)
    cpu_seconds.append(time.process_time() - cpu)
    writing.append(ended - prepared - vision[-1])

print(
    json.dumps(
        {
            "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "load_s": load,
            "caption_s": statistics.median(seconds),
            "spread_s": [min(seconds), max(seconds)],
            "cpu_s": statistics.median(cpu_seconds),
            "vision_s": statistics.median(vision),
            "token_s": statistics.median(writing) / (len(ids) - 1),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "token_ids": ids,
        }
    )
)
