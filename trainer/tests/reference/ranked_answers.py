"""Writes goldens/ranked_answers.json: which answer of a list the authors' `rank_answer` gives for tiny-b's answerer.

The method is written from salesforce/BLIP `models/blip_vqa.py`, the model is transformers'. Run with
`torch==2.15.0 transformers==5.23.0 pillow`.
"""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from PIL import Image
from transformers import BertTokenizer, BlipForQuestionAnswering
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

HERE = Path(__file__).resolve().parent
GOLDENS = HERE.parents[2] / "tests/goldens"
FOLDER = GOLDENS / "tiny-b/answerer"
QUESTIONS = ["how many cats", "where is the red boat ?", "what is in the picture?"]
SMOOTHING = 0.1


def summed_losses(logits, ids, pad):
    labels = ids.masked_fill(ids == pad, -100)
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="none", label_smoothing=SMOOTHING
    )
    return loss.view(len(ids), -1).sum(1)


@torch.no_grad()
def main():
    model = BlipForQuestionAnswering.from_pretrained(FOLDER).eval()
    tokenizer = BertTokenizer.from_pretrained(FOLDER)
    processor = BlipImageProcessorPil.from_pretrained(FOLDER)
    start, encoder_start = tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"])
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    answers = ["two red cats on a boat"] + sorted(words)[::5] + ["a red boat", "two cats"]
    rows = tokenizer(answers, padding=True, return_tensors="pt").input_ids
    rows[:, 0] = start
    found = []
    for name in sorted(path.name for path in (GOLDENS / "pictures").glob("*.png")):
        pixels = processor(Image.open(GOLDENS / "pictures" / name), return_tensors="pt").pixel_values
        image = model.vision_model(pixels).last_hidden_state
        for question in QUESTIONS:
            ids = tokenizer(question, return_tensors="pt").input_ids
            ids[:, 0] = encoder_start
            states = model.text_encoder(ids, encoder_hidden_states=image).last_hidden_state
            first = model.text_decoder(rows[:1, :1], encoder_hidden_states=states).logits[0, 0]
            for k in (1, 3, len(answers)):
                chosen = first.softmax(-1)[rows[:, 1]].topk(k).indices
                ids = rows[chosen]
                mask = (ids != tokenizer.pad_token_id).long()
                logits = model.text_decoder(ids, attention_mask=mask, encoder_hidden_states=states.repeat(k, 1, 1)).logits
                losses = summed_losses(logits, ids, tokenizer.pad_token_id)
                best = losses.argmin()
                answer = {"best": chosen[best].item(), "loss": losses[best].item()}
                found.append({"picture": name, "question": question, "read": k, **answer})
    out = {"torch": torch.__version__, "transformers": transformers.__version__, "answers": answers, "found": found}
    (HERE.parent / "goldens/ranked_answers.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
