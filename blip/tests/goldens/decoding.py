"""Makes decoding.json: what Hugging Face's `generate` and its warpers answer for a language model that is three tables.

Usage: python decoding.py   (writes decoding.json beside itself; made with torch 2.15, transformers 5.23)
"""

import itertools
import json
from pathlib import Path

import numpy
import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.generation import logits_process
from transformers.modeling_outputs import CausalLMOutput

VOCABULARY, POSITIONS, START, END, PAD = 14, 8, 1, 2, 0


class TableConfig(PretrainedConfig):
    model_type = "table"


class TableModel(PreTrainedModel, GenerationMixin):
    """logits(tokens) = last[tokens[-1]] + before[tokens[-2]] + position[len(tokens) % POSITIONS]"""

    config_class = TableConfig

    def __init__(self, tables):
        super().__init__(TableConfig(vocab_size=VOCABULARY, is_encoder_decoder=False))
        self.last, self.before, self.position = (torch.tensor(table, dtype=torch.float32) for table in tables)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **_):
        before = input_ids[:, -2] if input_ids.shape[1] > 1 else input_ids[:, -1]
        logits = (self.last[input_ids[:, -1]] + self.before[before]) + self.position[input_ids.shape[1] % POSITIONS]
        return CausalLMOutput(logits=logits[:, None, :])

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_):
        return {"input_ids": input_ids, "attention_mask": attention_mask}


def tables(seed):
    random = numpy.random.default_rng(seed)
    last = random.normal(0, 1.6, (VOCABULARY, VOCABULARY))
    before = random.normal(0, 1.0, (VOCABULARY, VOCABULARY))
    position = random.normal(0, 0.7, (POSITIONS, VOCABULARY))
    position[:, END] += 0.8
    return [table.round(3).tolist() for table in (last, before, position)]


def generate(model, prompt, beams, captions, **options):
    ids = torch.tensor([prompt])
    config = GenerationConfig(
        do_sample=False, num_beams=beams, num_return_sequences=captions, early_stopping=False, eos_token_id=END,
        pad_token_id=PAD, use_cache=False, return_dict_in_generate=True, output_scores=True, output_logits=True, **options,
    )
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    answers = []
    for row, tokens in enumerate(out.sequences.tolist()):
        generated = tokens[len(prompt):]
        if END in generated:
            generated = generated[: generated.index(END) + 1]
        elif len(prompt) + len(generated) < options["max_length"]:
            raise AssertionError("an unfinished caption that is not full")
        tokens = prompt + generated
        answers.append({
            "tokens": tokens,
            "log_prob": log_probability(model, tokens, len(prompt)),
            "score": float(out.sequences_scores[row]) if beams > 1 else None,
        })
    return answers


def log_probability(model, tokens, prompt):
    """Sum of ln softmax of the raw logits, from one forward pass a token."""
    total = 0.0
    for end in range(prompt, len(tokens)):
        logits = model(torch.tensor([tokens[:end]])).logits[0, -1].double()
        total += float(torch.log_softmax(logits, -1)[tokens[end]])
    return total


def searches(models):
    prompts = [[START], [START, 5], [START, 4, 4, 7], [START, 9, 3, 9, 3]]
    rules = [
        {},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3, "min_length": 9},
        {"min_length": 8},
        {"repetition_penalty": 0.8, "min_length": 6, "no_repeat_ngram_size": 2},
        {"max_length": 6},
    ]
    cases = []
    for number, beams in itertools.product(range(len(models)), [1, 2, 3, 5]):
        for position, (prompt, rule) in enumerate(itertools.product(prompts, rules)):
            penalties = [1.0] if beams == 1 else [[1.0, 0.6, 2.0][position % 3]]
            for penalty in penalties:
                captions = 1 if beams == 1 else 1 + position % beams
                options = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "max_length": 14}
                options |= rule
                if beams > 1:
                    options["length_penalty"] = penalty
                answers = generate(models[number], prompt, beams, captions, **options)
                cases.append({
                    "model": number, "prompt": prompt, "beams": beams, "captions": captions,
                    "length_penalty": penalty, **options, "answers": answers,
                })
    return cases


def distributions():
    random = numpy.random.default_rng(11)
    cases = []
    settings = [(1.0, 1.0, None), (0.9, 1.0, None), (0.5, 1.0, None), (0.9, 0.7, None), (0.95, 1.6, 5), (1.0, 1.0, 3),
                (0.05, 1.0, None), (0.8, 0.5, 4), (0.9, 1.0, 50)]
    for (top_p, temperature, top_k), penalty in itertools.product(settings, [1.0, 1.1]):
        logits = random.normal(0, 2, VOCABULARY).round(3).tolist()
        history = [START, 4, 9, 4]
        scores = torch.tensor([logits], dtype=torch.float32)
        ids = torch.tensor([history])
        chain = []
        if penalty != 1.0:
            chain.append(logits_process.RepetitionPenaltyLogitsProcessor(penalty))
        chain.append(logits_process.NoRepeatNGramLogitsProcessor(2))
        chain.append(logits_process.MinLengthLogitsProcessor(6, END))
        if temperature != 1.0:
            chain.append(logits_process.TemperatureLogitsWarper(temperature))
        if top_k is not None:
            chain.append(logits_process.TopKLogitsWarper(top_k))
        if top_p < 1.0:
            chain.append(logits_process.TopPLogitsWarper(top_p))
        for step in chain:
            scores = step(ids, scores)
        cases.append({
            "top_p": top_p, "temperature": temperature, "top_k": top_k, "repetition_penalty": penalty,
            "no_repeat_ngram_size": 2, "min_length": 6, "history": history, "logits": logits,
            "probabilities": torch.softmax(scores[0].double(), -1).tolist(),
        })
    return cases


def main():
    transformers.logging.set_verbosity_error()
    made = [tables(seed) for seed in (3, 4)]
    models = [TableModel(each).eval() for each in made]
    golden = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "vocabulary": VOCABULARY, "end": END,
        "models": [dict(zip(("last", "before", "position"), each)) for each in made],
        "searches": searches(models),
        "distributions": distributions(),
    }
    lines = []
    for key, value in golden.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    cases = golden["searches"]
    ended = sum(answer["tokens"][-1] == END for case in cases for answer in case["answers"])
    print(len(cases), "searches,", sum(len(case["answers"]) for case in cases), "captions,", ended, "ended")


main()
