"""Makes small tokenizers of every kind that can be exported.

They are trained on texts of the sample.
"""

import dataclasses
import io
import pathlib
from collections.abc import Callable
from typing import Any

import sentencepiece

from data_prep.encoding import tokenization, tokenizer_training
from tests import running

CORPUS = running.ROOT / "sample/pretrain"


def trained(folder: pathlib.Path, **settings: Any) -> str:
  """Trains a model as data_prep.train_tokenizer does; returns its path.

  Args:
    folder: the folder of the tokenizer.
    **settings: options of the training.
  """
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=f"{CORPUS}/*.txt",
      output_dir=str(folder),
      **dict(vocab_size=2000) | settings,
    )
  )
  return str(folder / tokenization.MODEL_NAME)


def foreign(folder: pathlib.Path, **settings: Any) -> str:
  """Trains a model like ALBERT's, with SentencePiece's rules nmt_nfkc.

  Returns the path of the model.
  """
  model = io.BytesIO()
  lines = (CORPUS / "wiki_articles.txt").read_text("utf-8").splitlines()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_writer=model,
    control_symbols=["[PAD]", "[CLS]", "[SEP]", "[MASK]"],
    minloglevel=2,
    **{"vocab_size": 2000, "required_chars": "αοσς", **settings},
  )
  folder.mkdir()
  path = folder / "foreign.model"
  path.write_bytes(model.getvalue())
  return str(path)


def wordpiece(folder: pathlib.Path) -> str:
  """Writes a vocab.txt of the sample's words, their letters and some endings.

  Returns the path of the file.
  """
  text = (CORPUS / "wiki_articles.txt").read_text("utf-8")
  text += text.lower()
  letters = sorted({*"αςσοか\ue000", *text} - {*" \n"})
  words = sorted({w for w in text.split() if w.isalpha() and len(w) > 1})
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]
  pieces += [f"##{part}" for part in (*letters, "ын", "ийн", "аас", "ууд")]
  folder.mkdir()
  path = folder / "vocab.txt"
  path.write_text("\n".join(dict.fromkeys(pieces)) + "\n", "utf-8")
  return str(path)


@dataclasses.dataclass(frozen=True)
class Kind:
  """How a tokenizer is made.

  Attributes:
    make: function that writes the tokenizer's file to a new folder, and returns
      the path of the file.
    options: keyword arguments of `make`.
    settings: the preparation of a text for the tokenizer.
  """

  make: Callable[..., str]
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  settings: tokenization.Settings = tokenization.Settings()

  def made(self, folder: pathlib.Path) -> tuple[str, tokenization.Tokenizer]:
    """Returns the path of the file, and the tokenizer."""
    file = self.make(folder, **self.options)
    return file, tokenization.Tokenizer.with_settings(file, self.settings)


_STRIPPED = tokenization.Settings(True, True, True)
_BPE = dict(model_type="bpe")
KINDS = {
  "cased": Kind(trained),
  "lower-cased": Kind(trained, dict(do_lower_case=True)),
  "stripped": Kind(trained, {}, _STRIPPED),
  "BPE": Kind(trained, _BPE),
  "bytes": Kind(trained, dict(byte_fallback=True)),
  "bytes of BPE": Kind(trained, dict(**_BPE, byte_fallback=True)),
  "user pieces": Kind(trained, dict(user_defined_symbols="@USER,[,].")),
  "user pieces of BPE": Kind(
    trained, dict(**_BPE, user_defined_symbols="@USER,MASK,].")
  ),
  "NFKC": Kind(foreign, {}, tokenization.Settings(do_lower_case=True)),
  "NFKC, stripped": Kind(foreign, {}, _STRIPPED),
  "all spaces": Kind(foreign, dict(remove_extra_whitespaces=False)),
  "no space in front": Kind(foreign, dict(add_dummy_prefix=False)),
  "WordPiece": Kind(wordpiece),
  "WordPiece, lower-cased": Kind(
    wordpiece, {}, tokenization.Settings(True, True, longest_word=100)
  ),
}
