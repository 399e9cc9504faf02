"""Smaller learning rates further from the head.

Howard and Ruder 2018 (arXiv 1801.06146, section 3.2) and ELECTRA's fine-tuning
(arXiv 2003.10555, appendix B): what is general changes less than what is new.
"""

from collections.abc import Mapping
from typing import Any

from albert_mn import classifier


def factors(model: classifier.Classifier, decay: float) -> Mapping[Any, float]:
  """Returns what multiplies the rate of each variable, by its `ref()`.

  The head and the pooler: 1. The last group of layers: decay, the one before
  it: decay², and so on; the embeddings with their projection come after the
  first. BERT's layers are groups of one layer each. ALBERT's one group is all
  its layers at once, and counts as one: 1, decay, decay².

  Args:
    model: whose variables exist.
    decay: 1: the same rate for all.
  """
  encoder = model.encoder
  depth = len(encoder.groups)
  rates = {v.ref(): decay ** (depth + 1) for v in model.trainable_variables}
  for place, group in enumerate(encoder.groups):
    for block in group:
      for variable in block.trainable_variables:
        rates[variable.ref()] = decay ** (depth - place)
  for layer in (encoder.pooler, model.classifier):
    for variable in layer.trainable_variables:
      rates[variable.ref()] = 1.0
  return rates
