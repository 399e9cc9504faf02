r"""Converts a checkpoint from elsewhere to a model directory, and checks it.

    python -m albert_mn.convert_checkpoint --from=tf1 \
      --init_checkpoint=uncased_L-12_H-768_A-12 --output_dir=model
"""

from albert_mn.formats import conversion
from data_prep.base import options


def main(settings: conversion.Options) -> None:
  """Converts a checkpoint to a model directory with the same outputs.

  The model directory is written to --output_dir.
  """
  conversion.run(settings)


if __name__ == "__main__":
  options.run(main, conversion.Options)
