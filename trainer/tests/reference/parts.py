"""A tiny ViT and a tiny BERT as transformers saves them, and what they compute, to hold against the trainer's image encoder and text stack.

    python parts.py            writes ../goldens/parts

Made with Python 3.11, torch 2.15, transformers 5.23, safetensors 0.8. Weights are random. The BERT's token types are zero, since BLIP's texts have none.
`vit-timm.safetensors` is the same ViT under timm's names (transformers' `convert_vit_timm_to_pytorch.py`, the other way round), `bert-older.safetensors`
the same BERT with `gamma` and `beta`, as files before 2019 have them.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, ViTConfig, ViTModel

OUT = Path(__file__).parent.parent / "goldens" / "parts"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "dog", "##s", "on", "the", "grass"]


def randomise(model):
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            spread = 0.3 if tensor.dim() < 2 else 1.0 / tensor[0].numel() ** 0.5
            tensor.copy_(torch.randn(tensor.shape) * spread)
            if "norm" in name.lower() and name.endswith("weight"):
                tensor.add_(1.0)
    return model.eval()


def timm_name(name):
    for theirs, ours in [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("encoder.layer.", "blocks."),
        ("attention.attention.query", "attn.qkv"),
        ("attention.output.dense", "attn.proj"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        ("layernorm.", "norm."),
    ]:
        name = name.replace(theirs, ours)
    return name


def in_timms_names(state):
    renamed = {}
    for name, value in state.items():
        if re.search(r"attention\.(key|value)", name) or name.startswith("pooler"):
            continue
        if "attention.attention.query" in name:
            value = torch.cat([state[name.replace("query", part)] for part in ("query", "key", "value")])
        renamed[timm_name(name)] = value.contiguous()
    return renamed


@torch.no_grad()
def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.manual_seed(11)
    vit = randomise(ViTModel(ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, image_size=12, patch_size=4, layer_norm_eps=1e-6)))
    vit.save_pretrained(OUT / "vit")
    save_file(in_timms_names(load_file(OUT / "vit" / "model.safetensors")), OUT / "vit-timm.safetensors")
    bert = randomise(BertForPreTraining(BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, max_position_embeddings=10)))
    bert.bert.embeddings.token_type_embeddings.weight.zero_()
    bert.save_pretrained(OUT / "bert")
    (OUT / "bert" / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    older = load_file(OUT / "bert" / "model.safetensors")
    older = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value for name, value in older.items()}
    save_file(older, OUT / "bert-older.safetensors")
    pixels = torch.randn(1, 3, 12, 12)
    ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
    answers = bert(input_ids=ids, output_hidden_states=True)
    golden = {
        "pixels": pixels.flatten().tolist(),
        "image_states": vit(pixel_values=pixels).last_hidden_state.flatten().tolist(),
        "ids": ids.flatten().tolist(),
        "text_states": answers.hidden_states[-1].flatten().tolist(),
        "logits": answers.prediction_logits.flatten().tolist(),
    }
    (OUT / "answers.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
