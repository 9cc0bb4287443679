"""What a captioner's multiplications come to, and which operator a function of the runtime belongs to."""

import collections
import re

# An instruction's multiplications at most: SDOT's sixteen; SMULL, SMLAL2 and SADALP, three for sixteen; FMLA's four.
INT8_PRODUCTS = {"cortex-a76": 16, "cortex-a72": 16 / 3, "cortex-a53": 16 / 3}
FLOAT_PRODUCTS = 4

# The first that is found in a function's name says what it is for. Compilers put small functions into their callers: GELU
# into the loop over the tiles of a layer, softmax into that over the queries of a block.
OPERATORS = [
    ("row quantization", r"Kernel>::quantize$|neon_rows::quantize|QuantizedRows"),
    ("linear: GELU and the loop over tiles", r"quantized_linear::multiply$"),
    ("linear: scales, biases, residuals", r"quantized_linear::rows::Tile::finish"),
    ("linear: products", r"quantized_linear.*::multiply"),
    ("linear: pieces", r"quantized_linear"),
    ("attention: a query alone", r"attention::attend_piece"),
    ("attention: products", r"attention::neon::(score|mix)"),
    ("attention: softmax", r"attention::block::attend"),
    ("attention: pieces", r"attention|half_rows|exponential"),
    ("layer norm, half floats", r"layer_norm|lanes::InstructionSet::run"),
    ("GELU", r"gelu"),
    ("embedding", r"quantized_embedding"),
    ("picture", r"blip::pixels|picture::|png|fdeflate|zune|^\S+ image::"),
    ("search", r"blip::decoding|edgeblip::decoder|blip::tokenizer|libm::math"),
    ("threads", r"rayon|crossbeam"),
    ("tract: matrix product", r"tract_linalg|tract_core::ops::(matmul|einsum)|arm64|^\S+ \."),
    ("tract: the rest", r"tract|ndarray|smallvec|edgeblip::inference"),
    ("allocator and copies", r"^libc|alloc|memcpy|memset"),
]


def operator(name):
    return next((operator for operator, pattern in OPERATORS if re.search(pattern, name)), "the rest")


def by_operator(names):
    found = collections.Counter()
    for name, count in names.items():
        found[operator(name)] += count
    return found


def products(manifest, tokens):
    """Multiplications of a caption of so many tokens, the start token among them: by part, in 8 bits and in floats."""
    vision = manifest["captioner"]["vision"]["config"]
    text = manifest["captioner"]["decoder"]["config"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    seen, width = patches + 1, vision["width"]
    block = 4 * width**2 + 2 * width * vision["feed_forward"]
    steps = range(1, tokens)
    layers, text_width = text["layers"], text["width"]
    # Self-attention has four matrices, cross-attention two: its keys and values are the picture's.
    text_block = 6 * text_width**2 + 2 * text_width * text["feed_forward"]
    int8 = {
        "image encoder": vision["layers"] * seen * block,
        "cross keys and values": layers * seen * text["cross_width"] * 2 * text_width,
        "decoder layers": len(steps) * (layers * text_block + text_width**2),
        "vocabulary": len(steps) * text_width * text["vocabulary_size"],
    }
    floats = {
        "patches": patches * 3 * vision["patch_size"] ** 2 * width,
        "image encoder's attention": vision["layers"] * 2 * seen**2 * width,
        "decoder's attention": sum(layers * 2 * text_width * (step + seen) for step in steps),
    }
    return int8, floats


def floors(manifest, tokens, processor):
    """Instructions of nothing but multiplications: all as if in 8 bits, and each in its own form."""
    int8, floats = (sum(part.values()) for part in products(manifest, tokens))
    return {
        "all in 8 bits": (int8 + floats) / INT8_PRODUCTS[processor],
        "8 bits and floats": int8 / INT8_PRODUCTS[processor] + floats / FLOAT_PRODUCTS,
    }
