"""Makes caption.json and question.json: captions and questions as BLIP's training sees them.

Usage: python caption.py   (made with Python 3.11; the functions are those of salesforce/BLIP, data/utils.py)
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


def pre_question(question, max_ques_words=50):
    question = re.sub(r"([.!\"()*#:;~])", "", question.lower())
    question = question.rstrip(" ")
    question_words = question.split(" ")
    if len(question_words) > max_ques_words:
        question = " ".join(question_words[:max_ques_words])
    return question


TEXTS = [
    "", " ", "A man, riding a Wave.", "Two dogs (one brown) run!!", "\"Quoted\": a; b~c*d#e", "a  b   c", "tab\tone", "tab\t\ttwo",
    "line\n", "line\n\n", " \n line \n ", "a\nb", "a \nb", "word " * 40, "one. " * 31, "x" * 300, "ΣΊΣΥΦΟΣ ΟΔΟΣ.", "İstanbul", "ẞ",
    "nbsp\u00a0\u00a0nbsp", "nbsp\u00a0one", "sep\u001c\u001fsep", "\u3000 wide", "...", "don't stop - it's 5.30", "日本語。", "a\r\nb",
    "\u0085\u0085next", "zero\u200b\u200bwidth", "trailing .\n.", "a\tb " * 20, "\n\nstart",
]


def main():
    cases = [{"text": text, "caption": pre_caption(text, 30)} for text in TEXTS]
    Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=0) + "\n", encoding="utf-8")
    texts = TEXTS + ["Is it 5.30 (p.m.)?", "What's  on the U.S. flag ? .", "why " * 60]
    cases = [{"text": text, "question": pre_question(text)} for text in texts]
    Path(__file__).with_name("question.json").write_text(json.dumps(cases, indent=0) + "\n", encoding="utf-8")


main()
