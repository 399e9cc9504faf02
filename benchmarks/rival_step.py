r"""Times a training step of transformers on PyTorch, for step_speed to compare.

    .venv-interop/bin/python benchmarks/rival_step.py \
      configs/albert_base.json ROWS LENGTH STEPS

It needs only torch and transformers, which `scripts/setup.sh --interop`
installs. It prints the CPU seconds of the fastest step and the largest memory
in bytes. The step uses one thread, float32, dropout 0, torch's AdamW, and the
pretraining model of transformers, whose masked-LM head computes every position.
"""

import json
import os
import pathlib
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

_PREDICTED = 0.15  # of the positions
_NOT_MASKED = -100  # what their loss leaves out


def main(config_file: str, rows: int, length: int, steps: int) -> None:
  """Prints JSON: the fastest step's CPU seconds, and the memory in bytes.

  Args:
    config_file: JSON with the shape of the model.
    rows: number of sequences in a batch.
    length: number of pieces in a sequence.
    steps: number of steps that are timed.
  """
  torch.set_num_threads(1)
  torch.manual_seed(0)
  model = _model(pathlib.Path(config_file)).train()
  optimizer = torch.optim.AdamW(model.parameters())
  ids, features = _batch(model.config, rows, length)
  times = []
  for _ in range(steps + 1):  # the first allocates
    began = time.process_time()
    optimizer.zero_grad()
    model(ids, **features).loss.backward()
    optimizer.step()
    times.append(time.process_time() - began)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps({"seconds": min(times[1:]), "bytes": memory}))


def _model(config_file: pathlib.Path) -> torch.nn.Module:
  """Returns transformers' pretraining model of a config, without dropout."""
  values = json.loads(config_file.read_text(encoding="utf-8")) | {
    "hidden_act": "gelu_new",  # google-research's gelu
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
  }
  family = "Bert" if config_file.name.startswith("bert") else "Albert"
  config = getattr(transformers, f"{family}Config")(**values)
  return getattr(transformers, f"{family}ForPreTraining")(config)


def _batch(
  config: transformers.PretrainedConfig, rows: int, length: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
  """Returns (ids, the other arguments of the model) of a random batch."""
  ids = torch.randint(config.vocab_size, (rows, length))
  masked = torch.rand(rows, length) < _PREDICTED
  order = "sentence_order_label"
  if config.model_type == "bert":
    order = "next_sentence_label"
  return ids, {
    "attention_mask": torch.ones_like(ids),
    "token_type_ids": torch.randint(2, (rows, length)),
    "labels": torch.where(masked, ids, _NOT_MASKED),
    order: torch.randint(2, (rows,)),
  }


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
