"""Estimates of the memory and disk space of a run, from the model's shape.

Memory of a device in bytes, for P weights and b sequences at a time:

  weights, two moments, and gradients (raw, clipped, zeroed after a divergence;
    once more with gradient accumulation):
    4 P · (1 + 2 + 3)
  activations that each application of a block stores for its gradient, per
    position: nine vectors of hidden_size (input, query, key, value, context,
    and the vectors around two norms), the feed-forward layer before and after
    its activation, and the attention weights of each head before and after
    dropout. The lean step stores the feed-forward layer once and no attention
    weights. With --rematerialize one block stores all this, and the other
    blocks store only their input.
  the masked-LM head: logits, their softmax and the gradient.

This is an estimate: buffers of the runtime and fusion by compilers are not
counted. On a CPU, for ALBERT-base at 8 x 128, the estimate with the program's
own memory is 1.8 GB; 1.8 GB were measured (benchmarks/step_speed.py).
"""

import os
import pathlib

from albert_mn.models import configs

# Bytes that the program itself takes on a CPU: TensorFlow, its compilers, the
# input pipeline. It is the peak of two steps of a model with 16 units
# (2026-11-24: 0.908 GB).
PROGRAM = 908_000_000

# TPU type → GiB of HBM, of a core (v2, v3) or a chip:
# cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e.
_TPU_GIB = {"v2": 8, "v3": 16, "v4": 32, "v5litepod": 16, "v5p": 95, "v6e": 32}
_CONTAINER = pathlib.Path("/sys/fs/cgroup/memory.max")


def parameters(config: configs.AlbertConfig) -> int:
  """Returns the number of weights of a PretrainingModel."""
  hidden, embedding = config.hidden_size, config.embedding_size
  head = (hidden + 1) * embedding + 2 * embedding + config.vocab_size
  return (
    config.encoder_weights
    + (hidden + 1) * hidden  # the pooler
    + head
    + (hidden + 1) * 2  # the sentence-order head
  )


def checkpoint_bytes(config: configs.AlbertConfig) -> int:
  """Returns the approximate size of a checkpoint in bytes: 12 for each weight.

  Four bytes are for the weight and eight for its two moments.
  """
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
  """Returns the estimated memory of a training step on a device, in bytes.

  The memory of the program itself (PROGRAM) is not included.

  Args:
    config: the model's shape.
    sequences: sequences that a device computes at a time.
    length: positions of a sequence.
    predictions: masked positions of a sequence.
    in_parts: whether gradients are accumulated.
    lean: whether lean.Lean computes the step.
    rematerialize: whether the backward pass computes the activations inside the
      layers again in place of storing them.
    activation_bytes: bytes of an activation, 4 or 2.
  """
  hidden, inner = config.hidden_size, config.intermediate_size
  shares = 2 * config.num_attention_heads * length
  block = length * (9 * hidden + (inner if lean else 2 * inner + shares))
  applied = config.num_hidden_layers * config.inner_group_num
  whole = 1 if rematerialize else applied
  kept = whole * block + (applied - whole) * length * hidden
  # The lean step computes the attention weights again, of one block at a time.
  kept += length * shares if lean else 0
  kept += 3 * length * config.embedding_size
  head = 4 * 3 * predictions * config.vocab_size  # logits are float32
  state = 4 * parameters(config) * (1 + 2 + 3 + (1 if in_parts else 0))
  return state + sequences * (activation_bytes * kept + head)


def machine_bytes() -> int:
  """Returns the memory of this machine or its container's limit, in bytes.

  The smaller of the two counts.
  """
  pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  limit = _CONTAINER.read_text().strip() if _CONTAINER.exists() else ""
  return min(pages, int(limit)) if limit.isdigit() else pages


def tpu_bytes(accelerator: str) -> int:
  """Returns the memory of a replica on a TPU such as v3-8, in bytes.

  The result is 0 if the type is unknown.
  """
  return _TPU_GIB.get(accelerator.partition("-")[0], 0) << 30
