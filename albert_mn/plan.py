r"""Plans a pretraining run: size, batch, steps, and the loss to expect.

    python -m albert_mn.plan --hours=2 --words=1500000

The program measures the speed of this machine (or takes --flops), and predicts
the held-out masked_lm_loss of each shipped size from measured runs
(benchmarks/pretraining_scaling.py). It prints a table, the size with the lowest
expected loss or a larger one that reads enough text, and the command for it.
The records are packed rows of 64 pieces that are masked in training
(docs/pretraining.md).
"""

from albert_mn.pretrain import planning
from data_prep.base import options


def main(settings: planning.Options) -> None:
  """Prints the plans of all sizes and the command of the best one."""
  plans = planning.planned(settings)
  if settings.config_file:
    planning.write_config(plans[0], settings.config_file)
  print(planning.page(settings, plans))


if __name__ == "__main__":
  options.run(main, planning.Options)
