"""Prints the likeliest words and pieces in the place of [MASK].

    python -m albert_mn.fill_mask --text='Монгол улсын нийслэл [MASK] хот'
    python -m albert_mn.fill_mask --model_dir=run/model --input_file=texts.txt

Without --model_dir the model of this repository answers. Of an --input_file,
no line is dropped: a line that cannot be filled is answered by the reason.
"""

import os
import sys

from albert_mn.inference import filled_lines
from data_prep.base import options


def main(settings: filled_lines.Options) -> None:
  """Loads the model, and prints the candidates of each line, in order."""
  filler = filled_lines.loaded(settings)
  try:
    for line in settings.lines():
      print(filled_lines.answer(filler, line, settings), flush=True)
  except BrokenPipeError:  # `| head` has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
  options.run(main, filled_lines.Options)
