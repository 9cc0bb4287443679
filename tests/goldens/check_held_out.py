"""Compares starter/held-out.json with what transformers answers here: `python check_held_out.py`."""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from PIL import Image
from transformers import BertTokenizer, BlipForConditionalGeneration, BlipForImageTextRetrieval
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent
STARTER = HERE.parent.parent / "models/starter"


@torch.no_grad()
def main():
    captioner = BlipForConditionalGeneration.from_pretrained(STARTER / "captioner").eval()
    matcher = BlipForImageTextRetrieval.from_pretrained(STARTER / "matcher").eval()
    tokenizer = BertTokenizer.from_pretrained(STARTER / "matcher")
    processor = BlipImageProcessorPil.from_pretrained(STARTER / "captioner")
    scenes = json.loads((HERE / "starter/held-out.json").read_text())
    pad, encoder_start = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("[ENC]")
    equal = {"greedy_ids": 0, "beam3_ids": 0}
    furthest = {}
    for scene in scenes:
        pixel_values = processor(Image.open(HERE / "starter/held-out" / scene["file"]), return_tensors="pt").pixel_values
        for name, beams in (("greedy_ids", 1), ("beam3_ids", 3)):
            ids = captioner.generate(pixel_values, max_length=20, num_beams=beams)[0].tolist()
            equal[name] += [token for token in ids if token != pad] == scene[name]
        for which in ("truth", "wrong"):
            ids = tokenizer(scene[which], return_tensors="pt").input_ids
            marked = ids.clone()
            marked[:, 0] = encoder_start
            values = {
                "itm_cls": matcher(ids, pixel_values).itm_score.softmax(-1)[0, 1],
                "itm_enc": matcher(marked, pixel_values).itm_score.softmax(-1)[0, 1],
                "itc": matcher(ids, pixel_values, use_itm_head=False).itm_score[0, 0],
            }
            for name, value in values.items():
                key = f"{name}_{which}"
                furthest[key] = max(furthest.get(key, 0.0), abs(value.item() - scene[key]))
    print(f"{len(scenes)} scenes; equal: {equal}; furthest apart: {furthest}")


if __name__ == "__main__":
    main()
