"""Makes every golden in this folder again: `python make.py`, in an environment with `requirements.txt`.

README.md says what each file is. `python make.py --try-seeds tiny-a 20` lists seeds whose answers are worth keeping.
"""

import argparse
import copy
import json
import os
import re
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import torch
import transformers
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import BertTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

import answers
import authors
import families

transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
torch.set_grad_enabled(False)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PICTURES = ["squares-61x47", "waves-33x90", "grey-150x21", "dots-13x17"]
STARTER_SCENES = ["tests/goldens/starter/held-out/000.png", "tests/goldens/starter/held-out/003.png", "tests/goldens/starter/held-out/017.png"]
STARTER_TEXTS = ["a car at night", "three buses on grass", "two bears on sand", "an owl", "a zebra on the moon"]
RESIZED = [16, 32]


def draw_pictures():
    """Four small pictures of odd sizes; one is grey."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    random = numpy.random.default_rng(7)
    for name in PICTURES:
        kind, size = name.split("-")
        width, height = (int(side) for side in size.split("x"))
        y, x = numpy.mgrid[0:height, 0:width]
        if kind == "squares":
            picture = Image.new("RGB", (width, height), (200, 30, 40))
            draw = ImageDraw.Draw(picture)
            for _ in range(9):
                left, top, side = (int(value) for value in (*random.integers(0, 45, 2), random.integers(4, 20)))
                draw.rectangle((left, top, left + side, top + side), tuple(int(v) for v in random.integers(0, 256, 3)))
        elif kind == "waves":
            channels = [128 + 127 * numpy.sin(x / (3 + c) + y / (5 - c)) for c in range(3)]
            picture = Image.fromarray((numpy.stack(channels, -1) * [0.3, 0.6, 1.0]).astype(numpy.uint8))
        elif kind == "grey":
            picture = Image.fromarray(((x * 255 // width + 60 * (y % 7 == 0)) % 256).astype(numpy.uint8))
        else:
            picture = Image.fromarray(random.integers(0, 256, (height, width, 3)).astype(numpy.uint8) // numpy.array([4, 1, 3], dtype=numpy.uint8))
        picture.save(folder / f"{name}.png")


def pixels(processor, path):
    """`[1, 3, S, S]`, checked against Pillow's resize written out."""
    picture = Image.open(path)
    values = processor(picture, return_tensors="pt").pixel_values
    side = values.shape[-1]
    plain = numpy.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), dtype=numpy.float64) / 255.0
    plain = (plain - processor.image_mean) / processor.image_std
    assert numpy.abs(plain.transpose(2, 0, 1) - values[0].numpy()).max() < 1e-5, path
    return values


def answer(role, model, tokenizer, processor, pictures, prompt, texts, questions, encoder_start):
    """Every golden of one model: `(picture entries, arrays)`."""
    entries, arrays = [], {}
    dtype = next(model.parameters()).dtype
    for path in pictures:
        key = Path(path).stem
        values = pixels(processor, ROOT / path).to(dtype)
        arrays[f"{key}/pixel_values"] = values[0]
        if role == "captioner":
            entry = answers.captioner(model, tokenizer, values, prompt, arrays, key)
        elif role == "matcher":
            entry = answers.matcher(model, tokenizer, values, texts, encoder_start, arrays, key)
        else:
            entry = answers.answerer(model, tokenizer, values, questions, encoder_start, arrays, key)
        entries.append({"picture": path, "key": key, **entry})
    return entries, arrays


def token_ids(entries):
    """Every sequence of ids in `entries`, in order."""
    runs = [run for entry in entries for run in entry.get("runs", [])]
    runs += [run for entry in entries for question in entry.get("questions", []) for run in question["runs"]]
    return [[sequence["ids"] for sequence in run["sequences"]] for run in runs]


def disturbed(model, noise):
    """`model` in float64, each weight off by `noise` of itself: an answer that changes under it hangs on a near-tie."""
    model = copy.deepcopy(model).to(torch.float64)
    model.tie_weights()
    generator = torch.Generator().manual_seed(3)
    for tensor in model.parameters():
        tensor.mul_(1 + noise * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return model


def write(folder, name, checkpoint, role, entries, arrays, encoder_start, class_token):
    document = {
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "checkpoint": checkpoint,
        "role": role,
        "encoder_tokens": {"CLS": class_token, "ENC": encoder_start},
        "arrays": f"{name}.safetensors",
        "pictures": entries,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    save_file({key: value.to(torch.float32).contiguous() for key, value in arrays.items()}, folder / f"{name}.safetensors")


def make_family(family):
    folder = HERE / family.name
    shutil.rmtree(folder, ignore_errors=True)
    pictures = [f"tests/goldens/pictures/{name}.png" for name in PICTURES]
    for role in family.seeds:
        model = family.save(role, folder / role)
        tokenizer = BertTokenizer.from_pretrained(folder / role)
        processor = BlipImageProcessorPil.from_pretrained(folder / role)
        inputs = (tokenizer, processor, pictures, family.prompt, family.texts, family.questions, family.id("[ENC]"))
        entries, arrays = answer(role, model, *inputs)
        for noise in (0.0, 3e-5):
            again, _ = answer(role, disturbed(model, noise), *inputs)
            assert token_ids(again) == token_ids(entries), f"{family.name} {role}: an answer hangs on a near-tie"
        write(folder, role, f"tests/goldens/{family.name}/{role}", role, entries, arrays, family.id("[ENC]"), family.id("[CLS]"))
        print(family.name, role, sum(file.stat().st_size for file in (folder / role).iterdir()), "bytes")
    if family.name == "tiny-a":
        make_other_formats(family, folder)
        make_resized(family, folder)
    if family.name == "tiny-b":
        family.save("captioner", folder / "captioner-sharded", max_shard_size="100KB")


def make_other_formats(family, folder):
    """The captioner as `.bin`, and as the authors' `.pth` in both of PyTorch's file formats."""
    model = family.build("captioner")
    binary = folder / "captioner-bin"
    shutil.copytree(folder / "captioner", binary, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.save(authors.published_state(model), binary / "pytorch_model.bin")
    pth = folder / "captioner-pth"
    pth.mkdir()
    shutil.copy(folder / "captioner" / "vocab.txt", pth)
    authors.save_on_gpu(authors.authors_checkpoint(model), pth / "zip.pth", zip_file=True)
    authors.save_on_gpu(authors.authors_checkpoint(model), pth / "legacy.pth", zip_file=False)


def make_resized(family, folder):
    """Image features at other image sizes than the trained one, by interpolating the position table."""
    model = family.build("captioner")
    arrays = {}
    for side in RESIZED:
        processor = BlipImageProcessorPil(size={"height": side, "width": side})
        for name in PICTURES[:2]:
            values = pixels(processor, HERE / "pictures" / f"{name}.png")
            states = model.vision_model(pixel_values=values, interpolate_pos_encoding=True).last_hidden_state
            arrays[f"{side}/{name}/pixel_values"] = values[0]
            arrays[f"{side}/{name}/image_features"] = states[0]
        tokens = (side // family.vision["patch_size"]) ** 2 + 1
        blank = torch.zeros(1, tokens, family.vision["hidden_size"])
        arrays[f"{side}/position_embedding"] = model.vision_model.embeddings.interpolate_pos_encoding(blank, side, side)[0]
    save_file({key: value.contiguous().clone() for key, value in arrays.items()}, folder / "resized.safetensors")


def make_starter():
    examples = sorted((ROOT / "examples/images").glob("*.png"))
    pictures = STARTER_SCENES + [str(path.relative_to(ROOT)) for path in examples]
    for role in ("captioner", "matcher"):
        checkpoint = f"models/starter/{role}"
        model = families.CLASSES[role].from_pretrained(ROOT / checkpoint).eval()
        tokenizer = BertTokenizer.from_pretrained(ROOT / checkpoint)
        processor = BlipImageProcessorPil.from_pretrained(ROOT / checkpoint)
        words = (ROOT / checkpoint / "vocab.txt").read_text().split()
        inputs = (tokenizer, processor, pictures, "a picture of", STARTER_TEXTS, [], words.index("[ENC]"))
        entries, arrays = answer(role, model, *inputs)
        again, _ = answer(role, disturbed(model, 3e-5), *inputs)
        for before, after in zip(token_ids(entries), token_ids(again)):
            if before != after:
                print("starter: near-tie", before, after)
        write(HERE / "starter", role, checkpoint, role, entries, arrays, words.index("[ENC]"), words.index("[CLS]"))
        print("starter", role)


def try_seeds(name, count):
    """Prints the seeds whose captions differ between pictures, end by themselves somewhere and hang on no near-tie."""
    family = next(family for family in families.FAMILIES if family.name == name)
    pictures = [f"tests/goldens/pictures/{name}.png" for name in PICTURES]
    for seed in range(count):
        family.seeds = dict.fromkeys(family.seeds, seed)
        scratch = HERE / "scratch"
        verdicts = {}
        for role in family.seeds:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            tokenizer, model = family.tokenizer(scratch), family.build(role)
            inputs = (tokenizer, family.processor(), pictures, family.prompt, family.texts, family.questions, family.id("[ENC]"))
            entries, _ = answer(role, model, *inputs)
            ids = token_ids(entries)
            verdicts[role] = {
                "distinct": f"{len({str(row) for row in ids})}/{len(ids)}",
                "ended": sum(row[0][-1] == family.id("[SEP]") for row in ids),
                "words": len({word for row in ids for word in row[0]}),
                "steady": token_ids(answer(role, disturbed(model, 3e-5), *inputs)[0]) == ids,
            }
            if role == "matcher":
                texts = [row for entry in entries for row in entry["texts"]]
                verdicts[role] = {key: [round(min(r[key] for r in texts), 3), round(max(r[key] for r in texts), 3)] for key in ("itm_cls", "itm_enc", "itc")}
        print(seed, json.dumps(verdicts), flush=True)
        shutil.rmtree(scratch)


def open_to_all():
    """safetensors writes files that only their owner may read."""
    for path in HERE.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try-seeds", nargs=2, metavar=("FAMILY", "COUNT"))
    arguments = parser.parse_args()
    draw_pictures()
    if arguments.try_seeds:
        return try_seeds(arguments.try_seeds[0], int(arguments.try_seeds[1]))
    for family in families.FAMILIES:
        make_family(family)
    make_starter()
    open_to_all()


if __name__ == "__main__":
    sys.exit(main())
