"""How much memory and disk a run takes, reckoned from the model's shape.

Of a device, in bytes, for P weights and b sequences at a time:

  weights, their two moments, and gradients as they are, clipped and zeroed
  where a step is not taken (once more where they are added up in parts):
    4 P · (1 + 2 + 3)
  what each application of a block keeps for its gradient, of `length`
  positions: nine vectors of hidden_size (input, query, key, value, context,
  and what stands around two norms), the feed-forward layer before and behind
  its activation, and the shares of attention of each head, before and behind
  dropout. The lean step keeps the feed-forward layer once and no shares; with
  --rematerialize one block keeps all this, and the others their input;
  what the masked-LM head keeps: logits, their softmax and its gradient.

It is an estimate: a runtime's own buffers and what compilers fuse are not in
it. On a CPU it says 1.8 GB for ALBERT-base at 8 x 128, with the program's, and
1.8 GB were measured (benchmarks/step_speed.py).
"""

import os
import pathlib

from albert_mn import configs

# What the program itself holds on a CPU: TensorFlow, its compilers, the input
# pipeline. The peak of two steps of a model of 16 units (2026-11-24: 0.908 GB).
PROGRAM = 908_000_000

# HBM of a core (v2, v3) or chip: cloud.google.com/tpu/docs/v2, v3, v4, v5e,
# v5p, v6e.
_TPU_GIB = {
  "v2": 8, "v3": 16, "v4": 32, "v5litepod": 16, "v5p": 95, "v6e": 32,
}  # fmt: skip
_CONTAINER = pathlib.Path("/sys/fs/cgroup/memory.max")


def parameters(config: configs.AlbertConfig) -> int:
  """Returns the number of weights of a PretrainingModel."""
  hidden, embedding = config.hidden_size, config.embedding_size
  rows = (
    config.vocab_size + config.max_position_embeddings + config.type_vocab_size
  )
  block = (
    4 * (hidden + 1) * hidden  # query, key, value, output
    + (hidden + 1) * config.intermediate_size
    + (config.intermediate_size + 1) * hidden
    + 4 * hidden  # two norms
  )
  projection = (embedding + 1) * hidden if config.projects_embeddings else 0
  head = (hidden + 1) * embedding + 2 * embedding + config.vocab_size
  return (
    (rows + 2) * embedding
    + projection
    + config.num_hidden_groups * config.inner_group_num * block
    + (hidden + 1) * hidden  # the pooler
    + head
    + (hidden + 1) * 2  # the order of two segments
  )


def checkpoint_bytes(config: configs.AlbertConfig) -> int:
  """Returns what a checkpoint takes on disk: the weights and two moments."""
  return 12 * parameters(config)


def step_bytes(
  config: configs.AlbertConfig,
  sequences: int,
  length: int,
  predictions: int,
  *,
  in_parts: bool,
  lean: bool,
  rematerialize: bool,
  activation_bytes: int,
) -> int:
  """Returns what a training step takes on a device, without the program.

  Args:
    config: the shape.
    sequences: that a device computes at a time.
    length: positions of a sequence.
    predictions: masked positions of a sequence.
    in_parts: whether gradients are added up over parts.
    lean: whether lean.Lean computes it.
    rematerialize: as the encoder's.
    activation_bytes: of a number between layers, 4 or 2.
  """
  hidden, inner = config.hidden_size, config.intermediate_size
  shares = 2 * config.num_attention_heads * length
  block = length * (9 * hidden + (inner if lean else 2 * inner + shares))
  applied = config.num_hidden_layers * config.inner_group_num
  whole = 1 if rematerialize else applied
  kept = whole * block + (applied - whole) * length * hidden
  # The lean step computes the shares of one block again at a time.
  kept += length * shares if lean else 0
  kept += 3 * length * config.embedding_size
  head = 4 * 3 * predictions * config.vocab_size  # logits are float32
  state = 4 * parameters(config) * (1 + 2 + 3 + (1 if in_parts else 0))
  return state + sequences * (activation_bytes * kept + head)


def machine_bytes() -> int:
  """Returns this machine's memory, or what its container may take of it."""
  pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  limit = _CONTAINER.read_text().strip() if _CONTAINER.exists() else ""
  return min(pages, int(limit)) if limit.isdigit() else pages


def tpu_bytes(accelerator: str) -> int:
  """Returns the memory of a replica on a TPU such as v3-8; 0 for unknown."""
  return _TPU_GIB.get(accelerator.partition("-")[0], 0) << 30
