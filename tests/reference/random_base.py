"""Makes a full-size BLIP captioner with random weights, as a Hugging Face folder.

    python random_base.py OUT [--vocab vocab.txt] [--seed 0]

Sizes are `BlipConfig`'s defaults with 12 text heads, as the published base checkpoints have (the default says 8): 384 pixels,
patch 16, 12 layers of width 768 on both sides, 30,524 words. Every matrix is normal with standard deviation 0.02, layer norms are one and
biases zero. `--vocab` is bert-base-uncased's vocab.txt (30,522 lines); without it a vocabulary of made-up words takes its place,
with `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]` at BERT's ids. `[DEC]` and `[ENC]` are appended to either.
"""

import argparse
from pathlib import Path

import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

BERT_SPECIALS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
BERT_SIZE = 30522


def vocabulary(path):
    if path is None:
        words = [BERT_SPECIALS.get(i, f"word{i}") for i in range(BERT_SIZE)]
    else:
        words = Path(path).read_text(encoding="utf-8").splitlines()
    if len(words) != BERT_SIZE:
        raise SystemExit(f"{path} has {len(words)} lines, expected {BERT_SIZE}")
    return words + ["[DEC]", "[ENC]"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    words = vocabulary(arguments.vocab)
    arguments.out.mkdir(parents=True)
    config = BlipConfig(text_config={"num_attention_heads": 12}, vision_config={"image_size": 384})
    with torch.device("meta"):
        model = BlipForConditionalGeneration(config)
    model = model.to_empty(device="cpu").eval()
    model.tie_weights()
    generator = torch.Generator().manual_seed(arguments.seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.dim() > 1:
                tensor.normal_(0.0, 0.02, generator=generator)
            elif name.endswith("weight"):
                tensor.fill_(1.0)
            else:
                tensor.zero_()
    model.save_pretrained(arguments.out)

    (arguments.out / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(arguments.out / "vocab.txt"), bos_token="[DEC]", extra_special_tokens=["[ENC]"])
    tokenizer.save_pretrained(arguments.out)
    BlipImageProcessorPil().save_pretrained(arguments.out)
    count = sum(tensor.numel() for tensor in model.parameters())
    print(f"{arguments.out}: {count:,} parameters")


if __name__ == "__main__":
    main()
