"""Goldens of every operation of the engine: `../goldens/operations.safetensors` and `.json`.

    python operations.py [--out DIR]

Inputs are float32 values; outputs and gradients are what PyTorch's autograd gives in float64, rounded to float32 at the end.
The layout is in `../goldens/README.md`.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

import readable

IGNORED = -100


class Goldens:
    """Cases, and their arrays."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(11)
        self.cases, self.arrays = [], {}

    def draw(self, *shape, scale=1.0, offset=0.0):
        """Normal values that are float32 numbers, in float64."""
        return (torch.randn(shape, generator=self.generator) * scale + offset).double()

    def integers(self, high, *shape):
        return torch.randint(high, shape, generator=self.generator)

    def add(self, name, operation, function, inputs, constants=None, **facts):
        """One case: `function(*inputs, *constants)` and the gradient of each input."""
        inputs = {key: value.clone().requires_grad_(True) for key, value in inputs.items()}
        output = function(*inputs.values(), *(constants or {}).values())
        upstream = self.draw(*output.shape)
        gradients = torch.autograd.grad(output, list(inputs.values()), upstream)
        for key, value in inputs.items():
            self.store(f"{name}/{key}", value)
        for key, value in (constants or {}).items():
            if value.is_floating_point():
                self.store(f"{name}/{key}", value)
            else:
                facts[key] = value.tolist()
        self.store(f"{name}/output", output)
        self.store(f"{name}/output.gradient", upstream)
        for key, gradient in zip(inputs, gradients):
            self.store(f"{name}/{key}.gradient", gradient)
        self.cases.append({"name": name, "operation": operation, **facts, "inputs": list(inputs), "constants": list(constants or {})})

    def note(self, name, operation, arrays, **facts):
        """One case without a gradient."""
        for key, value in arrays.items():
            self.store(f"{name}/{key}", value)
        self.cases.append({"name": name, "operation": operation, **facts})

    def store(self, name, value):
        assert name not in self.arrays, name
        self.arrays[name] = value.detach().to(torch.float32).contiguous().clone()


def gelu(x):
    """`x` times the normal distribution function: the erf form."""
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def attention(query, key, value, heads, lengths=None, causal=False):
    """`[B, T, W]` over `[B, S, W]`; keys from a row's length on do not count."""
    split = lambda states: states.unflatten(-1, (heads, -1)).transpose(1, 2)
    query, key, value = split(query), split(key), split(value)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if lengths is not None:
        scores = scores.masked_fill(torch.arange(key.shape[2]) >= lengths[:, None, None, None], -math.inf)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def add_products(goldens):
    for rows, width, outputs in ((1, 1, 1), (3, 5, 7), (17, 33, 9)):
        name = f"{rows}x{width}x{outputs}"
        inputs = lambda: {"x": goldens.draw(rows, width), "weight": goldens.draw(outputs, width, scale=width**-0.5), "bias": goldens.draw(outputs)}
        goldens.add(f"linear-{name}", "linear", functional.linear, inputs())
        goldens.add(f"linear_gelu-{name}", "linear_gelu", lambda x, w, b: gelu(functional.linear(x, w, b)), inputs())


def add_pointwise(goldens):
    extremes = torch.tensor([-30.0, -8.0, -5.5, -1e-4, 0.0, 1e-4, 5.5, 8.0, 30.0], dtype=torch.float64)
    goldens.add("gelu", "gelu", gelu, {"x": torch.cat([goldens.draw(31, scale=2.0), extremes])})
    goldens.add("add", "add", torch.add, {"a": goldens.draw(5, 7), "b": goldens.draw(5, 7)})
    for width, eps, scale, offset in ((24, 1e-6, 1.0, 0.0), (24, 1e-12, 1.0, 0.0), (5, 1e-6, 1e-3, 0.0), (37, 1e-12, 0.1, 3.0)):
        inputs = {"x": goldens.draw(6, width, scale=scale, offset=offset), "weight": goldens.draw(width, scale=0.2, offset=1.0), "bias": goldens.draw(width)}
        normalise = lambda x, weight, bias: functional.layer_norm(x, (width,), weight, bias, eps)
        goldens.add(f"layer_norm-{width}-{eps:.0e}-{scale:g}", "layer_norm", normalise, inputs, eps=eps)


def add_attention(goldens):
    # Name, batch, T, S (or none: packed, over itself), heads, head width, lengths, causal.
    cases = [
        ("packed", 2, 5, None, 3, 8, None, False),
        ("packed-one-token", 2, 1, None, 2, 24, None, False),
        ("packed-37", 2, 37, None, 1, 8, None, False),
        ("packed-64-wide", 1, 5, None, 2, 64, None, False),
        ("packed-lengths", 3, 5, None, 3, 8, [5, 1, 3], False),
        ("packed-37-lengths", 2, 37, None, 1, 8, [37, 33], False),
        ("packed-causal-lengths", 3, 5, None, 2, 24, [5, 2, 4], True),
        ("packed-causal-37", 1, 37, None, 2, 8, [37], True),
        ("packed-causal-one-token", 1, 1, None, 1, 64, [1], True),
        ("cross", 2, 5, 10, 3, 8, None, False),
        ("cross-lengths", 3, 4, 7, 2, 24, [7, 1, 5], False),
        ("cross-one-query", 2, 1, 37, 1, 8, [37, 20], False),
        ("cross-one-key", 1, 5, 1, 1, 64, None, False),
        ("cross-37", 1, 37, 5, 3, 8, [4], False),
    ]  # fmt: skip
    for name, batch, queries, keys, heads, head_width, lengths, causal in cases:
        width = heads * head_width
        facts = {"batch": batch, "queries": queries, "keys": keys or queries, "heads": heads, "head_width": head_width, "causal": causal}
        limits = torch.tensor(lengths) if lengths else None
        if keys is None:
            inputs = {"qkv": goldens.draw(batch, queries, 3 * width)}
            function = lambda qkv: attention(*qkv.chunk(3, dim=-1), heads, limits, causal)
        else:
            inputs = {"query": goldens.draw(batch, queries, width), "key": goldens.draw(batch, keys, width), "value": goldens.draw(batch, keys, width)}
            function = lambda query, key, value: attention(query, key, value, heads, limits, causal)
        goldens.add(f"attention-{name}", "attention", function, inputs, key_lengths=lengths, **facts)


def add_tokens(goldens):
    ids = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 0], [1, 0, 0, 0]])
    embed = lambda words, positions, ids: words[ids] + positions[: ids.shape[1]]
    goldens.add("embedding", "embedding", embed, {"words": goldens.draw(10, 6), "positions": goldens.draw(7, 6)}, {"ids": ids})

    join = lambda patches, start, places: torch.cat([start.expand(len(patches), 1, -1), patches], dim=1) + places
    inputs = {"patches": goldens.draw(3, 4, 5), "class_token": goldens.draw(5), "positions": goldens.draw(5, 5)}
    goldens.add("vision_tokens", "vision_tokens", join, inputs)

    for side, patch, width in ((6, 3, 4), (12, 4, 5)):
        pixels = goldens.draw(2, 3, side, side)
        cut = functional.unfold(pixels, patch, stride=patch).transpose(1, 2)
        convolve = lambda pixels, weight, bias: functional.conv2d(pixels, weight, bias, stride=patch).flatten(2).transpose(1, 2)
        inputs = {"pixels": pixels, "weight": goldens.draw(width, 3, patch, patch, scale=0.2), "bias": goldens.draw(width)}
        goldens.add(f"patches-{side}-{patch}", "patches", convolve, inputs, patch=patch)
        goldens.store(f"patches-{side}-{patch}/patches", cut)

    for token in (0, 2):
        goldens.add(f"select_token-{token}", "select_token", lambda x: x[:, token], {"x": goldens.draw(3, 4, 5)}, token=token)
    rows = torch.tensor([2, 0, 2, 4, 2, 1, 1])
    goldens.add("gather_rows", "gather_rows", lambda x, rows: x[rows], {"x": goldens.draw(5, 6)}, {"rows": rows})


def add_similarities(goldens):
    goldens.add("l2_normalize", "l2_normalize", lambda x: functional.normalize(x, dim=-1, eps=1e-12), {"x": goldens.draw(5, 9)}, eps=1e-12)
    small = goldens.draw(3, 4, scale=1e-3)
    goldens.add("l2_normalize-small", "l2_normalize", lambda x: functional.normalize(x, dim=-1, eps=1e-12), {"x": small}, eps=1e-12)
    unit = lambda rows, width: functional.normalize(goldens.draw(rows, width), dim=-1).float().double()
    for rows, columns, width in ((1, 1, 3), (4, 4, 8), (5, 13, 7)):
        inputs = {"a": unit(rows, width), "b": unit(columns, width), "temperature": torch.tensor(0.07).double()}
        goldens.add(f"similarity-{rows}x{columns}", "similarity", lambda a, b, t: a @ b.t() / t, inputs)
    for rows, columns, offset, alpha in ((4, 9, 0, 0.4), (3, 11, 3, 0.12), (2, 5, 0, 0.0)):
        sims = goldens.draw(rows, columns, scale=4.0)
        hard = torch.zeros(rows, columns, dtype=torch.float64)
        hard[torch.arange(rows), torch.arange(rows) + offset] = 1.0
        soft = alpha * sims.softmax(1) + (1 - alpha) * hard
        name = f"momentum_soft_targets-{rows}x{columns}-{alpha:g}"
        goldens.note(name, "momentum_soft_targets", {"sims": sims, "output": soft}, alpha=alpha, first_column=offset)


def add_cross_entropies(goldens):
    targets = torch.tensor([3, IGNORED, 0, 6, IGNORED, 6, 2])
    for name, smoothing, wanted in (
        ("plain", 0.0, torch.tensor([0, 1, 2, 3, 4, 5, 6])),
        ("smoothed", 0.1, torch.tensor([6, 5, 4, 3, 2, 1, 0])),
        ("ignored", 0.0, targets),
        ("smoothed-ignored", 0.1, targets),
        ("all-but-one-ignored", 0.1, torch.tensor([IGNORED] * 6 + [4])),
    ):
        mean = lambda logits, wanted: functional.cross_entropy(logits, wanted, label_smoothing=smoothing, ignore_index=IGNORED)
        facts = {"smoothing": smoothing, "ignored": IGNORED, "reduction": "mean of the rows that are not ignored"}
        goldens.add(f"cross_entropy-{name}", "cross_entropy", mean, {"logits": goldens.draw(7, 7, scale=3.0)}, {"targets": wanted}, **facts)
    two = lambda logits, wanted: functional.cross_entropy(logits, wanted)
    pairs = {"targets": torch.tensor([1, 1, 0, 0, 0, 0])}
    facts = {"smoothing": 0.0, "ignored": IGNORED, "reduction": "mean of the rows that are not ignored"}
    goldens.add("cross_entropy-two-classes", "cross_entropy", two, {"logits": goldens.draw(6, 2, scale=2.0)}, pairs, **facts)

    def weighted(logits, wanted, weights):
        rows = functional.cross_entropy(logits, wanted, label_smoothing=0.1, ignore_index=IGNORED, reduction="none")
        return (rows * weights).sum() / 3

    weights = {"targets": targets, "weights": torch.tensor([0.5, 0.5, 1.0, 0.25, 0.25, 0.25, 2.0]).double()}
    facts = {"smoothing": 0.1, "ignored": IGNORED, "reduction": "sum of weight times loss over rows, divided", "divisor": 3}
    goldens.add("cross_entropy-weighted", "cross_entropy", weighted, {"logits": goldens.draw(7, 7, scale=3.0)}, weights, **facts)

    for rows, columns in ((1, 1), (4, 9), (6, 37)):
        soft = {"targets": goldens.draw(rows, columns).softmax(1).float().double()}
        cross = lambda logits, targets: -(logits.log_softmax(1) * targets).sum(1).mean()
        goldens.add(f"soft_cross_entropy-{rows}x{columns}", "soft_cross_entropy", cross, {"logits": goldens.draw(rows, columns, scale=3.0)}, soft)


def add_optimizer(goldens):
    rates, settings = [1e-3, 2e-3, 1e-3, 5e-4, 0.0], {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}
    parameter = goldens.draw(13).requires_grad_(True)
    gradients = goldens.draw(5, 13) * torch.logspace(-6, 3, 13, dtype=torch.float64)
    gradients[:, 4] = 0.0
    gradients = gradients.float().double()
    start, after = parameter.detach().clone(), []
    optimizer = torch.optim.AdamW([parameter], lr=1.0, betas=tuple(settings["betas"]), eps=settings["eps"], weight_decay=settings["weight_decay"])
    for rate, gradient in zip(rates, gradients):
        optimizer.param_groups[0]["lr"], parameter.grad = rate, gradient.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    state = optimizer.state[parameter]
    arrays = {"parameter": start, "gradients": gradients, "output": torch.stack(after), "mean": state["exp_avg"], "square": state["exp_avg_sq"]}
    goldens.note("adamw", "adamw", arrays, learning_rates=rates, **settings)

    for name, scale in (("clipped", 1.0), ("within", 1e-2)):
        parts = [goldens.draw(*shape, scale=scale).requires_grad_(True) for shape in ((3, 4), (5,), (1,))]
        given = {f"gradients.{index}": part.detach().clone() for index, part in enumerate(parts)}
        for part in parts:
            part.grad = part.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(parts, 1.0)
        clipped = {f"output.{index}": part.grad for index, part in enumerate(parts)}
        goldens.note(f"clip_global_norm-{name}", "clip_global_norm", given | clipped | {"norm": norm}, max_norm=1.0)

    copy, online = goldens.draw(9), goldens.draw(9)
    goldens.note("exponential_average", "exponential_average", {"average": copy, "online": online, "output": copy * 0.995 + online * 0.005}, rate=0.995)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "goldens")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    goldens = Goldens()
    for add in (add_products, add_pointwise, add_attention, add_tokens, add_similarities, add_cross_entropies, add_optimizer):
        add(goldens)
    save_file(goldens.arrays, arguments.out / "operations.safetensors")
    text = readable.text({"torch": torch.__version__.split("+")[0], "cases": goldens.cases})
    (arguments.out / "operations.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
