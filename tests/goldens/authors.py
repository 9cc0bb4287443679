"""One captioner in the authors' own file formats."""

from collections import OrderedDict

import torch

VISION_NAMES = [
    ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
    ("vision_model.post_layernorm", "visual_encoder.norm"),
    ("vision_model.encoder.layers", "visual_encoder.blocks"),
    ("self_attn.projection", "attn.proj"),
    ("self_attn", "attn"),
    ("layer_norm", "norm"),
]


def authors_name(name):
    """Hugging Face's name of a tensor -> the authors'. Text names are the same in both.

    Source: transformers, `convert_blip_original_pytorch_to_hf.py`, `rename_key`.
    """
    if name.startswith("vision_model."):
        for theirs, authors in VISION_NAMES:
            name = name.replace(theirs, authors)
    return name


def published_state(model):
    """The state dict of a published Hugging Face `.bin`: tied tensors and the position ids included."""
    state = model.state_dict()
    positions = model.config.text_config.max_position_embeddings
    state["text_decoder.bert.embeddings.position_ids"] = torch.arange(positions).expand((1, -1))
    return state


def authors_checkpoint(model):
    """What the authors' training saves, with all that an exporter must skip by name.

    Source: BLIP `train_caption.py` and `pretrain.py`, `save_obj`.
    """
    state = OrderedDict((authors_name(name), tensor) for name, tensor in published_state(model).items())
    state._metadata = OrderedDict({"": {"version": 1}})
    state["temp"] = torch.tensor(0.07)
    state["image_queue"] = torch.full((16, 3), 0.25)
    state["text_queue"] = torch.full((16, 3), -0.25)
    state["queue_ptr"] = torch.zeros(1, dtype=torch.long)
    state["visual_encoder_m.cls_token"] = state["visual_encoder.cls_token"].clone()
    state["visual_encoder_m.norm.weight"] = state["visual_encoder.norm.weight"].clone()
    optimizer = {
        "state": {0: {"step": 7, "exp_avg": torch.zeros(3, 2), "exp_avg_sq": torch.ones(3, 2)}},
        "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05, "amsgrad": False, "params": [0]}],
    }
    config = {"image_root": "coco/images/", "vit": "base", "vit_grad_ckpt": False, "image_size": 24, "init_lr": 1e-5, "min_lr": 0, "prompt": "a picture of "}
    return {"model": state, "optimizer": optimizer, "config": config, "epoch": 4}


def save_on_gpu(value, path, zip_file):
    """Saves as from a GPU: every storage says `cuda:0`, as in the authors' files."""
    location_tag = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    try:
        torch.save(value, path, _use_new_zipfile_serialization=zip_file)
    finally:
        torch.serialization.location_tag = location_tag
