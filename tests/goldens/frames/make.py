"""Makes the frames of a camera in this folder and what ffmpeg's swscale makes of them.

Made with Python 3.11.7, numpy 2.4.6 and ffmpeg 5.1.9 (libswscale 6.7.100). Run it without arguments; it needs no network.

- `FORMAT.yuv`: a frame of 34 x 18 pixels without padding; `i420.yuv` and `nv12.yuv` have the same values.
- `FORMAT.MATRIX.RANGE.rgb`: three bytes a pixel, without interpolation of the chroma.

It prints how far each is from the conversion in double precision, rounded: half a percent of the values, by 1.
OpenCV is no reference here: below black it takes the luma for black, which moves values by up to 19.
"""

import subprocess
from pathlib import Path

import numpy

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 34, 18
FFMPEG_NAMES = {"yuyv": "yuyv422", "i420": "yuv420p", "nv12": "nv12"}
# Shares of red and blue in the luma: BT.601-7, 2.5.1, and BT.709-6, item 3.2.
MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def drawn():
    """Luma and full-size chroma: ramps, blocks, and values beyond what the limited range names."""
    random = numpy.random.default_rng(11)
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    luma = (x * 7 + y * 3) % 256
    luma[:, 20:] = random.integers(0, 256, (HEIGHT, WIDTH - 20))
    blue = 128 + 100 * numpy.sin(x / 5 + y / 9)
    red = 128 + 120 * numpy.cos(x / 7 - y / 4)
    blue[10:], red[10:] = random.integers(0, 256, (2, HEIGHT - 10, WIDTH))
    return [plane.astype(numpy.uint8) for plane in (luma, blue, red)]


def exact(luma, blue, red, matrix, limited):
    """The standards' conversion in double precision, rounded; chroma by its pixel's sample."""
    share_red, share_blue = MATRICES[matrix]
    share_green = 1 - share_red - share_blue
    luma, blue, red = (plane.astype(numpy.float64) for plane in (luma, blue - 128.0, red - 128.0))
    if limited:
        luma, blue, red = (luma - 16) * 255 / 219, blue * 255 / 224, red * 255 / 224
    r = luma + 2 * (1 - share_red) * red
    b = luma + 2 * (1 - share_blue) * blue
    g = (luma - share_red * r - share_blue * b) / share_green
    return numpy.clip(numpy.rint(numpy.stack([r, g, b], -1)), 0, 255).astype(numpy.uint8)


def swscale(name, matrix, levels):
    scale = f"scale=in_color_matrix={matrix}:in_range={levels}:flags=neighbor+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", FFMPEG_NAMES[name], "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-i", HERE / f"{name}.yuv", "-vf", scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return numpy.frombuffer(made, numpy.uint8).reshape(HEIGHT, WIDTH, 3)


def main():
    luma, blue, red = drawn()
    blue_halves, red_halves = blue[:, ::2], red[:, ::2]
    blue_quarters, red_quarters = blue[::2, ::2], red[::2, ::2]
    packed = numpy.empty((HEIGHT, WIDTH, 2), numpy.uint8)
    packed[..., 0], packed[:, ::2, 1], packed[:, 1::2, 1] = luma, blue_halves, red_halves
    frames = {
        "yuyv": packed.ravel(),
        "i420": numpy.concatenate([plane.ravel() for plane in (luma, blue_quarters, red_quarters)]),
        "nv12": numpy.concatenate([luma.ravel(), numpy.stack([blue_quarters, red_quarters], -1).ravel()]),
    }
    for name, frame in frames.items():
        (HERE / f"{name}.yuv").write_bytes(frame.tobytes())
        rows = 1 if name == "yuyv" else 2
        wide = [plane[::rows, ::2].repeat(2, 1).repeat(rows, 0) for plane in (blue, red)]
        for matrix in MATRICES:
            for levels in ("limited", "full"):
                answer = swscale(name, matrix, levels)
                off = numpy.abs(answer.astype(int) - exact(luma, *wide, matrix, levels == "limited"))
                print(f"{name} {matrix} {levels}: {(off > 0).mean():.1%} off, at most {off.max()}")
                (HERE / f"{name}.{matrix}.{levels}.rgb").write_bytes(answer.tobytes())


main()
