"""Loads an export with transformers; runs as a process in .venv-interop.

    .venv-interop/bin/python tests/transformers_side.py ids FOLDER < texts.json

It imports no module of this project. The texts are read, and the answer is
written, as JSON.
"""

import json
import sys
from typing import Any

import torch
import transformers


def ids(folder: str, texts: list[str]) -> Any:
  """Returns the ids of each text from AutoTokenizer, without special pieces."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  return tokenizer(texts, add_special_tokens=False)["input_ids"]


def offsets(folder: str, texts: list[str]) -> Any:
  """Returns for each text its ids and the (start, end) of each piece."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  encoded = tokenizer(
    texts, add_special_tokens=False, return_offsets_mapping=True
  )
  return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def encoder(folder: str, texts: list[str]) -> Any:
  """Returns the ids of all texts, and AutoModel's outputs of the last eight."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  every = tokenizer(texts, add_special_tokens=False)
  batch = tokenizer(
    texts[-8:],
    padding=True,
    truncation=True,
    max_length=64,
    return_tensors="pt",
  )
  encoded, loading = _loaded(transformers.AutoModel, folder)
  with torch.no_grad():
    output = encoded(**batch)
  return {
    "all": next(iter(every.values())),
    "ids": next(iter(batch.values())).tolist(),
    "mask": batch["attention_mask"].tolist(),
    "sequence": output.last_hidden_state.tolist(),
    "pooled": output.pooler_output.tolist(),
    "loading": loading,
  }


def model(folder: str, texts: list[str]) -> Any:
  """Returns the outputs of AutoModel, of the heads and of the pipelines."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
  pair = tokenizer("сайн уу", "байна уу")
  # Not `input_ids`: the answer has names of its own.
  outputs: dict[str, Any] = {
    "ids": next(iter(batch.values())).tolist(),
    "mask": batch["attention_mask"].tolist(),
    "pair": [next(iter(pair.values())), pair["token_type_ids"]],
    "decoded": tokenizer.decode(
      tokenizer("Сайн  байна уу")[tokenizer.model_input_names[0]],
      skip_special_tokens=True,
    ),
  }
  kind = transformers.AutoConfig.from_pretrained(folder).architectures[0]
  with torch.no_grad():
    encoded, loading = _loaded(transformers.AutoModel, folder)
    output = encoded(**batch)
    outputs["sequence"] = output.last_hidden_state.tolist()
    outputs["pooled"] = output.pooler_output.tolist()
    if "Classification" in kind:
      head, loading = _loaded(
        transformers.AutoModelForSequenceClassification, folder
      )
      outputs["logits"] = head(**batch).logits.tolist()
      classify = transformers.pipeline("text-classification", folder)
      outputs["pipeline"] = classify(texts, truncation=True)
    if "PreTraining" in kind:
      head, loading = _loaded(transformers.AutoModelForPreTraining, folder)
      output = head(**batch)
      outputs["masked_lm"] = output.prediction_logits.tolist()
      sentence = getattr(output, "sop_logits", None)
      if sentence is None:
        sentence = output.seq_relationship_logits
      outputs["sentence"] = sentence.tolist()
      fill = transformers.pipeline("fill-mask", folder)
      outputs["pipeline"] = fill(f"сайн {tokenizer.mask_token} уу")
  outputs["loading"] = loading
  return outputs


def scores(folder: str, texts: list[str]) -> Any:
  """Returns label → score for each text, from transformers' pipeline."""
  classify = transformers.pipeline("text-classification", folder)
  predictions = classify(texts, truncation=True, top_k=None)
  return [
    {prediction["label"]: prediction["score"] for prediction in row}
    for row in predictions
  ]


def spans(folder: str, texts: list[str]) -> Any:
  """Returns the entities of each text, from transformers' pipeline.

  The result also names the weights that are missing in the export.
  """
  kind = transformers.AutoModelForTokenClassification
  model, loading = _loaded(kind, folder)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  tag = transformers.pipeline(
    "token-classification",
    model=model,
    tokenizer=tokenizer,
    aggregation_strategy="simple",
  )
  entities = [
    [
      (
        entity["start"],
        entity["end"],
        entity["entity_group"],
        float(entity["score"]),
      )
      for entity in tag(text)
      if entity["word"].strip()  # the space in front of a text alone
    ]
    for text in texts
  ]
  return {"loading": loading, "spans": entities}


def code(folder: str, texts: list[str]) -> Any:
  """Runs programs that append to `shown`; returns the list of each program."""
  del folder
  results = []
  for program in texts:
    shown: list[Any] = []
    exec(program, {"shown": shown})
    results.append(
      [v.tolist() if isinstance(v, torch.Tensor) else v for v in shown]
    )
  return json.loads(json.dumps(results, default=float))


def saved(folder: str, texts: list[str]) -> Any:
  """Saves model and tokenizer with transformers; returns the ids of texts.

  Args:
    folder: the folder of an export. If it has no weights, only the tokenizer is
      saved.
    texts: the folder to save in, followed by the texts.
  """
  target, *texts = texts
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  tokenizer(texts[:4], padding=True, truncation=True)  # what is then saved too
  tokenizer.save_pretrained(target)
  config = transformers.AutoConfig.from_pretrained(folder)
  if config.architectures:
    kind = getattr(transformers, config.architectures[0])
    kind.from_pretrained(folder).save_pretrained(target)
  again = transformers.AutoTokenizer.from_pretrained(target)
  return again(texts, add_special_tokens=False)["input_ids"]


def _loaded(kind: Any, folder: str) -> tuple[Any, dict[str, list[str]]]:
  """Loads a model; returns (model, names of missing and unused weights)."""
  loaded, info = kind.from_pretrained(folder, output_loading_info=True)
  names = ("missing_keys", "unexpected_keys", "mismatched_keys")
  return loaded.eval(), {name: sorted(map(str, info[name])) for name in names}


if __name__ == "__main__":
  asks = {
    "ids": ids,
    "offsets": offsets,
    "encoder": encoder,
    "model": model,
    "scores": scores,
    "spans": spans,
    "code": code,
    "saved": saved,
  }
  print(json.dumps(asks[sys.argv[1]](sys.argv[2], json.load(sys.stdin))))
