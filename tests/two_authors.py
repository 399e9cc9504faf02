"""Makes short texts of two authors from their works, in place of tweets.

If the works are a novel and essays, or a declaration and an encyclopedia, their
topics help to tell the authors apart; the tweets of two people are harder.
"""

import pathlib

_LONGEST = 140  # letters, as tweets had until 2017
_FEWEST_WORDS = 4


def short_texts(*works: pathlib.Path) -> dict[str, list[str]]:
  """Returns author, "0" or "1" → the sentences of the author's work.

  Long sentences are cut at the end of a word, and very short ones left out.

  Args:
    *works: files with one sentence per line.
  """
  texts: dict[str, list[str]] = {}
  for author, work in enumerate(works):
    lines = work.read_text(encoding="utf-8").splitlines()
    cut = (
      line[:_LONGEST].rsplit(" ", 1)[0] if len(line) > _LONGEST else line
      for line in lines
    )
    texts[str(author)] = [
      " ".join(text.split())
      for text in cut
      if len(text.split()) >= _FEWEST_WORDS
    ]
  return texts


def write(path: pathlib.Path, *works: pathlib.Path) -> None:
  """Writes a file of texts and labels, with as many rows of each author."""
  texts = short_texts(*works)
  count = min(map(len, texts.values()))
  with path.open("w", encoding="utf-8") as file:
    file.write("text\tlabel\n")
    for author, sentences in texts.items():
      step = len(sentences) / count
      file.writelines(
        f"{sentences[int(number * step)]}\t{author}\n"
        for number in range(count)
      )
