"""Makes the pictures in `pictures/` and their goldens.

Made with Python 3.11.7, Pillow 13.0.0 (libjpeg-turbo 3.2.0, libwebp 1.6.0, libtiff 4.7.2, zlib-ng 2.3.3),
numpy 2.4.6 and transformers 5.23.0. Run it in this folder, without arguments; it needs no network.

- `pictures/NAME.EXT`: every kind of file that the acceptance list names.
- `NAME.EXT.SIDE.png`: what Pillow makes of it, by `exif_transpose`, `convert("RGB")` and
  `resize((SIDE, SIDE), BICUBIC)`; lossless.
- `wide.png.32.f32`: HF's `BlipImageProcessorPil` on `pictures/wide.png`, `[3, 32, 32]`, little-endian f32.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
BICUBIC = Image.Resampling.BICUBIC


def scene(width, height, seed):
    """A drawn scene: a sky, coloured discs and bars with hard edges."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / max(width, 1), y / max(height, 1)
    values = np.stack([90 + 120 * u, 200 - 150 * v, 60 + 150 * u * v], axis=-1)
    for _ in range(9):
        cx, cy, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.25)
        colour = random.integers(0, 256, 3)
        inside = (u - cx) ** 2 + (v - cy) ** 2 < radius**2
        values[inside] = 0.2 * values[inside] + 0.8 * colour
    for _ in range(3):
        start, colour = random.uniform(0, 0.9), random.integers(0, 256, 3)
        values[(u > start) & (u < start + 0.04)] = colour
    stripes = (v > 0.8) & ((x.astype(int) // 2) % 2 == 0)
    values[stripes] = 255 - values[stripes]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def ramp16(width, height, channels, seed):
    """Values over the whole of 16 bits; the low byte is never a copy of the high one."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    base = (x / width * 50000 + y / height * 15000)[..., None]
    bands = base + 3000 * np.sin(np.arange(channels) + x[..., None] / 5)
    return np.clip(bands + random.integers(0, 400, bands.shape), 0, 65535).astype(np.uint16)


def png(values, colour_type, bit_depth):
    """A PNG from raw samples, for the kinds that Pillow cannot write."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bit_depth == 16 else "u1").reshape(height, -1)
    if bit_depth < 8:
        bits = np.unpackbits(rows[..., None], axis=-1)[..., 8 - bit_depth :].reshape(height, -1)
        rows = np.packbits(bits, axis=-1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def with_orientation(image, orientation, form, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, form, exif=exif, **options)


def shapes():
    """Sizes: up, down, odd, thin and one pixel."""
    sizes = {
        "wide": (641, 479), "tall": (90, 201), "odd": (37, 53), "pixel": (1, 1), "line": (3, 500), "row": (700, 1),
        "column": (1, 700), "same": (64, 64), "near": (65, 63), "double": (128, 128),
    }
    for seed, (name, (width, height)) in enumerate(sizes.items()):
        sides = (64,) if name in ("same", "near", "double") else (64, 96)
        yield f"{name}.png", saved(Image.fromarray(scene(width, height, seed)), "PNG", optimize=True), sides


def kinds():
    """Colour kinds and file formats."""
    colour = Image.fromarray(scene(61, 43, 20))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 61).astype(np.uint8), (43, 1)))
    grey, rgba = colour.convert("L"), colour.copy()
    rgba.putalpha(alpha)
    palette = colour.quantize(40)
    yield "grey.png", saved(grey, "PNG"), (32,)
    yield "grey_alpha.png", saved(Image.merge("LA", (grey, alpha)), "PNG"), (32,)
    yield "rgba.png", saved(rgba, "PNG"), (32,)
    yield "palette.png", saved(palette, "PNG"), (32,)
    yield "palette_transparent.png", saved(palette, "PNG", transparency=3), (32,)
    yield "palette_alphas.png", saved(palette, "PNG", transparency=bytes(range(0, 240, 6))), (32,)
    yield "palette_4_bits.png", saved(colour.quantize(11), "PNG"), (32,)
    yield "rgb_transparent.png", saved(colour, "PNG", transparency=colour.getpixel((5, 5))), (32,)
    yield "black_white.png", saved(colour.convert("1"), "PNG"), (32,)
    small = np.array(grey)
    yield "grey_2_bits.png", png(small >> 6, 0, 2), (32,)
    yield "grey_4_bits.png", png(small >> 4, 0, 4), (32,)
    yield "grey_16_bits.png", png(ramp16(31, 23, 1, 1), 0, 16), (32,)
    yield "rgb_16_bits.png", png(ramp16(31, 23, 3, 2), 2, 16), (32,)
    yield "grey_alpha_16_bits.png", png(ramp16(31, 23, 2, 3), 4, 16), (32,)
    yield "rgba_16_bits.png", png(ramp16(31, 23, 4, 4), 6, 16), (32,)
    yield "colour.bmp", saved(colour, "BMP"), (32,)
    yield "palette.bmp", saved(palette, "BMP"), (32,)
    yield "palette.gif", saved(palette, "GIF"), (32,)
    yield "transparent.gif", saved(palette, "GIF", transparency=3), (32,)
    yield "colour.tiff", saved(colour, "TIFF", compression="tiff_lzw"), (32,)
    yield "rgba.tiff", saved(rgba, "TIFF", compression="tiff_adobe_deflate"), (32,)
    yield "grey_16_bits.tiff", saved(Image.fromarray(ramp16(31, 23, 1, 1)[..., 0]), "TIFF"), (32,)
    yield "colour.ppm", saved(colour, "PPM"), (32,)
    yield "colour_16_bits.ppm", b"P6\n31 23\n65535\n" + ramp16(31, 23, 3, 5).astype(">u2").tobytes(), (32,)
    yield "grey_16_bits.pgm", b"P5\n31 23\n65535\n" + ramp16(31, 23, 1, 6).astype(">u2").tobytes(), (32,)
    yield "grey.pgm", saved(grey, "PPM"), (32,)
    yield "lossless.webp", saved(rgba, "WEBP", lossless=True, exact=True), (32,)
    yield "lossy.webp", saved(colour, "WEBP", quality=90), (32,)
    yield "png_named.jpg", saved(colour, "PNG"), (32,)


def jpegs():
    """Lossy files; large enough that a share of 99.9 % of the values means something."""
    colour = Image.fromarray(scene(203, 157, 30))
    black = np.tile(np.arange(75, dtype=np.uint8)[:, None], (1, 101))
    cmyk = Image.fromarray(np.dstack([255 - scene(101, 75, 31), black]), "CMYK")
    yield "colour_444.jpg", saved(colour, "JPEG", quality=95, subsampling="4:4:4"), (96,)
    yield "colour_422.jpg", saved(colour, "JPEG", quality=80, subsampling="4:2:2"), (96,)
    yield "colour_420.jpg", saved(colour, "JPEG", quality=95, subsampling="4:2:0"), (96,)
    yield "low_quality.jpg", saved(colour, "JPEG", quality=40, subsampling="4:2:0"), (96,)
    yield "progressive.jpg", saved(colour, "JPEG", quality=80, progressive=True), (96,)
    yield "restarts.jpg", saved(colour, "JPEG", quality=80, restart_marker_blocks=7), (96,)
    yield "grey.jpg", saved(colour.convert("L"), "JPEG", quality=90), (96,)
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=90), (64,)
    yield "rgb.jpg", saved(colour, "JPEG", quality=60, keep_rgb=True), (96,)


def orientations():
    """The eight EXIF orientations, and the other formats that carry one."""
    colour = Image.fromarray(scene(23, 15, 40))
    for orientation in range(1, 9):
        yield f"orientation_{orientation}.png", with_orientation(colour, orientation, "PNG"), (16,)
    yield "orientation_6.jpg", with_orientation(colour, 6, "JPEG", quality=95, subsampling="4:4:4"), (16,)
    yield "orientation_8.webp", with_orientation(colour, 8, "WEBP", lossless=True), (16,)
    yield "orientation_3.tiff", with_orientation(colour, 3, "TIFF"), (16,)
    yield "orientation_9.png", with_orientation(colour, 9, "PNG"), (16,)


def processed(path, side):
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    processor = BlipImageProcessorPil(size={"height": side, "width": side})
    return processor(Image.open(path), return_tensors="np")["pixel_values"][0].astype("<f4")


def main():
    PICTURES.mkdir(exist_ok=True)
    for source in (shapes, kinds, jpegs, orientations):
        for name, data, sides in source():
            (PICTURES / name).write_bytes(data)
            opened = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            for side in sides:
                opened.resize((side, side), BICUBIC).save(HERE / f"{name}.{side}.png", optimize=True)
    (HERE / "wide.png.32.f32").write_bytes(processed(PICTURES / "wide.png", 32).tobytes())


if __name__ == "__main__":
    main()
