"""[MASK] kept whole in a text while the normalizer of a tokenizer.json works.

The library tokenizers normalises the text between two added tokens by itself,
as if a text began there: the full stop of `хот [MASK].` becomes `▁.`, which the
training never had behind a [MASK]. An added token with `normalized: true` is
looked for after the normalisation of the whole text instead. So the normalizer
begins with `Mask.hidden`, which puts two codes for [MASK], and ends with
`Mask.shown`, which puts [MASK] back. The first code stands for the first letter
and the second code for the rest, so that the offsets of the token are those of
[MASK] in the text: tokenizers gives every letter of a replacement the place of
the last letter that was replaced.
"""

import dataclasses
from collections.abc import Iterator

from albert_mn import rule_steps


@dataclasses.dataclass(frozen=True)
class Mask:
  """The mask token and its codes.

  Attributes:
    piece: `[MASK]`.
    begin: the code of the first letter; no other step may change or make it.
    end: the code of the other letters, likewise.
  """

  piece: str
  begin: str
  end: str

  def hidden(self) -> Iterator[rule_steps.Step]:
    """Yields steps that put the codes for each [MASK] of a text."""
    first, rest = (
      rule_steps.escaped(self.piece[0]),
      rule_steps.escaped(self.piece[1:]),
    )
    yield rule_steps.replace_all(f"{first}(?={rest})", self.begin)
    behind = rule_steps.escaped(self.begin)
    yield rule_steps.replace_all(f"(?<={behind}){rest}", self.end)

  def without_before(self, letter: str) -> rule_steps.Step:
    """Returns a step that removes a letter where [MASK] follows it."""
    mask = rule_steps.escaped(self.begin)
    return rule_steps.replace_all(f"{rule_steps.escaped(letter)}(?={mask})", "")

  def with_behind(self, class_: str, added: str) -> rule_steps.Step:
    """Returns a step that adds letters between [MASK] and a letter of a class.

    Args:
      class_: the inside of [] of a regular expression.
      added: the letters to add.
    """
    mask = rule_steps.escaped(self.end)
    return rule_steps.replace_all(f"(?<={mask})(?=[{class_}])", added)

  def shown(self) -> Iterator[rule_steps.Step]:
    """Yields steps that put [MASK] back for its codes."""
    yield rule_steps.replace(self.begin, self.piece[0])
    yield rule_steps.replace(self.end, self.piece[1:])
