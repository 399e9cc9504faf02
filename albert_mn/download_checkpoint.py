r"""Downloads weights from gs:// or https://, and prints where the files are.

    python -m albert_mn.download_checkpoint \
      --init_checkpoint=gs://bucket/run/model --output_dir=model
"""

from albert_mn.formats import remote_weights
from data_prep.base import options


def main(settings: remote_weights.Options) -> None:
  """Downloads weights to --output_dir, and prints where they are."""
  remote_weights.fetch(settings)


if __name__ == "__main__":
  options.run(main, remote_weights.Options)
