"""Packs a model's attention and attributions for a page that shows them.

A page contains every head of every layer, in bytes. Each row (the attention of
one piece to all pieces) is scaled by its largest entry, which is stored as a
16-bit number. So the error of an entry is at most 1/510 of the largest entry of
its row, plus 1/131,070. If all entries would take too much space, rows keep
only their largest entries, and the page states the share of the attention that
the kept entries have.
"""

import base64
import dataclasses
import json
import zlib
from typing import Any

import numpy as np

from albert_mn.formats import foreign_configs
from albert_mn.inference import explanation
from bert_tweet import web_pages
from data_prep.base import options

# Largest size of a page's attention in bytes, after compression; base64 adds a
# third. With 512 pieces, 12 layers and 12 heads the scales add 150 thousand
# bytes, and the page stays under 6 MB.
PAGE_LIMIT = 4 << 20
# Compressed bytes of an entry among dropped ones: 1.5 to 3 (measured). The
# smallest number is tried first.
_AN_ENTRY = 1.5

_LEVELS, _SCALES = 255, 65535
_MOST_GRAMS = 30  # a text of 20 words has about 400 n-grams


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the model, the text, and the HTML page to write."""

  model_dir: str = options.option(
    "",
    "Model to look into: a model directory of a classifier or a "
    "pretrained model, a TensorFlow 1 checkpoint, or a Hugging Face "
    "directory. Required.",
  )
  input_text: str = options.option(
    "",
    "Text that the model reads. Required.",
  )
  input_text_pair: str = options.option(
    "",
    "Second text, for models that read pairs of texts.",
  )
  output_file: str = options.option(
    "attention.html",
    "HTML file that the program writes.",
  )
  spm_model_file: str = options.option(
    "",
    "SentencePiece model. Not needed where a tokenizer lies beside the "
    "weights.",
  )
  gelu: str = foreign_configs.gelu_option()

  def check(self) -> None:
    options.require(self, "model_dir", "input_text", "output_file")


@dataclasses.dataclass(frozen=True)
class Packed:
  """Attention weights in few bytes: level / 255 * scale / 65535.

  Attributes:
    levels: zlib of uint8 [layers, heads, from, to]; 0 where not kept.
    scales: little-endian uint16 [layers, heads, from], each row's largest
      entry.
    kept: number of entries that are kept in each row; 0 if all are kept.
    share: the share of all attention that the kept entries have.
  """

  levels: bytes
  scales: bytes
  kept: int
  share: float


def pack(attention: np.ndarray, limit: int = PAGE_LIMIT) -> Packed:
  """Compresses attention weights, whose rows sum to 1.

  All entries are kept if `levels` then has at most `limit` bytes.

  Args:
    attention: the attention weights, [layers, heads, from, to].
    limit: the wanted largest number of bytes of `levels`. Rows keep fewer
      entries until this is met, but at least one entry each.
  """
  largest = attention.max(-1, keepdims=True)
  scales = np.maximum(np.rint(largest * _SCALES), 1).astype("<u2")
  levels = np.minimum(
    np.rint(attention * (_LEVELS * _SCALES) / scales), _LEVELS
  ).astype(np.uint8)
  rows, length = scales.size, attention.shape[-1]
  kept = 0
  # Compression gains little on dense rows: do not try it in vain.
  if levels.size > 3 * limit:
    kept = min(length, max(1, int(limit / rows / _AN_ENTRY)))
  while True:
    kept_levels = _largest(attention, levels, kept)
    packed = zlib.compress(kept_levels.tobytes(), 6)
    if len(packed) <= limit or kept == 1:
      break
    kept = max(1, int((kept or length) * 0.97 * limit / len(packed)))
  share = (
    (attention * (kept_levels > 0)).sum() / attention.sum() if kept else 1.0
  )
  return Packed(packed, scales.tobytes(), kept, float(share))


def _largest(
  attention: np.ndarray, levels: np.ndarray, kept: int
) -> np.ndarray:
  """Returns the levels with 0 in place of all but the largest entries of a row.

  Entries that equal the smallest kept entry are kept too.

  Args:
    attention: [layers, heads, from, to], the weights by which entries are
      chosen.
    levels: uint8 of the same shape, the scaled weights.
    kept: number of entries of a row to keep; 0 keeps all.
  """
  if not kept or kept >= attention.shape[-1]:
    return levels
  least = np.partition(attention, -kept, axis=-1)[..., -kept, None]
  return np.where(attention >= least, levels, 0).astype(np.uint8)


def view(
  explained: explanation.Explanation, limit: int = PAGE_LIMIT
) -> dict[str, Any]:
  """Returns the data that web/view.js shows, as values for JSON.

  The data are the pieces and words of the text, the packed attention in base64,
  and the model's answer with its attributions; "answer" is None for a model
  without answers.

  Args:
    explained: the explanation.
    limit: wanted largest number of bytes of the packed attention.
  """
  packed = pack(explained.attention, limit)
  layers, heads, length, _ = explained.attention.shape
  return {
    "pieces": explained.pieces,
    "words": explained.words,
    "wordTexts": explained.word_texts,
    "segments": explained.segments,
    "cut": explained.cut,
    "windows": explained.windows,
    "layers": layers,
    "heads": heads,
    "length": length,
    "kept": packed.kept,
    "share": round(packed.share, 4),
    "levels": base64.b64encode(packed.levels).decode("ascii"),
    "scales": base64.b64encode(packed.scales).decode("ascii"),
    "answer": _answer(explained.answer),
  }


def _answer(answer: explanation.Answer | None) -> dict[str, Any] | None:
  """Returns a model's answer as values for JSON.

  Args:
    answer: the answer with its attributions; the result is None if it is None.
  """
  if not answer:
    return None
  return {
    "label": answer.label,
    "probability": round(float(answer.probabilities.max()), 6),
    "attribution": [round(float(part), 4) for part in answer.attribution],
    "score": round(answer.score, 4),
    "baselineScore": round(answer.baseline_score, 4),
    "missed": round(answer.missed, 4),
    "points": answer.points,
    "grams": [
      [name, round(part, 4)]
      for name, part in [*answer.grams.items()][:_MOST_GRAMS]
    ],
    "gramsTogether": round(sum(answer.grams.values()), 4),
  }


def page(explained: explanation.Explanation, limit: int = PAGE_LIMIT) -> str:
  """Returns a self-contained HTML page of an explanation.

  Args:
    explained: the explanation.
    limit: wanted largest number of bytes of the packed attention.
  """
  return web_pages.document(
    "file.html",
    scripts=["texts.js", "view.js", "file.js"],
    data=json.dumps(view(explained, limit), ensure_ascii=False),
  )
