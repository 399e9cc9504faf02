r"""Exports a model for use elsewhere, and checks the export.

    python -m albert_mn.export_model --model_dir=run/model \
      --to=huggingface --output_dir=export

--output_dir receives the export only if its outputs equal those of the model up
to rounding. With --to=tflite_int8 they may differ; a line tells how much.
"""

from albert_mn.export import exports
from data_prep.base import options


def main(settings: exports.Options) -> None:
  """Exports a model to --output_dir, and checks its outputs."""
  exports.run(settings)


if __name__ == "__main__":
  options.run(main, exports.Options)
