"""What transformers answers: the values that the Rust tests compare with."""

import torch

RUNS = [
    {"name": "greedy"},
    {"name": "beam-3", "num_beams": 3},
    {"name": "greedy-max-6", "max_length": 6},
    {"name": "beam-3-max-6", "num_beams": 3, "max_length": 6},
    {"name": "greedy-min-12", "min_length": 12},
    {"name": "beam-3-min-5", "num_beams": 3, "min_length": 5},
    {"name": "beam-3-min-12", "num_beams": 3, "min_length": 12},
    {"name": "beam-4-length-penalty-2", "num_beams": 4, "length_penalty": 2.0},
    {"name": "beam-4-length-penalty-0", "num_beams": 4, "length_penalty": 0.0},
    {"name": "greedy-repetition-1.3", "repetition_penalty": 1.3},
    {"name": "beam-3-repetition-1.3", "num_beams": 3, "repetition_penalty": 1.3},
    {"name": "greedy-no-repeat-2", "no_repeat_ngram_size": 2, "min_length": 12},
    {"name": "beam-3-no-repeat-2", "num_beams": 3, "no_repeat_ngram_size": 2, "min_length": 12},
    {"name": "beam-4-captions-3", "num_beams": 4, "num_return_sequences": 3},
    {"name": "prompt-greedy", "prompt": True},
    {"name": "prompt-beam-3", "prompt": True, "num_beams": 3},
    {
        "name": "prompt-beam-3-everything",
        "prompt": True,
        "num_beams": 3,
        "min_length": 9,
        "max_length": 16,
        "length_penalty": 0.5,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
    },
]

DEFAULTS = {
    "num_beams": 1,
    "max_length": 20,
    "min_length": 0,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
}


def cut(ids, start, separator):
    """`ids` up to and with the first separator after the first `start` tokens: without padding."""
    if separator in ids[start:]:
        return ids[: ids.index(separator, start) + 1]
    return ids


def log_prob(decoder, ids, start, states):
    """Sum of the log probabilities of `ids[start:]`, from the raw logits, each token given all before it."""
    logits = decoder(input_ids=torch.tensor([ids[:-1]]), encoder_hidden_states=states).logits[0]
    chosen = logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return chosen[start - 1 :].sum().item()


def run(model, generate, run_settings, states, tokenizer, start):
    """One decoding run: its settings and its sequences."""
    settings = {**DEFAULTS, **run_settings}
    output = generate(**settings, return_dict_in_generate=True, output_scores=True)
    scores = output.sequences_scores.tolist() if settings["num_beams"] > 1 else [None] * len(output.sequences)
    sequences = []
    for row, score in zip(output.sequences.tolist(), scores):
        ids = cut(row, start, model.config.text_config.sep_token_id)
        sequences.append(
            {
                "ids": ids,
                "text": tokenizer.decode(ids, skip_special_tokens=True),
                "log_prob": log_prob(model.text_decoder, ids, start, states),
                "beam_score": score,
            }
        )
    return {"settings": settings, "sequences": sequences}


def captioner(model, tokenizer, pixel_values, prompt, arrays, key):
    states = model.vision_model(pixel_values=pixel_values).last_hidden_state
    start_token = model.config.text_config.bos_token_id
    logits = model.text_decoder(input_ids=torch.tensor([[start_token]]), encoder_hidden_states=states).logits[0, 0]
    arrays[f"{key}/image_features"] = states[0]
    arrays[f"{key}/first_logits"] = logits
    runs = []
    for entry in RUNS:
        settings = {name: value for name, value in entry.items() if name not in ("name", "prompt")}
        inputs = {"pixel_values": pixel_values}
        prompt_ids = [start_token]
        if "prompt" in entry:
            inputs.update(tokenizer(prompt, return_tensors="pt", return_token_type_ids=False))
            prompt_ids += inputs["input_ids"][0, 1:-1].tolist()
        result = run(model, lambda **s: model.generate(**inputs, **s), settings, states, tokenizer, len(prompt_ids))
        runs.append({"name": entry["name"], "prompt": prompt if "prompt" in entry else None, "prompt_ids": prompt_ids, **result})
    return {"runs": runs}


def matcher(model, tokenizer, pixel_values, texts, encoder_start, arrays, key):
    states = model.vision_model(pixel_values=pixel_values).last_hidden_state
    arrays[f"{key}/image_features"] = states[0]
    arrays[f"{key}/image_vector"] = torch.nn.functional.normalize(model.vision_proj(states[:, 0]), dim=-1)[0]
    rows = []
    for number, text in enumerate(texts):
        ids = tokenizer(text, return_tensors="pt").input_ids
        marked = ids.clone()
        marked[:, 0] = encoder_start
        itc = model(ids, pixel_values, use_itm_head=False)
        arrays[f"texts/{number}/vector"] = torch.nn.functional.normalize(model.text_proj(itc.question_embeds[:, 0]), dim=-1)[0]
        rows.append(
            {
                "text": text,
                "ids": ids[0].tolist(),
                "itm_cls": model(ids, pixel_values).itm_score.softmax(-1)[0, 1].item(),
                "itm_enc": model(marked, pixel_values).itm_score.softmax(-1)[0, 1].item(),
                "itc": itc.itm_score[0, 0].item(),
            }
        )
    return {"texts": rows}


def answerer(model, tokenizer, pixel_values, questions, encoder_start, arrays, key):
    image = model.vision_model(pixel_values=pixel_values).last_hidden_state
    arrays[f"{key}/image_features"] = image[0]
    start_token = model.config.text_config.bos_token_id
    rows = []
    for number, question in enumerate(questions):
        for token in ("CLS", "ENC"):
            ids = tokenizer(question, return_tensors="pt").input_ids
            if token == "ENC":
                ids[:, 0] = encoder_start
            states = model.text_encoder(input_ids=ids, encoder_hidden_states=image).last_hidden_state
            logits = model.text_decoder(input_ids=torch.tensor([[start_token]]), encoder_hidden_states=states).logits[0, 0]
            arrays[f"{key}/questions/{number}/{token}/states"] = states[0]
            arrays[f"{key}/questions/{number}/{token}/first_logits"] = logits
            runs = []
            for entry in RUNS[:2]:
                settings = {name: value for name, value in entry.items() if name != "name"}
                generate = lambda **s: model.generate(input_ids=ids, pixel_values=pixel_values, **s)
                runs.append({"name": entry["name"], "prompt": None, "prompt_ids": [start_token], **run(model, generate, settings, states, tokenizer, 1)})
            rows.append({"question": question, "encoder_token": token, "ids": ids[0].tolist(), "runs": runs})
    return {"questions": rows}
