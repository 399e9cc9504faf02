r"""Downloads weights from gs:// or https://, and prints where the files are.

    python -m albert_mn.download_checkpoint \
      --init_checkpoint=gs://bucket/run/model --output_dir=model
"""

from albert_mn.formats import remote_weights
from data_prep.base import options


def main(settings: remote_weights.Options) -> None:
  """Downloads weights, copies them to --output_dir if given; prints their path."""
  remote_weights.fetch(settings)


if __name__ == "__main__":
  options.run(main, remote_weights.Options)
