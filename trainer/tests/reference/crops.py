"""Makes goldens/augmentation/crop_means.json: what torchvision's random crops are like on average.

    python crops.py

Python 3.11, torch 2.15.0, torchvision 0.29.2, numpy, Pillow.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

GOLDENS = Path(__file__).parent.parent / "goldens" / "augmentation"
DRAWS = 20_000


def main():
    torch.manual_seed(0)
    rows = []
    for width, height in ((640, 480), (300, 500), (900, 100)):
        image = Image.new("RGB", (width, height))
        for scale in ((0.2, 1.0), (0.5, 1.0)):
            drawn = [RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(DRAWS)]
            top, left, rows_, columns = np.array(drawn).T / np.array([[height], [width], [height], [width]])
            means = {"top": top.mean(), "left": left.mean(), "height": rows_.mean(), "width": columns.mean()}
            means |= {"share": (rows_ * columns).mean(), "share_deviation": (rows_ * columns).std()}
            rows.append({"picture": [width, height], "scale": scale, "means": means})
    (GOLDENS / "crop_means.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
