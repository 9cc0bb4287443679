"""Makes caption.json: captions as BLIP's training sees them.

Usage: python caption.py   (made with Python 3.11; the function is that of salesforce/BLIP, data/utils.py)
"""

import json
import re
from pathlib import Path


def pre_caption(caption, max_words=50):
    caption = re.sub(r"([.!\"()*#:;~])", " ", caption.lower())
    caption = re.sub(r"\s{2,}", " ", caption)
    caption = caption.rstrip("\n")
    caption = caption.strip(" ")
    caption_words = caption.split(" ")
    if len(caption_words) > max_words:
        caption = " ".join(caption_words[:max_words])
    return caption


TEXTS = [
    "", " ", "A man, riding a Wave.", "Two dogs (one brown) run!!", "\"Quoted\": a; b~c*d#e", "a  b   c", "tab\tone", "tab\t\ttwo",
    "line\n", "line\n\n", " \n line \n ", "a\nb", "a \nb", "word " * 40, "one. " * 31, "x" * 300, "ΣΊΣΥΦΟΣ ΟΔΟΣ.", "İstanbul", "ẞ",
    "nbsp\u00a0\u00a0nbsp", "nbsp\u00a0one", "sep\u001c\u001fsep", "\u3000 wide", "...", "don't stop - it's 5.30", "日本語。", "a\r\nb",
    "\u0085\u0085next", "zero\u200b\u200bwidth", "trailing .\n.", "a\tb " * 20, "\n\nstart",
]


def main():
    cases = [{"text": text, "caption": pre_caption(text, 30)} for text in TEXTS]
    Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=0) + "\n", encoding="utf-8")


main()
