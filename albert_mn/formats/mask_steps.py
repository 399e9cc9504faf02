"""Steps that protect [MASK] while the normalizer of a tokenizer.json works.

The tokenizers library normalises the text between two added tokens separately,
as if a text began there: the full stop of `хот [MASK].` becomes `▁.`, which
never followed a [MASK] in training. But an added token with `normalized: true`
is searched for after the normalisation of the whole text. So the normalizer
begins with `Mask.hidden`, which replaces [MASK] by two codes, and ends with
`Mask.shown`, which restores it. The first code replaces the first letter and
the second code the rest. So the offsets of the token are those of [MASK] in the
text: tokenizers gives every letter of a replacement the offset of the last
replaced letter.
"""

import dataclasses
from collections.abc import Iterator

from albert_mn.formats import rule_steps


@dataclasses.dataclass(frozen=True)
class Mask:
  """The mask token, and the two strings that hide it from other steps.

  `begin` replaces "[", and `end` replaces "MASK]". No other step may change or
  produce either string.

  Attributes:
    piece: the text of the token, `[MASK]`.
    begin: the string in place of the first letter.
    end: the string in place of all other letters together.
  """

  piece: str
  begin: str
  end: str

  def hidden(self) -> Iterator[rule_steps.Step]:
    """Yields steps that replace every [MASK] of a text by `begin` and `end`."""
    first, rest = (
      rule_steps.escaped(self.piece[0]),
      rule_steps.escaped(self.piece[1:]),
    )
    yield rule_steps.replace_all(f"{first}(?={rest})", self.begin)
    behind = rule_steps.escaped(self.begin)
    yield rule_steps.replace_all(f"(?<={behind}){rest}", self.end)

  def without_before(self, letter: str) -> rule_steps.Step:
    """Returns a step that removes `letter` where [MASK] follows directly.

    The step works while `begin` and `end` are in place of [MASK].
    """
    mask = rule_steps.escaped(self.begin)
    return rule_steps.replace_all(f"{rule_steps.escaped(letter)}(?={mask})", "")

  def with_behind(self, class_: str, added: str) -> rule_steps.Step:
    """Returns a step that inserts text between [MASK] and certain letters.

    The step works while `begin` and `end` are in place of [MASK].

    Args:
      class_: the letters that must follow [MASK], as the inside of a regular
        expression's [].
      added: the text to insert.
    """
    mask = rule_steps.escaped(self.end)
    return rule_steps.replace_all(f"(?<={mask})(?=[{class_}])", added)

  def shown(self) -> Iterator[rule_steps.Step]:
    """Yields steps that replace `begin` and `end` by [MASK] again."""
    yield rule_steps.replace(self.begin, self.piece[0])
    yield rule_steps.replace(self.end, self.piece[1:])
