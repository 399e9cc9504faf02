r"""Pretrains ALBERT or BERT on TFRecords, and evaluates on held-out records.

    python run_pretraining.py --do_train --do_eval \
      --input_file='records/train-*' --eval_input_file='records/eval-*' \
      --albert_config_file=configs/albert_tiny.json --output_dir=run
"""

from albert_mn.pretrain import probe, run_options, training
from albert_mn.runtime import distribution, optimization
from data_prep.base import options


def main(
  settings: run_options.Options,
  optimizer: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
) -> None:
  """Trains with --do_train, evaluates with --do_eval, writes the results."""
  training.run(settings, optimizer, devices, probing)


if __name__ == "__main__":
  options.run(
    main,
    run_options.Options,
    optimization.OptimizerOptions,
    distribution.Options,
    probe.Options,
  )
