"""Exports a model for use elsewhere, and checks what it wrote.

    python -m albert_mn.export_model --model_dir=run/model \\
      --to=huggingface --output_dir=export

The export is put in place only when it gives the model's outputs.
"""

from albert_mn import exports
from data_prep import options


def main(settings: exports.Options) -> None:
  """Exports."""
  exports.run(settings)


if __name__ == "__main__":
  options.run(main, exports.Options)
