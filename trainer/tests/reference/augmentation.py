"""Makes goldens/augmentation: what the authors' own functions, and Pillow, make of two small pictures.

    python augmentation.py BLIP_CHECKOUT

BLIP_CHECKOUT is salesforce/BLIP at 056a169. Python 3.11, numpy 1.26.4, opencv-python-headless 4.5.5.64, Pillow 13.0.0.
OpenCV is of the year of BLIP: OpenCV 5 no longer rounds the places in `warpAffine` to 1/32 of a pixel.

Two of the authors' functions are not taken as they are:
- AutoContrast is Pillow's `ImageOps.autocontrast`, which theirs says it equals: theirs negates a numpy uint8, so that a
  channel whose least value is not 0 becomes white. The script counts how many values that changes.
- Sharpness above level 5 is computed from their formula and clipped, where their cast wraps around.
"""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

GOLDENS = Path(__file__).parent.parent / "goldens" / "augmentation"
FILL = (128, 128, 128)
WIDTH, HEIGHT = 21, 16


def pictures():
    """One of soft colours within 40 to 200, one with every value and hard edges."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    soft = np.stack([40 + 7 * x, 60 + 8 * y, 50 + 3 * x + 4 * y], axis=-1) + rng.integers(-6, 7, (HEIGHT, WIDTH, 3))
    hard = rng.integers(0, 256, (HEIGHT, WIDTH, 3))
    hard[4:9, 5:12] = 255
    hard[10:, :4] = 0
    return [soft.clip(40, 200).astype(np.uint8), hard.astype(np.uint8)]


def sharpness(image, factor):
    kernel = np.ones((3, 3), dtype=np.float32)
    kernel[1][1] = 5
    smooth = cv2.filter2D(image, -1, kernel / 13).astype(np.float32)[1:-1, 1:-1]
    out = image.astype(np.float32)
    out[1:-1, 1:-1] = smooth + factor * (out[1:-1, 1:-1] - smooth)
    return out.clip(0, 255).astype(np.uint8)


def cases(authors):
    for level in (0, 2, 5, 9):
        enhance = authors.enhance_level_to_args(10)(level)[0]
        yield "Brightness", level, "Plus", lambda image, f=enhance: authors.brightness_func(image, f)
        sharpen = authors.sharpness_func if level <= 5 else sharpness
        yield "Sharpness", level, "Plus", lambda image, f=enhance, s=sharpen: s(image, f)
    yield "Identity", 5, "Plus", authors.identity_func
    yield "Equalize", 5, "Plus", authors.equalize_func
    yield "AutoContrast", 5, "Plus", lambda image: np.array(ImageOps.autocontrast(Image.fromarray(image)))
    for level in (2, 5, 9):
        for side, sign in (("Plus", 1), ("Minus", -1)):
            shear, move, turn = (sign * level / 10 * most for most in (0.3, 10.0, 30))
            yield "ShearX", level, side, lambda image, v=shear: authors.shear_x_func(image, v, FILL)
            yield "ShearY", level, side, lambda image, v=shear: authors.shear_y_func(image, v, FILL)
            yield "TranslateX", level, side, lambda image, v=move: authors.translate_x_func(image, v, FILL)
            yield "TranslateY", level, side, lambda image, v=move: authors.translate_y_func(image, v, FILL)
            yield "Rotate", level, side, lambda image, v=turn: authors.rotate_func(image, v, FILL)


def crops():
    for left, top, width, height in ((0, 0, 21, 16), (3, 2, 9, 11), (20, 15, 1, 1), (1, 0, 18, 5)):
        yield [left, top, width, height]


def main():
    spec = importlib.util.spec_from_file_location("authors", Path(sys.argv[1]) / "transform" / "randaugment.py")
    authors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(authors)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    inputs = pictures()
    Image.fromarray(np.concatenate(inputs)).save(GOLDENS / "inputs.png", optimize=True)
    listed, outputs = [], []
    for name, level, side, function in cases(authors):
        listed.append({"operation": name, "level": level, "side": side})
        outputs.extend(function(image) for image in inputs)
    Image.fromarray(np.concatenate(outputs)).save(GOLDENS / "outputs.png", optimize=True)
    squares = []
    for left, top, width, height in crops():
        for image in inputs:
            part = Image.fromarray(image).crop((left, top, left + width, top + height))
            squares.append(np.array(part.resize((12, 12), Image.Resampling.BICUBIC)))
    Image.fromarray(np.concatenate(squares)).save(GOLDENS / "crops.png", optimize=True)
    cases_json = {"width": WIDTH, "height": HEIGHT, "crops": list(crops()), "cases": listed}
    (GOLDENS / "cases.json").write_text(json.dumps(cases_json, indent=1) + "\n")
    ours = np.array(ImageOps.autocontrast(Image.fromarray(inputs[0])))
    changed = (authors.autocontrast_func(inputs[0]) != ours).mean()
    white = (authors.autocontrast_func(inputs[0]) == 255).mean()
    print(f"AutoContrast as written differs from Pillow's in {changed:.0%} of the soft picture; {white:.0%} is white")


if __name__ == "__main__":
    main()
