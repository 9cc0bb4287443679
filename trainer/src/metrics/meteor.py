"""Reads {"candidates": [...], "references": [[...], ...]} from standard input, tokens apart; prints METEOR's mean."""
import json
import sys

from pycocoevalcap.meteor.meteor import Meteor

pictures = json.load(sys.stdin)
candidates = {index: [text] for index, text in enumerate(pictures["candidates"])}
references = dict(enumerate(pictures["references"]))
print(json.dumps({"meteor": Meteor().compute_score(references, candidates)[0]}))
