"""Goldens of 20 steps of pre-training a tiny BLIP: `../goldens/tiny_blip.safetensors` and `.json`.

    python tiny_blip.py [--float32] [--check] [--out DIR]

The arrays are what float64 gives, rounded to float32 at the end; the same run in float32 is made beside it, and how far it strays is in the json.
With `--float32` the arrays come from the float32 run. `--check` only holds the model against transformers' own BLIP classes.
The layout is in `../goldens/README.md`.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

import pretraining
import readable
from pretraining import Blip, Sizes, Training

SIZES = Sizes(
    image=24, patch=8, vision_width=32, vision_layers=2, vision_heads=4, vision_feed_forward=64,
    text_width=24, text_layers=2, text_heads=3, text_feed_forward=48,
    vocabulary=60, positions=16, projection=16, queue=24,
    pad=0, class_token=2, separator=3, decoder_start=58, encoder_start=59,
)  # fmt: skip
BATCH, LENGTH, SHORTEST = 6, 12, 4
EPOCHS, STEPS_PER_EPOCH = 2, 10
SCHEDULE = {"initial": 1e-3, "least": 1e-4, "decay_rate": 0.9, "warm_up_from": 1e-4, "warm_up_steps": 5}
OPTIMIZER = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
MOMENTUM, ALPHA = 0.995, 0.4
CLIP, CLIPPED_STEPS = 1.0, 3
SHOWN = (1, 10, 20)
"""After how many steps gradients, parameters and momentum copies are summed up."""
FIRST = 8
LEAST_MARGIN = 1e-4
COMPARED = ("itc", "itm", "lm", "total", "gradient_norm", "temperature")
DATA_SEED, WEIGHT_SEED, QUEUE_SEED = 7, 1, 3


def learning_rate(epoch, step):
    """Of a step in an epoch, both from 0: `warmup_lr_schedule` in the first epoch, `step_lr_schedule` by epoch after it."""
    if epoch == 0:
        part = SCHEDULE["warm_up_from"] + (SCHEDULE["initial"] - SCHEDULE["warm_up_from"]) * step / SCHEDULE["warm_up_steps"]
        return min(SCHEDULE["initial"], part)
    return max(SCHEDULE["least"], SCHEDULE["initial"] * SCHEDULE["decay_rate"] ** epoch)


def alpha(epoch, step):
    """The share of the momentum model's opinion, ramped over two epochs: `pretrain.py`, `train`."""
    return ALPHA * min(1.0, (epoch * STEPS_PER_EPOCH + step) / (2 * STEPS_PER_EPOCH))


def make_batches():
    """The batches of every epoch: bytes `[steps, B, S, S, 3]`, ids `[steps, B, L]`, lengths `[steps, B]`."""
    generator = torch.Generator().manual_seed(DATA_SEED)
    side = SIZES.image
    pictures = torch.randint(0, 256, (STEPS_PER_EPOCH, BATCH, side, side, 3), generator=generator, dtype=torch.uint8)
    texts = [pretraining.random_texts(SIZES, BATCH, LENGTH, SHORTEST, generator) for _ in range(STEPS_PER_EPOCH)]
    return pictures, torch.stack([ids for ids, _ in texts]), torch.stack([lengths for _, lengths in texts])


def margin(weights, draws):
    """How near the nearest draw comes to an edge between two samples, as a share of the total."""
    running = weights.double().cumsum(dim=1)
    return ((running - draws[:, None] * running[:, -1:]).abs() / running[:, -1:]).min().item()


def summary(tensors):
    """`[N, 2 + FIRST]` in float64: sum, L2 norm, first values (zeros where there are fewer)."""
    rows = []
    for tensor in tensors:
        values = tensor.detach().double().flatten()
        first = torch.zeros(FIRST, dtype=torch.float64)
        first[: min(FIRST, len(values))] = values[:FIRST]
        rows.append(torch.cat([torch.stack([values.sum(), values.norm()]), first]))
    return torch.stack(rows)


def start(dtype):
    """A fresh training: the same weights and queues in any element type."""
    model = pretraining.fill(Blip(SIZES), WEIGHT_SEED).to(dtype)
    model.shows_all = True
    queues = [queue.to(dtype) for queue in pretraining.random_queues(SIZES, QUEUE_SEED)]
    return Training(model, queues, MOMENTUM, lr=SCHEDULE["initial"], **OPTIMIZER)


def run(seed, dtype, steps, clip=None):
    """`steps` steps: the entry of each for the json, and arrays by name."""
    training, (pictures, ids, lengths) = start(dtype), make_batches()
    parameters, entries, arrays = dict(training.model.named_parameters()), [], {}
    for index in range(steps):
        epoch, step = divmod(index, STEPS_PER_EPOCH)
        draws = pretraining.chances(seed, index, BATCH)
        batch = (pretraining.normalise(pictures[step], dtype), ids[step], lengths[step])
        settings = {"alpha": alpha(epoch, step), "learning_rate": learning_rate(epoch, step)}
        *losses, seen, norm = training.step(batch, settings["alpha"], draws, settings["learning_rate"], clip=clip or float("inf"))
        temperature = training.model.temp.item()
        if index + 1 in SHOWN or index + 1 == steps:
            arrays[f"step-{index + 1}/gradient"] = summary(parameter.grad for parameter in parameters.values())
        if index == 0:
            arrays |= {f"step-1/gradients/{name}": parameter.grad.clone() for name, parameter in parameters.items()}
            arrays |= {f"step-1/{name}": value.clone() for name, value in seen.items() if value.is_floating_point()}
        training.update()
        if index + 1 in SHOWN or index + 1 == steps:
            arrays[f"step-{index + 1}/parameter"] = summary(parameters.values())
            arrays[f"step-{index + 1}/momentum"] = summary(copy for copy, _ in training.pairs)
            arrays[f"step-{index + 1}/image_queue"] = training.queues[0].clone()
            arrays[f"step-{index + 1}/text_queue"] = training.queues[1].clone()
        names = ("itc", "itm", "lm")
        entry = {"step": index, "epoch": epoch, **settings, "temperature": temperature}
        entry |= {name: loss.item() for name, loss in zip(names, losses)} | {"total": sum(losses).item(), "gradient_norm": norm.item()}
        entry |= {"negative_images": seen["negative_images"].tolist(), "negative_texts": seen["negative_texts"].tolist()}
        entry["margin"] = min(margin(seen["image_weights"], draws[0]), margin(seen["text_weights"], draws[1]))
        entries.append(entry | {"queue_pointer": training.pointer})
    arrays |= {f"step-{steps}/parameters/{name}": parameter.detach().clone() for name, parameter in parameters.items()}
    return entries, arrays


def find_seed(steps):
    """The first seed of which no draw is a near-tie."""
    for seed in range(1, 100):
        entries, arrays = run(seed, torch.float64, steps)
        if min(entry["margin"] for entry in entries) > LEAST_MARGIN:
            return seed, entries, arrays
    raise SystemExit("every seed has a near-tie")


def without_effect(names):
    """Parameters of which a part changes nothing, so that its gradient is zero but for rounding: a key bias moves all scores of a row alike."""
    whole = [name for name in names if name.endswith(".self.key.bias")]
    width = SIZES.vision_width
    return {name: None for name in whole} | {name: [width, 2 * width] for name in names if name.endswith("self_attn.qkv.bias")}


def strays(exact, other, names):
    """How far the float32 run is from the float64 run."""
    (entries, arrays), (entries_32, arrays_32) = exact, other
    for entry, entry_32 in zip(entries, entries_32, strict=True):
        assert entry["negative_images"] == entry_32["negative_images"] and entry["negative_texts"] == entry_32["negative_texts"]
    apart = {key: max(abs(a[key] - b[key]) for a, b in zip(entries, entries_32)) for key in COMPARED}
    skipped, steps = without_effect(names), EPOCHS * STEPS_PER_EPOCH
    for what, key in (("gradients at step 1", "step-1/gradients"), (f"parameters after step {steps}", f"step-{steps}/parameters")):
        apart[what], apart[f"{what}, without effect"] = 0.0, 0.0
        for name in names:
            difference = (arrays[f"{key}/{name}"] - arrays_32[f"{key}/{name}"]).abs().flatten()
            idle = torch.zeros_like(difference, dtype=torch.bool)
            if name in skipped:
                idle[slice(*(skipped[name] or (None,)))] = True
            for which, label in ((~idle, what), (idle, f"{what}, without effect")):
                apart[label] = max([apart[label], *difference[which].tolist()])
    for step in SHOWN:
        for queue in ("image_queue", "text_queue"):
            key = f"step-{step}/{queue}"
            apart["queues"] = max(apart.get("queues", 0.0), (arrays[key] - arrays_32[key]).abs().max().item())
    return apart


def check_transformers():
    """The model against transformers' own classes with the same weights: image states, texts, matching, captioning loss."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval

    vision = {"hidden_size": SIZES.vision_width, "num_hidden_layers": SIZES.vision_layers, "num_attention_heads": SIZES.vision_heads}
    vision |= {"intermediate_size": SIZES.vision_feed_forward, "image_size": SIZES.image, "patch_size": SIZES.patch, "layer_norm_eps": SIZES.vision_eps}
    text = {"hidden_size": SIZES.text_width, "num_hidden_layers": SIZES.text_layers, "num_attention_heads": SIZES.text_heads}
    text |= {"intermediate_size": SIZES.text_feed_forward, "vocab_size": SIZES.vocabulary, "max_position_embeddings": SIZES.positions}
    text |= {"layer_norm_eps": SIZES.text_eps, "pad_token_id": SIZES.pad, "bos_token_id": SIZES.decoder_start, "sep_token_id": SIZES.separator, "label_smoothing": 0.1}
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=SIZES.projection)
    model = pretraining.fill(Blip(SIZES), WEIGHT_SEED).double().eval()
    weights = model.state_dict()
    weights["text_decoder.cls.predictions.decoder.weight"] = weights["text_encoder.embeddings.word_embeddings.weight"]
    weights["text_decoder.cls.predictions.decoder.bias"] = weights["text_decoder.cls.predictions.bias"]
    pictures, ids, lengths = make_batches()
    pixels, ids, lengths = pretraining.normalise(pictures[0], torch.float64), ids[0], lengths[0]
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()

    def load(kind):
        theirs = kind(config).double().eval()
        wanted = theirs.state_dict()
        theirs.load_state_dict({name: weights[name] if name in weights else tensor for name, tensor in wanted.items()}, strict=True)
        unknown = [name for name in wanted if name not in weights and "position_ids" not in name]
        assert not unknown, f"transformers has other names: {unknown}"
        return theirs

    def near(what, ours, theirs):
        apart = (ours - theirs).abs().max().item()
        print(f"{what}: {apart:.1e} apart")
        assert apart < 1e-10, what

    matcher, captioner = load(BlipForImageTextRetrieval), load(BlipForConditionalGeneration)
    with torch.no_grad():
        image, image_feature, text_feature = model.features(pixels, ids, lengths)
        near("image states", image, matcher.vision_model(pixel_values=pixels).last_hidden_state)
        near("similarities", image_feature @ text_feature.t(), matcher(ids, pixels, attention_mask=mask, use_itm_head=False).itm_score)
        order = torch.arange(BATCH)
        marked = pretraining.start_with(ids, SIZES.encoder_start)
        near("matching", model.itm(ids, lengths, image, order, order)[1][:BATCH], matcher(marked, pixels, attention_mask=mask).itm_score)
        marked = pretraining.start_with(ids, SIZES.decoder_start)
        labels = marked.masked_fill(marked == SIZES.pad, -100)
        theirs = captioner.text_decoder(input_ids=marked, attention_mask=mask, encoder_hidden_states=image, labels=labels)
        loss, logits = model.lm(ids, lengths, image)
        valid = mask[:, :-1].bool()
        near("captioning logits", logits[valid], theirs.logits[:, :-1][valid])
        near("captioning loss", loss, theirs.loss)


def document(seed, entries, clipped, names, momentum_names, apart):
    _, ids, lengths = make_batches()
    settings = {"batch": BATCH, "momentum": MOMENTUM, "alpha": ALPHA, "epochs": EPOCHS, "steps_per_epoch": STEPS_PER_EPOCH, "seed": seed}
    settings |= {"schedule": SCHEDULE, "optimizer": OPTIMIZER, "label_smoothing": 0.1, "negative_floor": pretraining.LEAST_CHANCE}
    settings["temperature"] = {"initial": 0.07, "lowest": pretraining.LOWEST_TEMPERATURE, "highest": pretraining.HIGHEST_TEMPERATURE}
    batches = [{"ids": rows, "lengths": sizes} for rows, sizes in zip(ids.tolist(), lengths.tolist())]
    return {
        "torch": torch.__version__.split("+")[0],
        "sizes": SIZES.as_dict(),
        "settings": settings,
        "parameters": names,
        "momentum": momentum_names,
        "without_effect": without_effect(names),
        "float32_apart": apart,
        "steps": entries,
        "clipped": {"max_norm": CLIP, "steps": clipped},
        "batches": batches,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "goldens")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check:
        return check_transformers()

    steps = EPOCHS * STEPS_PER_EPOCH
    seed, *exact = find_seed(steps)
    single = run(seed, torch.float32, steps)
    training, (pictures, _, _) = start(torch.float64), make_batches()
    names = [name for name, _ in training.model.named_parameters()]
    momentum_names = [name for name, _ in training.momentum.named_parameters()]
    apart = strays(exact, single, names)
    dtype = torch.float32 if arguments.float32 else torch.float64
    entries, arrays = single if arguments.float32 else exact
    clipped, clipped_arrays = run(seed, dtype, CLIPPED_STEPS, CLIP)
    assert any(entry["gradient_norm"] > CLIP for entry in clipped), "nothing is clipped"

    arrays = dict(arrays)
    arrays |= {f"clipped/step-{CLIPPED_STEPS}/{what}": clipped_arrays[f"step-{CLIPPED_STEPS}/{what}"] for what in ("gradient", "parameter")}
    arrays |= {f"start/parameters/{name}": parameter.detach() for name, parameter in training.model.named_parameters()}
    arrays |= {"start/image_queue": training.queues[0], "start/text_queue": training.queues[1]}
    arrays = {name: tensor.to(torch.float32).contiguous() for name, tensor in arrays.items()}
    save_file(arrays | {"batches/pictures": pictures}, arguments.out / "tiny_blip.safetensors")

    text = readable.text(document(seed, entries, clipped, names, momentum_names, apart))
    (arguments.out / "tiny_blip.json").write_text(text, encoding="utf-8")
    print(readable.text({"seed": seed, "least margin": min(entry["margin"] for entry in entries), "float32_apart": apart}), end="")


if __name__ == "__main__":
    main()
