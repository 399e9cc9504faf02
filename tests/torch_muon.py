"""Takes steps of torch.optim.Muon; runs as a process in .venv-interop.

    .venv-interop/bin/python tests/torch_muon.py < steps.json

It imports no module of this project. Standard input and output are JSON.
"""

import json
import sys
from typing import Any

import torch


def main(job: dict[str, Any]) -> dict[str, Any]:
  """Returns the weights after each step, with and without rounding.

  torch.optim.Muon computes the Newton-Schulz iterations in bfloat16: "bfloat16"
  in the result. "float64" has the steps of the same code without this rounding.

  Args:
    job: weights [outputs, inputs], gradients of the same shape for each step,
      rate, decay and momentum.
  """
  rounded = _steps(job)
  cast = torch.Tensor.bfloat16
  setattr(torch.Tensor, "bfloat16", torch.Tensor.double)  # noqa: B010
  try:
    return {"bfloat16": rounded, "float64": _steps(job)}
  finally:
    setattr(torch.Tensor, "bfloat16", cast)  # noqa: B010


def _steps(job: dict[str, Any]) -> list[Any]:
  """Returns the weights after each step."""
  weights = torch.nn.Parameter(torch.tensor(job["weights"], dtype=torch.double))
  optimizer = torch.optim.Muon(
    [weights],
    lr=job["rate"],
    weight_decay=job["decay"],
    momentum=job["momentum"],
    nesterov=True,
  )
  after = []
  for gradient in job["gradients"]:
    weights.grad = torch.tensor(gradient, dtype=torch.double)
    optimizer.step()
    after.append(weights.tolist())
  return after


if __name__ == "__main__":
  print(json.dumps(main(json.load(sys.stdin))))
