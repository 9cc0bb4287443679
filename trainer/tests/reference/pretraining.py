"""BLIP's pre-training in plain PyTorch, written from the paper (arXiv 2201.12086, section 3) and the facts of the authors' code.

Every size is an argument and there is no dropout. Parameters have the names that transformers gives them; what the authors' decoder shares with the
encoder stands once, under `text_encoder`. `tiny_blip.py` makes goldens with it, `speed.py` times it.

Facts are from salesforce/BLIP at 056a169: `models/blip_pretrain.py` (losses, momentum, queues, what is tied), `models/med.py` (text),
`models/vit.py` (image), `utils.py` and `pretrain.py` (schedules).
"""

import math
import zlib
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
IGNORED = -100
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.001, 0.5
LEAST_CHANCE = 1e-4
"""What every other sample of the batch gets on top of its probability of being a hard negative."""
WORD = (1 << 64) - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Sizes:
    """Everything that gives a tensor its shape, and the token ids."""

    image: int
    patch: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    vision_feed_forward: int
    text_width: int
    text_layers: int
    text_heads: int
    text_feed_forward: int
    vocabulary: int
    positions: int
    projection: int
    queue: int
    pad: int
    class_token: int
    separator: int
    decoder_start: int
    encoder_start: int
    vision_eps: float = 1e-6
    text_eps: float = 1e-12

    @property
    def patches(self):
        return (self.image // self.patch) ** 2

    def as_dict(self):
        return asdict(self)


def attend(query, key, value, heads, allowed=None, causal=False, kernel="plain"):
    """Attention of `[B, T, W]` over `[B, S, W]`; `allowed` is boolean `[B, S]`, true where a key counts."""
    split = lambda states: states.unflatten(-1, (heads, -1)).transpose(1, 2)
    query, key, value = split(query), split(key), split(value)
    if kernel == "sdpa":
        # Keys are padded on the right, so below the diagonal there is no padding for any row that counts.
        mask = None if causal or allowed is None else allowed[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    else:
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None, None, :], -math.inf)
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = scores.softmax(-1) @ value
    return mixed.transpose(1, 2).flatten(2)


class Group(nn.Module):
    """Modules under one name, so that names come out as transformers has them."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class VisionEmbeddings(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        width = sizes.vision_width
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, sizes.patches + 1, width))
        self.patch_embedding = nn.Conv2d(3, width, sizes.patch, stride=sizes.patch)

    def forward(self, pixels):
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), -1, -1), patches], dim=1)
        return tokens + self.position_embedding


class VisionLayer(nn.Module):
    def __init__(self, sizes, kernel):
        super().__init__()
        width, inner = sizes.vision_width, sizes.vision_feed_forward
        self.heads, self.kernel = sizes.vision_heads, kernel
        self.self_attn = Group(qkv=nn.Linear(width, 3 * width), projection=nn.Linear(width, width))
        self.layer_norm1 = nn.LayerNorm(width, eps=sizes.vision_eps)
        self.mlp = Group(fc1=nn.Linear(width, inner), fc2=nn.Linear(inner, width))
        self.layer_norm2 = nn.LayerNorm(width, eps=sizes.vision_eps)

    def forward(self, states):
        query, key, value = self.self_attn.qkv(self.layer_norm1(states)).chunk(3, dim=-1)
        states = states + self.self_attn.projection(attend(query, key, value, self.heads, kernel=self.kernel))
        return states + self.mlp.fc2(functional.gelu(self.mlp.fc1(self.layer_norm2(states))))


class VisionModel(nn.Module):
    """`[B, 3, S, S]` -> `[B, 1 + patches, width]`, after the last layer norm."""

    def __init__(self, sizes, kernel):
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes)
        self.encoder = Group(layers=nn.ModuleList(VisionLayer(sizes, kernel) for _ in range(sizes.vision_layers)))
        self.post_layernorm = nn.LayerNorm(sizes.vision_width, eps=sizes.vision_eps)

    def forward(self, pixels):
        states = self.embeddings(pixels)
        for layer in self.encoder.layers:
            states = layer(states)
        return self.post_layernorm(states)


class TextEmbeddings(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.text_width, padding_idx=sizes.pad)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.text_width)
        self.LayerNorm = nn.LayerNorm(sizes.text_width, eps=sizes.text_eps)

    def forward(self, ids):
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings.weight[: ids.shape[1]])


class TextAttention(nn.Module):
    """Post-norm attention with its residual; keys and values read `memory_width`."""

    def __init__(self, sizes, memory_width, kernel):
        super().__init__()
        width = sizes.text_width
        self.heads, self.kernel = sizes.text_heads, kernel
        query, key, value = nn.Linear(width, width), nn.Linear(memory_width, width), nn.Linear(memory_width, width)
        self.self = Group(query=query, key=key, value=value)
        self.output = Group(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=sizes.text_eps))

    def forward(self, states, memory, allowed=None, causal=False):
        query, key, value = self.self.query(states), self.self.key(memory), self.self.value(memory)
        mixed = attend(query, key, value, self.heads, allowed, causal, self.kernel)
        return self.output.LayerNorm(self.output.dense(mixed) + states)


class TextLayer(nn.Module):
    """Self-attention, cross-attention where there is an image, feed-forward. `shared` is the encoder's layer that a decoder's borrows from."""

    def __init__(self, sizes, kernel, shared=None):
        super().__init__()
        width, inner = sizes.text_width, sizes.text_feed_forward
        self.attention = TextAttention(sizes, width, kernel)
        if shared is None:
            self.crossattention = TextAttention(sizes, sizes.vision_width, kernel)
            self.intermediate = Group(dense=nn.Linear(width, inner))
            self.output = Group(dense=nn.Linear(inner, width), LayerNorm=nn.LayerNorm(width, eps=sizes.text_eps))
        else:
            self.crossattention, self.intermediate, self.output = shared.crossattention, shared.intermediate, shared.output

    def forward(self, states, image, allowed, causal):
        states = self.attention(states, states, allowed, causal)
        if image is not None:
            states = self.crossattention(states, image)
        inner = functional.gelu(self.intermediate.dense(states))
        return self.output.LayerNorm(self.output.dense(inner) + states)


class TextModel(nn.Module):
    """Ids `[B, L]`, right-padded to `lengths`, -> `[B, L, width]`. With `shared`, the decoder's body: only self-attention is its own."""

    def __init__(self, sizes, kernel, shared=None):
        super().__init__()
        borrowed = shared.encoder.layer if shared is not None else [None] * sizes.text_layers
        self.embeddings = shared.embeddings if shared is not None else TextEmbeddings(sizes)
        self.encoder = Group(layer=nn.ModuleList(TextLayer(sizes, kernel, layer) for layer in borrowed))

    def forward(self, ids, lengths, image=None, causal=False):
        allowed = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        states = self.embeddings(ids)
        for layer in self.encoder.layer:
            states = layer(states, image, allowed, causal)
        return states


class Predictions(nn.Module):
    """The language model's head; its matrix is the word embedding."""

    def __init__(self, sizes):
        super().__init__()
        width = sizes.text_width
        self.transform = Group(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=sizes.text_eps))
        self.bias = nn.Parameter(torch.empty(sizes.vocabulary))

    def forward(self, states, words):
        states = self.transform.LayerNorm(functional.gelu(self.transform.dense(states)))
        return functional.linear(states, words, self.bias)


class Features(nn.Module):
    """What has a momentum copy: both encoders and both projections."""

    def __init__(self, sizes, kernel):
        super().__init__()
        self.vision_model = VisionModel(sizes, kernel)
        self.text_encoder = TextModel(sizes, kernel)
        self.vision_proj = nn.Linear(sizes.vision_width, sizes.projection)
        self.text_proj = nn.Linear(sizes.text_width, sizes.projection)

    def features(self, pixels, ids, lengths):
        """Image states, and the normalised features of images and texts `[B, projection]`."""
        image = self.vision_model(pixels)
        text = self.text_encoder(ids, lengths)
        normal = lambda states: functional.normalize(states, dim=-1)
        return image, normal(self.vision_proj(image[:, 0])), normal(self.text_proj(text[:, 0]))


class Blip(Features):
    """The model that is trained. `losses` returns states and logits too where `shows_all` is set."""

    shows_all = False

    def __init__(self, sizes, kernel="plain"):
        super().__init__(sizes, kernel)
        self.sizes = sizes
        self.itm_head = nn.Linear(sizes.text_width, 2)
        body = TextModel(sizes, kernel, shared=self.text_encoder)
        self.text_decoder = Group(bert=body, cls=Group(predictions=Predictions(sizes)))
        self.temp = nn.Parameter(torch.empty([]))

    def itc(self, image, text, momentum, queues, alpha):
        """The contrastive loss against batch and queues, and everything on the way to it.

        Queues are `[projection, queue]`; similarities `[B, B + queue]`, the batch's momentum features first.
        """
        with torch.no_grad():
            image_all = torch.cat([momentum[0].t(), queues[0]], dim=1)
            text_all = torch.cat([momentum[1].t(), queues[1]], dim=1)
            soft = lambda own, others: torch.softmax(own @ others / self.temp, dim=1)
            hard = torch.eye(len(image), image_all.shape[1], dtype=image.dtype, device=image.device)
            i2t_targets = alpha * soft(momentum[0], text_all) + (1 - alpha) * hard
            t2i_targets = alpha * soft(momentum[1], image_all) + (1 - alpha) * hard
        i2t, t2i = image @ text_all / self.temp, text @ image_all / self.temp
        cross = lambda sims, targets: -(sims.log_softmax(dim=1) * targets).sum(dim=1).mean()
        loss = (cross(i2t, i2t_targets) + cross(t2i, t2i_targets)) / 2
        return loss, {"i2t": i2t, "t2i": t2i, "i2t_targets": i2t_targets, "t2i_targets": t2i_targets}

    def itm(self, ids, lengths, image, images, texts):
        """The matching loss of `B` pairs, `B` texts with the images picked for them, `B` images with the texts picked for them, in this order."""
        count = len(ids)
        ids = start_with(ids, self.sizes.encoder_start)
        all_ids, all_lengths = torch.cat([ids, ids, ids[texts]]), torch.cat([lengths, lengths, lengths[texts]])
        all_images = torch.cat([image, image[images], image])
        logits = self.itm_head(self.text_encoder(all_ids, all_lengths, all_images)[:, 0])
        labels = (torch.arange(3 * count, device=ids.device) < count).long()
        return functional.cross_entropy(logits, labels), logits

    def lm(self, ids, lengths, image, smoothing=0.1):
        """The captioning loss: every token but the first, padding ignored."""
        ids = start_with(ids, self.sizes.decoder_start)
        states = self.text_decoder.bert(ids, lengths, image, causal=True)
        logits = self.text_decoder.cls.predictions(states[:, :-1], self.text_encoder.embeddings.word_embeddings.weight)
        targets = ids[:, 1:].masked_fill(ids[:, 1:] == self.sizes.pad, IGNORED)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing), logits

    def losses(self, batch, momentum, queues, alpha, chances):
        """The three losses, and what is of interest on the way; `chances` `[2, B]` are the draws for negative images and negative texts."""
        pixels, ids, lengths = batch
        image, image_feature, text_feature = self.features(pixels, ids, lengths)
        with torch.no_grad():
            _, *momentum_features = momentum.features(pixels, ids, lengths)
        itc, seen = self.itc(image_feature, text_feature, momentum_features, queues, alpha)
        with torch.no_grad():
            image_weights, text_weights = negative_weights(seen["t2i"]), negative_weights(seen["i2t"])
            images, texts = pick(image_weights, chances[0]), pick(text_weights, chances[1])
        itm, itm_logits = self.itm(ids, lengths, image, images, texts)
        lm, lm_logits = self.lm(ids, lengths, image)
        shown = {"momentum_image_features": momentum_features[0], "momentum_text_features": momentum_features[1]}
        shown |= {"negative_images": images, "negative_texts": texts}
        if self.shows_all:
            shown |= seen | {"image_states": image, "image_features": image_feature, "text_features": text_feature}
            shown |= {"image_weights": image_weights, "text_weights": text_weights, "itm_logits": itm_logits, "lm_logits": lm_logits}
        return itc, itm, lm, {name: value.detach() for name, value in shown.items()}


def start_with(ids, token):
    """`ids` with `token` at place 0."""
    ids = ids.clone()
    ids[:, 0] = token
    return ids


def negative_weights(sims):
    """`[B, B]`: how likely each sample of the batch is to be the negative of each row, not normalised."""
    count = len(sims)
    weights = torch.softmax(sims[:, :count].float() if sims.dtype != torch.float64 else sims[:, :count], dim=1) + LEAST_CHANCE
    return weights.float().fill_diagonal_(0)


def pick(weights, chances):
    """For each row the first column whose running sum, in float64, is above the row's chance of the total."""
    running = weights.double().cumsum(dim=1)
    return (running <= chances[:, None] * running[:, -1:]).sum(dim=1).clamp_max(weights.shape[1] - 1)


def split_mix(value):
    """One round of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value + GOLDEN_RATIO) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def chance(seed, step, sample, direction):
    """A number in [0, 1) of 24 bits: step from 0, sample in the gathered batch, direction 0 for a negative image, 1 for a negative text."""
    key = split_mix(seed ^ ((step * GOLDEN_RATIO) & WORD))
    return (split_mix(key ^ (2 * sample + direction)) >> 40) / (1 << 24)


def chances(seed, step, count):
    """`[2, count]`, float64: negative images, negative texts."""
    return torch.tensor([[chance(seed, step, sample, way) for sample in range(count)] for way in (0, 1)], dtype=torch.float64)


class Training:
    """A model with its momentum copy, queues and optimizer."""

    def __init__(self, model, queues, momentum=0.995, **optimizer):
        self.model, self.queues, self.rate, self.pointer = model, queues, momentum, 0
        device = model.temp.device
        self.momentum = Features(model.sizes, model.vision_model.encoder.layers[0].kernel).to(device, model.temp.dtype)
        self.momentum.requires_grad_(False)
        online = dict(model.named_parameters())
        self.pairs = [(copy, online[name]) for name, copy in self.momentum.named_parameters()]
        with torch.no_grad():
            for copy, parameter in self.pairs:
                copy.copy_(parameter)
        self.optimizer = torch.optim.AdamW(model.parameters(), **optimizer)
        self.losses = model.losses

    @torch.no_grad()
    def update_momentum(self):
        """Before the losses: the online weights of this step are in the copies that this step uses."""
        copies = [copy for copy, _ in self.pairs]
        torch._foreach_mul_(copies, self.rate)
        torch._foreach_add_(copies, [parameter for _, parameter in self.pairs], alpha=1.0 - self.rate)

    @torch.no_grad()
    def enqueue(self, features):
        """The features of the batch replace the oldest ones."""
        count = len(features[0])
        for queue, feature in zip(self.queues, features):
            queue[:, self.pointer : self.pointer + count] = feature.t()
        self.pointer = (self.pointer + count) % self.queues[0].shape[1]

    def step(self, batch, alpha, draws, learning_rate, clip=None, context=None):
        """One step: losses, gradient norm before clipping, what was seen."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.temp.clamp_(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
        self.update_momentum()
        if context is None:
            itc, itm, lm, seen = self.losses(batch, self.momentum, self.queues, alpha, draws)
        else:
            with context:
                itc, itm, lm, seen = self.losses(batch, self.momentum, self.queues, alpha, draws)
        (itc + itm + lm).backward()
        self.enqueue((seen["momentum_image_features"], seen["momentum_text_features"]))
        norm = None
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        return itc, itm, lm, seen, norm

    def update(self):
        """The optimizer's half of a step, apart so that gradients can be read before it."""
        self.optimizer.step()


def normalise(pictures, dtype):
    """`[B, S, S, 3]` of bytes -> `[B, 3, S, S]`."""
    values = pictures.to(dtype) / 255.0
    values = (values - torch.tensor(MEAN, dtype=dtype)) / torch.tensor(DEVIATION, dtype=dtype)
    return values.permute(0, 3, 1, 2).contiguous()


def fill(model, seed):
    """Random weights, seeded by name, larger than a fresh model's, so that every tensor matters to every loss."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
            values = torch.randn(tensor.shape, generator=generator)
            if name == "temp":
                values = torch.tensor(0.07)
            elif "norm" in name.lower():
                values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                values = values * 0.05
            elif "embedding" in name and "patch" not in name:
                values = values * 0.3
            else:
                values = values / tensor[0].numel() ** 0.5
            tensor.copy_(values)
    return model


def random_queues(sizes, seed):
    """Two of `[projection, queue]`, every column normalised."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: functional.normalize(torch.randn(sizes.projection, sizes.queue, generator=generator), dim=0)
    return [draw(), draw()]


def random_texts(sizes, count, length, shortest, generator):
    """Ids `[count, length]` from class token to separator, padded on the right, and their lengths; special tokens are never words."""
    special = {sizes.pad, sizes.class_token, sizes.separator, sizes.decoder_start, sizes.encoder_start}
    words = torch.tensor([word for word in range(sizes.vocabulary) if word not in special])
    lengths = torch.randint(shortest, length + 1, (count,), generator=generator)
    ids = words[torch.randint(len(words), (count, length), generator=generator)]
    ids[:, 0] = sizes.class_token
    ids[torch.arange(count), lengths - 1] = sizes.separator
    return ids.masked_fill(torch.arange(length) >= lengths[:, None], sizes.pad), lengths
