"""PyTorch's side of the speed benchmark: whole pre-training steps (all three losses, momentum encoders, queues, AdamW), after showing what they give.

    python speed.py prepare FILE [--size small|base] [--batch 16]           weights, queues and one batch for both sides
    python speed.py time FILE [--steps 10] [--warm-up 2] [--device cpu|cuda] [--dtype f32|bf16] [--compile] [--attention sdpa|plain] [--threads 1]

`small` is the CPU's size: 96 pixels, patch 16, 6 layers of 192 on the image's side and 4 of 192 on the text's, 20 tokens, 1,000 words.
`base` is BLIP-base as pre-trained: 224 pixels, 30,524 words, a queue of 57,600; weights in FILE are then some 900 MB.
Every step reads the same batch, as loading data is not what is timed; there is no dropout. Both sides start from FILE and print the losses of
their first steps, so that a speed stands beside an answer.

FILE is safetensors: `parameters/NAME` (names as in `pretraining.py`), `image_queue` and `text_queue` `[projection, queue]`,
`pixels` `[B, 3, S, S]`, `ids` `[B, L]` and `lengths` `[B]` as int64; the sizes and settings are json in its metadata under `benchmark`.

On CUDA: `--dtype bf16` is autocast over float32 weights, as usual in PyTorch; AdamW is the fused one; times are between events on the device.
"""

import argparse
import contextlib
import json
import platform
import resource
import statistics
import time
from dataclasses import replace

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import pretraining
import readable
from pretraining import Blip, Sizes, Training

SMALL = Sizes(
    image=96, patch=16, vision_width=192, vision_layers=6, vision_heads=3, vision_feed_forward=768,
    text_width=192, text_layers=4, text_heads=3, text_feed_forward=768,
    vocabulary=1000, positions=32, projection=128, queue=1024,
    pad=0, class_token=1, separator=2, decoder_start=998, encoder_start=999,
)  # fmt: skip
BASE = Sizes(
    image=224, patch=16, vision_width=768, vision_layers=12, vision_heads=12, vision_feed_forward=3072,
    text_width=768, text_layers=12, text_heads=12, text_feed_forward=3072,
    vocabulary=30524, positions=512, projection=256, queue=57600,
    pad=0, class_token=101, separator=102, decoder_start=30522, encoder_start=30523,
)  # fmt: skip
SIZES = {"small": (SMALL, 20), "base": (BASE, 30)}
"""Sizes, and tokens of a text."""
SETTINGS = {"momentum": 0.995, "alpha": 0.4, "learning_rate": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05, "seed": 1}
SHORTEST = 10
LOSSES_SHOWN = 3


def prepare(path, size, batch):
    """Writes what both sides read."""
    sizes, length = SIZES[size]
    sizes = replace(sizes, queue=sizes.queue // batch * batch)
    model = pretraining.fill(Blip(sizes), 1)
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(batch, 3, sizes.image, sizes.image, generator=generator)
    ids, lengths = pretraining.random_texts(sizes, batch, length, SHORTEST, generator)
    image_queue, text_queue = pretraining.random_queues(sizes, 3)
    arrays = {f"parameters/{name}": parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    arrays |= {"image_queue": image_queue, "text_queue": text_queue, "pixels": pixels, "ids": ids, "lengths": lengths}
    facts = {"size": size, "sizes": sizes.as_dict(), "batch": batch, "length": length, "settings": SETTINGS}
    save_file(arrays, path, metadata={"benchmark": json.dumps(facts)})


def read(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["benchmark"]), {name: file.get_tensor(name) for name in file.keys()}


def build(arguments, facts, arrays, device):
    model = Blip(Sizes(**facts["sizes"]), arguments.attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(arrays[f"parameters/{name}"])
    model.to(device)
    settings = facts["settings"]
    options = {"lr": settings["learning_rate"], "betas": tuple(settings["betas"]), "eps": settings["eps"], "weight_decay": settings["weight_decay"]}
    queues = [arrays["image_queue"].to(device), arrays["text_queue"].to(device)]
    training = Training(model, queues, settings["momentum"], fused=True, **options)
    if arguments.compile:
        training.losses = torch.compile(model.losses, mode=arguments.compile_mode)
    return training


class Clock:
    """Seconds from one `start` to its `stop`: of the device where there is one, else of the wall."""

    def __init__(self, device):
        self.on_device = device.type == "cuda"

    def start(self):
        if self.on_device:
            self.first, self.last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            self.first.record()
        else:
            self.first, self.first_cpu = time.perf_counter(), time.process_time()

    def stop(self):
        """Seconds, and CPU seconds of this process (none on a device)."""
        if self.on_device:
            self.last.record()
            torch.cuda.synchronize()
            return self.first.elapsed_time(self.last) / 1000, None
        return time.perf_counter() - self.first, time.process_time() - self.first_cpu


def peak_bytes(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def products(sizes, batch, length):
    """Multiply-adds of one step's forward and backward in matrix products: every trained product counts three times, a momentum one once."""

    def layers(count, rows, width, inner, seen):
        return count * rows * (4 * width * width + 2 * width * inner + 2 * seen * width)

    def cross(rows, count, memory_rows):
        width, memory = sizes.text_width, sizes.vision_width
        return sizes.text_layers * count * (rows * 2 * width * width + memory_rows * 2 * memory * width + 2 * rows * memory_rows * width)

    tokens = sizes.patches + 1
    image = sizes.patches * 3 * sizes.patch**2 * sizes.vision_width
    image = batch * (image + layers(sizes.vision_layers, tokens, sizes.vision_width, sizes.vision_feed_forward, tokens))
    text = batch * layers(sizes.text_layers, length, sizes.text_width, sizes.text_feed_forward, length)
    read = cross(length, batch, tokens)
    head = batch * (length - 1) * sizes.text_width * (sizes.text_width + sizes.vocabulary)
    trained = image + 5 * text + 4 * read + head
    return 3 * trained + image + text


def measure(arguments):
    facts, arrays = read(arguments.file)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.dtype != "f32"
        torch.cuda.reset_peak_memory_stats()
    else:
        torch.set_num_threads(arguments.threads)
    training = build(arguments, facts, arrays, device)
    settings, batch = facts["settings"], tuple(arrays[name].to(device) for name in ("pixels", "ids", "lengths"))
    half = arguments.dtype == "bf16"
    context = torch.autocast(device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()
    # A tensor, so that a compiled step is compiled once for every value.
    alpha = torch.tensor(settings["alpha"], device=device)
    total = arguments.warm_up + arguments.steps
    draws = [pretraining.chances(settings["seed"], step, facts["batch"]).to(device) for step in range(total)]
    clock, seconds, cpu_seconds, losses = Clock(device), [], [], []
    for step in range(total):
        clock.start()
        itc, itm, lm, seen, _ = training.step(batch, alpha, draws[step], settings["learning_rate"], context=context)
        training.update()
        wall, cpu = clock.stop()
        if step < LOSSES_SHOWN:
            negatives = {name: seen[name].tolist() for name in ("negative_images", "negative_texts")}
            losses.append({"itc": itc.item(), "itm": itm.item(), "lm": lm.item()} | negatives)
        if step >= arguments.warm_up:
            seconds.append(wall)
            cpu_seconds.append(cpu)
    median = statistics.median(seconds)
    work = 2 * products(Sizes(**facts["sizes"]), facts["batch"], facts["length"])
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
    result = {"torch": torch.__version__, "machine": machine, "size": facts["size"], "batch": facts["batch"], "dtype": arguments.dtype}
    result |= {"attention": arguments.attention, "compiled": arguments.compile_mode if arguments.compile else None, "steps": arguments.steps}
    result |= {"median_s": median, "least_s": min(seconds), "most_s": max(seconds)}
    result |= {"median_cpu_s": None if cpu_seconds[0] is None else statistics.median(cpu_seconds)}
    result |= {"pairs_per_s": facts["batch"] / median, "gflop_per_step": work / 1e9, "gflop_per_s": work / median / 1e9}
    print(readable.text(result | {"peak_bytes": peak_bytes(device), "losses": losses}), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing, timing = commands.add_parser("prepare"), commands.add_parser("time")
    for command in (preparing, timing):
        command.add_argument("file")
    preparing.add_argument("--size", choices=SIZES, default="small")
    preparing.add_argument("--batch", type=int, default=16)
    timing.add_argument("--steps", type=int, default=10)
    timing.add_argument("--warm-up", type=int, default=2)
    timing.add_argument("--device", default="cpu")
    timing.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    timing.add_argument("--compile", action="store_true")
    timing.add_argument("--compile-mode", default="default")
    timing.add_argument("--attention", choices=("sdpa", "plain"), default="sdpa")
    timing.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.file, arguments.size, arguments.batch)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
