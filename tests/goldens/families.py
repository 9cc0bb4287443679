"""The tiny random models: their sizes, vocabularies and weights."""

import zlib
from dataclasses import dataclass, field

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

CLASSES = {
    "captioner": BlipForConditionalGeneration,
    "matcher": BlipForImageTextRetrieval,
    "answerer": BlipForQuestionAnswering,
}

WORDS = (
    "a an the of in on is what how many where cat dog bird tree car boat house red blue green small big "
    "two three one picture near sits runs , . ? ##s ##ing ##er under sky water"
).split()


EMBEDDING_SCALES = {"word_embeddings": 0.8, "text_": 1.6, "": 0.4}
"""Deviation of an embedding, by the first part that its name has: text positions are large, so that a caption is not one word over and over."""
GAINS = {"itm_head": 2.0, "crossattention.self.query": 2.0, "crossattention.output": 0.6, "attention.self.query": 2.5, "attention.output": 0.8, "intermediate": 2.0, "predictions": 1.5, "": 1.2}
"""Deviation of a matrix times the root of its inputs, likewise."""


@dataclass
class Family:
    """One set of sizes; a folder of checkpoints."""

    name: str
    seeds: dict
    """A seed for each role; these roles are the ones that are made."""
    vision: dict
    text: dict
    vocabulary: list
    """Every row of the word embedding."""
    vocabulary_in_files: int
    """How many of them the tokenizer files have."""
    projection_width: int
    shared: bool = False
    """Whether the roles have one image encoder, and share their text tensors but for self-attention, as a joint training leaves them."""
    bfloat16_values: bool = False
    """Whether weights are rounded to bfloat16 values (still stored as float32), so that the copies in git compress."""
    texts: list = field(default_factory=list)
    questions: list = field(default_factory=list)
    prompt: str = "a picture of"

    def id(self, token):
        return self.vocabulary.index(token)

    def config(self):
        text = {
            "vocab_size": len(self.vocabulary),
            "bos_token_id": self.id("[DEC]"),
            "sep_token_id": self.id("[SEP]"),
            "pad_token_id": self.id("[PAD]"),
            "eos_token_id": 2,
            "layer_norm_eps": 1e-12,
            **self.text,
        }
        return BlipConfig(text_config=text, vision_config=self.vision, image_text_hidden_size=self.projection_width)

    def build(self, role):
        """The model for `role`, with its weights."""
        config = self.config()
        model = CLASSES[role](config)
        if role == "answerer" and config.vision_config.hidden_size != config.text_config.hidden_size:
            model.text_decoder = question_reading_decoder(config)
        model.tie_weights()
        for name, tensor in model.named_parameters():
            self.fill(role, name, tensor.data)
        return model.eval()

    def fill(self, role, name, tensor):
        """Weights are normal, seeded by family and name; large enough that logits, positions and pictures all matter."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seeds[role]}:{self.key(role, name)}".encode()))
        values = torch.randn(tensor.shape, generator=generator)
        if "norm" in name.lower() or "LayerNorm" in name:
            values = values * 0.2 + (1.0 if name.endswith("weight") else 0.0)
            if "predictions" in name:
                values = values * 0.6
        elif name.endswith("predictions.bias"):
            values = values * 0.5
            values[[self.id(token) for token in self.vocabulary if token.startswith("[")]] = -6.0
            values[self.id("[SEP]")] = 1.6
        elif name.endswith("bias"):
            values = values * 0.1
        elif "embedding" in name and "patch" not in name:
            values = values * next(scale for part, scale in EMBEDDING_SCALES.items() if part in name)
        else:
            gain = next(gain for part, gain in GAINS.items() if part in name)
            values = values * gain / tensor[0].numel() ** 0.5
        if self.bfloat16_values:
            values = values.to(torch.bfloat16).to(torch.float32)
        tensor.copy_(values)

    def key(self, role, name):
        """What seeds a tensor: the same for several roles where they share it."""
        part = name.replace("text_decoder.bert.", "text.").replace("text_encoder.", "text.")
        own = not self.shared or ".attention.self." in name
        return f"{role}:{name}" if own else part

    def tokenizer(self, folder):
        path = folder / "vocab.txt"
        path.write_text("".join(f"{token}\n" for token in self.vocabulary[: self.vocabulary_in_files]), encoding="utf-8")
        tokens = {"bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]} if self.names_starts() else {}
        tokenizer = BertTokenizer(str(path), **tokens)
        assert len(tokenizer) == self.vocabulary_in_files, len(tokenizer)
        return tokenizer

    def names_starts(self):
        return self.vocabulary_in_files == len(self.vocabulary)

    def processor(self):
        side = self.vision["image_size"]
        return BlipImageProcessorPil(size={"height": side, "width": side})

    def save(self, role, folder, **options):
        folder.mkdir(parents=True)
        model = self.build(role)
        model.save_pretrained(folder, **options)
        self.tokenizer(folder).save_pretrained(folder)
        self.processor().save_pretrained(folder)
        return model


def question_reading_decoder(config):
    """An answer decoder whose cross-attention reads the question encoder's states, as the authors' does.

    transformers gives the decoder the image encoder's width, and so fails for VQA where the two widths differ.
    """
    text = type(config.text_config)(**{**config.text_config.to_dict(), "encoder_hidden_size": config.text_config.hidden_size})
    return BlipTextLMHeadModel(text)


def sizes(width, layers, heads, feed_forward, **others):
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        **others,
    }


TEXTS = ["a red cat near the house", "A Dog runs, two birds!", "water", "the boats under a zebra", "three big trees in the sky ."]
QUESTIONS = ["what is in the picture?", "how many cats", "where is the red boat ?"]

FAMILIES = [
    Family(
        name="tiny-a",
        seeds={"captioner": 3, "matcher": 1},
        vision=sizes(128, 1, 2, 48, image_size=24, patch_size=4, layer_norm_eps=1e-6),
        text=sizes(64, 2, 1, 40, max_position_embeddings=32),
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "[DEC]", "[ENC]"],
        vocabulary_in_files=len(WORDS) + 7,
        projection_width=16,
        bfloat16_values=True,
        texts=TEXTS,
    ),
    Family(
        name="tiny-b",
        seeds={"captioner": 4, "matcher": 4, "answerer": 4},
        vision=sizes(32, 3, 2, 60, image_size=40, patch_size=10, layer_norm_eps=1e-5),
        text=sizes(32, 2, 4, 50, max_position_embeddings=24),
        vocabulary=["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[:34], "[ENC]", "[DEC]"],
        vocabulary_in_files=43,
        projection_width=12,
        shared=True,
        texts=TEXTS,
        questions=QUESTIONS,
    ),
    Family(
        name="tiny-c",
        seeds={"captioner": 2, "matcher": 1, "answerer": 4},
        vision=sizes(40, 2, 5, 70, image_size=48, patch_size=12, layer_norm_eps=1e-5),
        text=sizes(24, 3, 3, 52, max_position_embeddings=28),
        vocabulary=["[PAD]", *WORDS, "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"],
        vocabulary_in_files=len(WORDS) + 5,
        projection_width=20,
        texts=TEXTS,
        questions=QUESTIONS,
    ),
]
