"""Writes goldens/metrics.json: what pycocoevalcap, scikit-learn and the official VQA code say.

    pip install -r requirements-metrics.txt      (and Java, for PTBTokenizer and METEOR)
    python metrics.py vqa_eval.py ../goldens/metrics.json

vqa_eval.py is LAVIS's copy of the official evaluation: salesforce/LAVIS, lavis/common/vqa_tools/vqa_eval.py.
"""
import contextlib
import importlib.util
import io
import json
import random
import sys

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score

NOUNS = "cat dog bus car man woman tree house star owl bear boat".split()
WORDS = NOUNS + "a the two three on in of and red small old left right above sits runs with grass snow".split()

SENTENCES = [
    "A man's dog can't jump.", "It isn't here; it's there!", 'He said "hello" and \'bye\'.',
    "black-and-white photo -- of a cat", "A cat (small) sits [here] {now}", "the U.S. flag",
    "Mr. Smith and Dr. Who vs. the St. Louis team", "cost $5.00 and 10% off", "10,000 people at 5:30pm",
    "and/or a 50's car", "cannot gonna wanna gotta lemme", "I'll we've they're I'd I'm",
    "James' hat, the dogs' bowls", "e.g. a cat, i.e. an animal etc.", "a cat... a dog…",
    "rock & roll #1 @home a*b", "a 3/4 view, 1/2 cup", "‘smart’ “quotes” – dash — em", "naïve café",
    "it`s a tie", "don't. stop", "what?! no!!", "1st 2nd 3rd", "6'2\" tall", "it 's a man 's world",
    "'tis 'twas", "o'clock", "y'all ain't", "T-shirt, x-ray", "a. b. c.", "No. 5", "the end .",
    "hello,world", "a:b", "a;b", "cat's-eye", "...", "", "   ", "?", "a  b   c", "two\ttabs",
    "a.m. p.m. 5 p.m.", "J. R. R. Tolkien", "snow.in the", "end.", "~ ^ |", "20-year-old", "-5 degrees",
    "rock'n'roll", "d'you", "100,000.50", "5.", "x.", "(a)", "[PAD]", "S.T.O.P", "U.K", "Ph.D.", "dogs'",
    "it's 'quoted text' here", "a -- b", "a - b", "a-b-c", "--", "over-the-top...", "日本 語", "a/b", '"',
    "''", "``", "1,2,3", "3:2 ratio", "12/25/2010", "a'b", "can't've", "whatcha", "#tag", "@user", "100%",
    "AT&T", "R&B", "wow!!!", "a ?", "a .", "a, b", "mid-air.", "'hi'", "'hi", "hi'", "n't", "'s", "'80s",
    "the '80s", "1980's", "o.k.", "ok.", "D.C.", "D.C. is", "the U.S.", "a car at night",
    "three buses on grass", "an owl to the left of a bear on sand",
    "A woman in a red dress is holding a child's hand, while a man (in blue) looks on.",
    "Two dogs -- one brown and one white -- run through the snow.",
    "A stop sign that says 'STOP' at the corner of 5th & Main St.", "The man doesn't see the cat; it's asleep.",
    "A boy's skateboard, a girl's bike and the kids' toys are in the yard.", "there are 2 cats, 3 dogs & 1 bird!",
    "A close-up of a half-eaten sandwich.", "An old-fashioned, black and white photo of New York, N.Y.",
    "\"Hello!\" said the sign.", "A plane flying at 30,000 feet.", "People sit around at a table; eating.",
    "A close up view of someone's dinner plate...", "A group of people, most of them in t-shirts, wait.",
]


def phrase(draw, longest=14):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, longest)))


def edited(draw, text):
    words = text.split()
    for _ in range(draw.randint(0, 3)):
        place = draw.randrange(len(words))
        words[place:place + draw.randint(0, 1)] = [draw.choice(WORDS)]
    return " ".join(words)


def caption_sets(draw):
    edges = [
        ("", ["a cat on grass"]), ("cat", ["a cat on grass", "the cat"]), ("a a a a a a", ["a a b", "a"]),
        ("the the the the", ["the cat sat on the mat"]), ("a cat", [""]), ("", [""]), ("a cat on grass", ["a cat on grass"]),
        ("one two", ["three four"]), ("a b c d e", ["a b c d e f g h i j k l m n o p q r s t u v w x y z"]),
        ("a b c d e f g h i j k l m n o p", ["a b"]), ("a b c", ["a b", "a b c d"]), ("a  b", ["a b"]),
    ]
    sets = [edges, edges[:1], edges[6:7], edges[6:8], [("a cat", ["a cat"])] * 3]
    for size in [1, 2, 3, 5, 8] * 11:
        pictures = []
        for _ in range(size):
            first = phrase(draw)
            references = [first] + [edited(draw, first) if draw.random() < 0.7 else phrase(draw)
                                    for _ in range(draw.choice([0, 0, 1, 4, 11]))]
            candidate = draw.choice([edited(draw, first), edited(draw, first), first, phrase(draw), ""])
            pictures.append((candidate, references))
        sets.append(pictures)
    return sets


def score_captions(pictures):
    candidates = {index: [candidate] for index, (candidate, _) in enumerate(pictures)}
    references = {index: list(references) for index, (_, references) in enumerate(pictures)}
    bleu, bleus = Bleu(4).compute_score(references, candidates, verbose=0)
    rouge, rouges = Rouge().compute_score(references, candidates)
    try:
        cider, ciders = Cider().compute_score(references, candidates)
    except ValueError:  # no word in any reference
        cider, ciders = 0.0, np.zeros(len(pictures))
    return {
        "candidates": [candidate for candidate, _ in pictures], "references": [texts for _, texts in pictures],
        "bleu": rounded(bleu), "bleus": [rounded(scores) for scores in zip(*bleus)],
        "cider": rounded(cider), "ciders": rounded(ciders), "rouge": rounded(rouge), "rouges": rounded(rouges),
    }


def rounded(values):
    return round(float(values), 9) if np.ndim(values) == 0 else [round(float(value), 9) for value in values]


def tokens():
    found = PTBTokenizer().tokenize({place: [{"caption": text}] for place, text in enumerate(SENTENCES)})
    return [[text, found[place][0]] for place, text in enumerate(SENTENCES)]


def vqa(draw, path):
    spec = importlib.util.spec_from_file_location("vqa_eval", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    raw = ["a cat", "cat", "Cat.", "the cats", "two", "2", "None", "dont", "don't know", "1,000", "1,000 people, maybe",
           "yes", "Yes!", "red/white", "red / white", "3.5", "3.", "10:30", "t-shirt", "t shirt", "it's", "someone's",
           "couldntve", "[x] (y)", "a  b", "line\nbreak", "u.s.a.", "cat; dog", "oclock", "", "a"]
    cases = []
    for _ in range(60):
        pool = draw.sample(raw, draw.randint(1, 4))
        people = [draw.choice(pool) for _ in range(draw.choice([1, 3, 10, 10]))]
        answer = draw.choice(pool + raw[:2])

        class Questions:
            def __init__(self, qa):
                self.qa = qa

            def getQuesIds(self):
                return [1]

        answers = [{"answer": text, "answer_id": place} for place, text in enumerate(people)]
        truth = Questions({1: {"answers": answers, "question_type": "what", "answer_type": "other"}})
        evaluation = module.VQAEval(truth, Questions({1: {"answer": answer}}), n=10)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
        cases.append({"answer": answer, "people": people, "accuracy": round(evaluation.accuracy["overall"] / 100, 9)})
    checker = module.VQAEval(truth, Questions({1: {"answer": ""}}))
    cleaned = [text.replace("\n", " ").replace("\t", " ").strip() for text in raw]
    normal = [[text, checker.processDigitArticle(checker.processPunctuation(clean))] for text, clean in zip(raw, cleaned)]
    return {"cases": cases, "normalized": normal}


def matching(draw):
    cases = []
    for size, levels in [(2, 10), (10, 5), (50, 1000), (200, 20), (200, 100000)]:
        labels = [True, False] + [draw.random() < 0.4 for _ in range(size - 2)]
        scores = [round(draw.random() * 0.6 + (0.35 if label else 0.02), 9) for label in labels]
        scores = [round(score * levels) / levels for score in scores]
        shares, means = calibration_curve(labels, scores, n_bins=10)
        cases.append({
            "scores": scores, "labels": labels, "roc_auc": rounded(roc_auc_score(labels, scores)),
            "average_precision": rounded(average_precision_score(labels, scores)),
            "bin_scores": rounded(means), "bin_matches": rounded(shares),
        })
    return cases


def main():
    draw = random.Random(20)
    sets = caption_sets(draw)
    scored = [score_captions(pictures) for pictures in sets]
    candidates = {place: [text] for place, (text, _) in enumerate(sets[-1])}
    references = {place: texts for place, (_, texts) in enumerate(sets[-1])}
    golden = {
        "tokens": tokens(), "captions": scored, "meteor_of_last": rounded(Meteor().compute_score(references, candidates)[0]),
        "vqa": vqa(draw, sys.argv[1]), "matching": matching(draw),
    }
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, separators=(",", ":"))


main()
