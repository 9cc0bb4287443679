"""What transformers answers with checkpoints in its own layout, to hold a folder that the trainer wrote against the one that it read.

    python hf_round_trip.py load DIR [--pixels FILE]           prints the answers of DIR as json
    python hf_round_trip.py compare ORIGINAL WRITTEN [--pixels FILE] [--exact]
    python hf_round_trip.py make DIR [--seed N]                random tiny captioner, matcher and answerer in DIR

DIR has some of the folders `captioner/`, `matcher/`, `answerer/`, as `tests/goldens/tiny-b` has. FILE is a safetensors file with `KEY/pixel_values`
`[3, S, S]`, as the goldens beside the tiny models are; without it, pixel values are random, seeded by the image size.

Loading is strict: a key that is missing, unexpected or of another shape ends the program with 1, and so does a tokenizer or a preprocessor that
transformers cannot read. `compare` also ends with 1 where ids differ, a number is more than 1e-5 apart, or, with `--exact`, any weight differs at all.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

import readable

ROLES = {"captioner": BlipForConditionalGeneration, "matcher": BlipForImageTextRetrieval, "answerer": BlipForQuestionAnswering}
TEXTS = ["a red cat near the house", "two birds!", "water", "the boats under a tree"]
QUESTIONS = ["what is in the picture?", "how many cats"]
CLOSE = 1e-5
LONGEST = 16
FINE_TO_MISS = ("position_ids",)
"""Buffers, not weights."""


def fail(message):
    raise SystemExit(message)


def load(folder, role):
    """The model in `folder`, every key accounted for, and the loading report."""
    config = BlipConfig.from_pretrained(folder)
    if role == "answerer" and config.vision_config.hidden_size != config.text_config.hidden_size:
        model, info = load_two_widths(folder, config)
    else:
        model, info = ROLES[role].from_pretrained(folder, output_loading_info=True)
    info = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(info.values()):
        fail(f"{folder}: {json.dumps(info)}")
    return model.eval(), info


def load_two_widths(folder, config):
    """An answerer whose decoder reads question states of another width than the image's: transformers builds that decoder only by hand."""
    model = BlipForQuestionAnswering(config)
    text = type(config.text_config)(**{**config.text_config.to_dict(), "encoder_hidden_size": config.text_config.hidden_size})
    model.text_decoder = BlipTextLMHeadModel(text)
    model.tie_weights()
    given, wanted = load_file(Path(folder) / "model.safetensors"), model.state_dict()
    tied = [name for name in wanted if name.startswith("text_decoder.cls.predictions.decoder.")]
    missing = [name for name in wanted if name not in given and name not in tied and not name.endswith(FINE_TO_MISS)]
    mismatched = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    info = {"missing_keys": missing, "unexpected_keys": [name for name in given if name not in wanted], "mismatched_keys": mismatched}
    if not any(info.values()):
        model.load_state_dict(given, strict=False)
        model.tie_weights()
    return model, info


def pictures(path, side):
    """Pixel values `[1, 3, S, S]` by key."""
    if path is None:
        return {"random": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(side))}
    return {name.split("/")[0]: value[None] for name, value in load_file(path).items() if name.endswith("/pixel_values")}


def encoder_token(tokenizer, config):
    """The id of `[ENC]`: the tokenizer's, or the last row of the word embedding."""
    token = tokenizer.convert_tokens_to_ids("[ENC]")
    unknown = token is None or token == tokenizer.unk_token_id
    return config.vocab_size - 1 if unknown else token


def captions(model, pixels):
    image = model.vision_model(pixel_values=pixels).last_hidden_state
    begin = torch.tensor([[model.config.text_config.bos_token_id]])
    logits = model.text_decoder(input_ids=begin, encoder_hidden_states=image).logits[0, 0]
    runs = {f"beam-{beams}": model.generate(pixel_values=pixels, num_beams=beams, max_length=LONGEST)[0].tolist() for beams in (1, 3)}
    return {"ids": runs, "numbers": {"first_logits": logits.tolist(), "image_state": image[0, 0].tolist()}}


def matches(model, pixels, tokenizer):
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt").input_ids
        marked = ids.clone()
        marked[:, 0] = encoder_token(tokenizer, model.config.text_config)
        numbers = {"itm_cls": model(ids, pixels).itm_score[0].tolist(), "itm_enc": model(marked, pixels).itm_score[0].tolist()}
        numbers["itc"] = model(ids, pixels, use_itm_head=False).itm_score[0].tolist()
        rows.append({"ids": ids[0].tolist(), "numbers": numbers})
    return rows


def answers(model, pixels, tokenizer):
    rows = []
    for question in QUESTIONS:
        ids = tokenizer(question, return_tensors="pt").input_ids
        marked = ids.clone()
        marked[:, 0] = encoder_token(tokenizer, model.config.text_config)
        for given in (ids, marked):
            image = model.vision_model(pixel_values=pixels).last_hidden_state
            states = model.text_encoder(input_ids=given, encoder_hidden_states=image).last_hidden_state
            answer = model.generate(input_ids=given, pixel_values=pixels, max_length=LONGEST)[0].tolist()
            rows.append({"ids": {"question": given[0].tolist(), "answer": answer}, "numbers": {"first_state": states[0, 0].tolist()}})
    return rows


@torch.no_grad()
def ask(folder, pixels_file):
    """The answers of every role in `folder`, and its weights by role."""
    found, weights = {}, {}
    for role in ROLES:
        place = Path(folder) / role
        if not place.is_dir():
            continue
        model, info = load(place, role)
        tokenizer = AutoTokenizer.from_pretrained(place)
        side = model.config.vision_config.image_size
        processor = BlipImageProcessorPil.from_pretrained(place)
        if dict(processor.size) != {"height": side, "width": side}:
            fail(f"{place}: the preprocessor makes {dict(processor.size)}, the model reads {side}")
        entry = {"loading": info, "parameters": sum(parameter.numel() for parameter in model.parameters()), "pictures": {}}
        for key, pixels in pictures(pixels_file, side).items():
            entry["pictures"][key] = {
                "captioner": lambda: captions(model, pixels),
                "matcher": lambda: matches(model, pixels, tokenizer),
                "answerer": lambda: answers(model, pixels, tokenizer),
            }[role]()
        found[role], weights[role] = entry, model.state_dict()
    if not found:
        fail(f"{folder}: none of {', '.join(ROLES)} is there")
    return {"transformers": transformers.__version__, "roles": found}, weights


def differences(ours, theirs, place=""):
    """`(place, how far apart)` of everything that differs; infinity where it is not a number."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for key in ours:
            yield from differences(ours[key], theirs[key], f"{place}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{place}/{index}")
    elif isinstance(ours, float) and isinstance(theirs, float):
        yield place, abs(ours - theirs) / max(1.0, abs(ours))
    elif ours != theirs:
        yield place, float("inf")


def compare(original, written, pixels_file, exact):
    before, weights_before = ask(original, pixels_file)
    after, weights_after = ask(written, pixels_file)
    result = {"roles": {}}
    wrong = sorted(before["roles"].keys() ^ after["roles"].keys())
    for role in before["roles"].keys() & after["roles"].keys():
        apart = list(differences(before["roles"][role]["pictures"], after["roles"][role]["pictures"], role))
        wrong += [place for place, size in apart if not size <= CLOSE]
        pairs, other = weights_before[role], weights_after[role]
        changed = [name for name in pairs if name not in other or not torch.equal(pairs[name], other[name])]
        if exact:
            wrong += [f"{role}: {name}" for name in changed]
        result["roles"][role] = {"furthest": max((size for _, size in apart), default=0.0), "tensors": len(pairs), "changed_tensors": changed}
    print(readable.text(result | {"wrong": wrong}), end="")
    sys.exit(1 if wrong else 0)


def make(folder, seed):
    """Random models of awkward sizes: other widths on both sides, other ids than BERT's."""
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"a red cat near the house two birds ! water boats under tree what is in picture ? how many ##s".split(), "[DEC]", "[ENC]"]
    text = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": len(words), "max_position_embeddings": 24}
    text |= {"bos_token_id": words.index("[DEC]"), "pad_token_id": words.index("[PAD]"), "sep_token_id": words.index("[SEP]"), "eos_token_id": 2}
    vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 56, "image_size": 20, "patch_size": 5, "layer_norm_eps": 1e-6}
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=12)
    for number, (role, kind) in enumerate(ROLES.items()):
        place = Path(folder) / role
        place.mkdir(parents=True)
        torch.manual_seed(seed + number)
        model = kind(config)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                spread = 0.2 if tensor.dim() < 2 else 1.3 / tensor[0].numel() ** 0.5
                tensor.copy_(torch.randn(tensor.shape) * spread + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0))
        model.save_pretrained(place)
        (place / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        BertTokenizer(str(place / "vocab.txt"), bos_token="[DEC]", extra_special_tokens=["[ENC]"]).save_pretrained(place)
        BlipImageProcessorPil(size={"height": 20, "width": 20}).save_pretrained(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    loading = commands.add_parser("load")
    loading.add_argument("folder", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("original", type=Path)
    comparing.add_argument("written", type=Path)
    comparing.add_argument("--exact", action="store_true")
    for command in (loading, comparing):
        command.add_argument("--pixels", type=Path)
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if arguments.command == "make":
        make(arguments.folder, arguments.seed)
    elif arguments.command == "compare":
        compare(arguments.original, arguments.written, arguments.pixels, arguments.exact)
    else:
        print(readable.text(ask(arguments.folder, arguments.pixels)[0]), end="")


if __name__ == "__main__":
    main()
