"""ONNX Runtime's side of side_by_side.py, which runs in the emulator: a line for each part of the work that ends.

    python onnxruntime_guest.py graph GRAPH INPUT.npy OUTPUT.npy RUNS
    python onnxruntime_guest.py caption BUNDLE PICTURE OUTPUT.npy TOKENS

The first runs a graph on its one input; the second captions a picture twice, greedily and so many tokens long. One thread,
and ONNX Runtime's own settings otherwise.
"""

import json
import os
import sys

import numpy

from bundle import Bundle, load_session


def say(text):
    # One write a line, which is where a section of the counts ends.
    os.write(1, (text + "\n").encode())


def run_graph(graph, given, output, runs):
    session = load_session(graph)
    feeds = {session.get_inputs()[0].name: numpy.load(given)}
    say("loaded")
    for _ in range(int(runs)):
        answer = session.run(None, feeds)[0]
        say("ran")
    numpy.save(output, answer)


def caption(folder, picture, output, tokens):
    manifest = json.loads(open(f"{folder}/manifest.json").read())
    head = manifest["captioner"]
    bundle = Bundle(folder, only=[head["vision"]["graph"], head["decoder"]["cross"], head["decoder"]["graph"]])
    say("loaded")
    for _ in range(2):
        pixels = bundle.pixels(picture, head["vision"])
        say("picture")
        states = bundle.encode(pixels, head["vision"])
        say("image encoder")
        memory = bundle.memory(head["decoder"], states)
        say("cross keys and values")
        ids, _ = bundle.greedy(head["decoder"], memory, manifest["tokens"]["decoder_start"], int(tokens), int(tokens))
        say(json.dumps(ids))
    numpy.save(output, states)


{"graph": run_graph, "caption": caption}[sys.argv[1]](*sys.argv[2:])
