"""Layer-wise learning rate decay: lower rates farther from the head.

Howard and Ruder 2018 (arXiv 1801.06146, section 3.2) and ELECTRA's fine-tuning
(arXiv 2003.10555, appendix B): layers with general features change less than
layers near the task.
"""

from collections.abc import Mapping
from typing import Any

from albert_mn.tasks import classifier


def factors(model: classifier.Classifier, decay: float) -> Mapping[Any, float]:
  """Returns `variable.ref()` → factor of the learning rate, of each variable.

  The head and the pooler have the factor 1, the last group of layers has
  `decay`, the group before it decay², and so on. The embeddings and their
  projection have the smallest factor, decay times that of the first group. In
  BERT each layer is a group. In an ALBERT with one group the factors are 1,
  decay, decay².

  Args:
    model: a model whose variables exist.
    decay: ratio of the rates of neighbouring groups; with 1 all rates are
      equal.
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
