"""What a model looked at: its attention, and which pieces spoke for its answer.

Attention is the model's own, as its softmax gave it. Attribution is integrated
gradients (Sundararajan et al. 2017, arXiv 1703.01365): what each piece adds to
the answer's score on the way from a baseline, here the same text with [MASK]
in the place of each piece, to the text. The parts sum to the difference. Where
the TF-IDF baseline answers beside the network, its n-grams are parts too: the
way begins without any of them, and goes to the text's with the same steps.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from albert_mn import (
  blend,
  classifier,
  encoders,
  initial_weights,
  pooling,
  problems,
)
from data_prep import (
  alignment,
  framing,
  length_buckets,
  manifest,
  options,
  tokenization,
)

# Where the sum misses the difference by more, twice as many points are taken.
_MOST_MISSED = 0.01
_FEWEST_POINTS, _MOST_POINTS = 32, 256
_AT_ONCE = 8  # points: memory is that of a training step of so many texts


@dataclasses.dataclass(frozen=True)
class Answer:
  """A classifier's answer, and which pieces spoke for it.

  Attributes:
    names: the labels.
    probabilities: [labels], of each.
    attribution: float64 [length], what each piece adds to the score; 0 for
      what is in the baseline too.
    score: of the likeliest label, its log-odds: log(p / (1 - p)).
    baseline_score: the same label's for the baseline.
    points: on the way, at which gradients were taken.
    grams: what each n-gram of the text that the baseline knows adds, by its
      name, the largest part first; {} where the network answers alone.
  """

  names: list[str]
  probabilities: np.ndarray
  attribution: np.ndarray
  score: float
  baseline_score: float
  points: int
  grams: dict[str, float] = dataclasses.field(default_factory=dict)

  @property
  def label(self) -> str:
    return self.names[int(self.probabilities.argmax())]

  @property
  def missed(self) -> float:
    """By how much the parts fail to sum to what they are parts of."""
    parts = self.attribution.sum() + sum(self.grams.values())
    return float(parts - (self.score - self.baseline_score))


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What a model looked at in a text, or in a pair of them.

  Attributes:
    pieces: [length], [CLS] and [SEP] too. Each has the letters of the text as
      it was given, behind the tokenizer's mark of its place ("▁" before a word,
      "##" inside one). A piece that shares its letter with the next one, such
      as a byte of an emoji, has its own name.
    words: [length], the number of the word that each is a part of.
    word_texts: of each word, its letters in the text as it was given; "▁" for
      white space alone.
    segments: [length], 1 in the second text of a pair.
    cut: pieces of the text that are not shown. The model has no room for them,
      or reads them in other windows than the first.
    windows: in how many windows a classifier reads the text; the first of them
      is shown, and a prediction is the mean of all.
    attention: float32 [layers, heads, from, to]; rows sum to 1.
    answer: None for a model that is no classifier.
  """

  pieces: list[str]
  words: list[int]
  word_texts: list[str]
  segments: list[int]
  cut: int
  windows: int
  attention: np.ndarray
  answer: Answer | None


@dataclasses.dataclass(frozen=True)
class _Framed:
  """`[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.

  Attributes:
    ids: of the pieces.
    surfaces: of each piece, its stretch of the text as it was given.
    segments, cut, windows: as in Explanation.
  """

  ids: np.ndarray
  surfaces: list[str]
  segments: np.ndarray
  cut: int
  windows: int


@dataclasses.dataclass(frozen=True)
class _Voice:
  """What the baseline says of a text.

  Attributes:
    scores: float64 [labels], of the text's n-grams together.
    shift: float64 [labels], what it says of any text.
    names: of the n-grams that are in the text.
    weights: float64 [labels, n-grams], what each adds to the scores.
  """

  scores: np.ndarray
  shift: np.ndarray
  names: list[str]
  weights: np.ndarray

  @classmethod
  def none(cls, labels: int) -> "_Voice":
    """Returns the voice of no baseline."""
    return cls(np.zeros(labels), np.zeros(labels), [], np.zeros((labels, 0)))

  @classmethod
  def of(cls, beside: blend.Blend, text: str) -> "_Voice":
    """Returns what a baseline says, by its factor in the answer."""
    linear, factor = beside.linear, beside.factors.baseline
    row = linear.grams.matrix([text])
    weights = factor * row.data * linear.weights[:, row.indices]
    return cls(
      weights.sum(axis=1),
      factor * linear.shift.astype(np.float64),
      [linear.grams.name(number) for number in row.indices],
      weights,
    )

  def added(self, place: float) -> tf.Tensor:
    """Returns float32 [labels], at a place from 0, no n-gram, to 1, all."""
    return tf.constant(self.shift + place * self.scores, tf.float32)

  def parts(self, slopes: np.ndarray) -> dict[str, float]:
    """Returns what each n-gram adds to a score of such slopes [labels]."""
    added = slopes @ self.weights
    order = np.argsort(-np.abs(added), kind="stable").tolist()
    parts: dict[str, float] = {}
    for place in order:  # a word and a part of it may have one name
      name = self.names[place]
      parts[name] = parts.get(name, 0.0) + float(added[place])
    return parts


class Explainer:
  """Says what a model looked at.

    explainer = Explainer.load("runs/topics/model")
    explainer.explain("Бөхийн барилдаан").answer.label  # "sports"

  Args:
    encoder: of the model.
    tokenizer: its own.
    max_seq_length: ids of a text, the special ones included.
    head: [batch, hidden_size] to [batch, labels]; None for a model that
      was only pretrained, or whose output is a number.
    problem: what the head's outputs mean.
    clean: what is done to a text before it is read.
    long_text: which part of a longer text is read, as in `framing.Framer`.
    beside: the baseline that answers beside the head; None for none.
    pooled_by: one of `pooling.KINDS`, what the head reads.
  """

  def __init__(
    self,
    encoder: encoders.AlbertEncoder,
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int,
    head: Callable[[tf.Tensor], tf.Tensor] | None = None,
    problem: problems.Problem | None = None,
    clean: Callable[[str], alignment.Traced] = alignment.Traced.of,
    long_text: str = framing.HEAD,
    beside: blend.Blend | None = None,
    pooled_by: str = pooling.CLS,
  ):
    self._pooled_by = pooled_by
    self._encoder, self._tokenizer, self._beside = encoder, tokenizer, beside
    self._framer = framing.Framer(tokenizer, max_seq_length, long_text)
    self._is_frame = tokenizer.special.copy()  # [CLS] and the like
    self._is_frame[tokenizer.unk_id] = False
    self._head, self._problem, self._clean = head, problem, clean
    self._look = tf.function(self._looked)
    self._add = tf.function(self._added)

  @classmethod
  def of(cls, predictor: classifier.Predictor) -> "Explainer":
    """Explains what a predictor says, with its weights."""
    model, problem = predictor.model, predictor.problem
    beside = predictor.blend
    factor = beside.factors.network if beside else 1 / predictor.temperature
    return cls(
      model.encoder,
      predictor.tokenizer,
      predictor.max_seq_length,
      None
      if problem.TYPE == problems.REGRESSION
      else lambda pooled: model.head(pooled) * factor,
      problem,
      predictor.traced,
      predictor.framer.long_text,
      beside,
      model.pooled_by,
    )

  @classmethod
  def load(
    cls, path: str, spm_model_file: str = "", gelu: str = "auto"
  ) -> "Explainer":
    """Reads a classifier, or anything that `initial_weights` can read.

    Args:
      path: a model directory of ours, a TF 1 checkpoint or a directory of
        Hugging Face's.
      spm_model_file: the SentencePiece model, where none lies beside it.
      gelu: of `foreign_configs.gelu_option`.

    Raises:
      options.InputError: for what is no model, and for `gelu` of one of ours.
    """
    described = manifest.find(path) or {}
    if described.get("kind") == classifier.KIND and gelu == "auto":
      return cls.of(classifier.Predictor.load(path))
    config = initial_weights.settle_config("", "", path, gelu=gelu)
    encoder = encoders.AlbertEncoder(config, seed=0)
    initial_weights.load(path, {"encoder": encoder})
    tokenizer_file = spm_model_file or initial_weights.tokenizer_file(path)
    if not tokenizer_file:
      raise options.InputError(
        f"a {tokenization.MODEL_NAME} beside the weights in {path!r}",
        "none",
        "give --spm_model_file",
      )
    text = initial_weights.text_settings(path, tokenizer_file, config)
    tokenizer = tokenization.Tokenizer.with_settings(
      tokenizer_file, text.settings
    )
    if tokenizer.vocab_size > config.vocab_size:
      raise options.InputError(
        f"a tokenizer of at most {config.vocab_size} pieces, the model's",
        f"{tokenizer.vocab_size} in {tokenizer_file}",
        "give the model's own",
      )
    return cls(encoder, tokenizer, config.max_position_embeddings)

  def explain(self, text: str, pair: str = "") -> Explanation:
    """Says what the model looked at.

    Args:
      text: `Бөхийн барилдаан эхэллээ.`
      pair: the second text of a pair; "" for none.
    """
    framed = self._framed(text, pair)
    ids = framed.ids
    attention, logits = self._look(*self._padded(framed))
    length = len(ids)
    words = self._words(framed)
    texts = [""] * (words[-1] + 1)
    for word, surface in zip(words, framed.surfaces, strict=True):
      texts[word] += surface
    return Explanation(
      pieces=list(map(self._shown, ids.tolist(), framed.surfaces)),
      words=words.tolist(),
      word_texts=[text.strip() or "▁" for text in texts],
      segments=framed.segments.tolist(),
      cut=framed.cut,
      windows=framed.windows,
      attention=attention.numpy()[:, 0, :, :length, :length],
      answer=self._answer(framed, logits, self._voice(text, pair))
      if self._head
      else None,
    )

  def _voice(self, text: str, pair: str) -> "_Voice":
    """Returns what the baseline says of a text, or of a pair."""
    assert self._problem, "a head has one"
    if not self._beside:
      return _Voice.none(len(self._problem.names))
    texts = [self._clean(part).text for part in filter(None, (text, pair))]
    return _Voice.of(self._beside, " ".join(texts))

  def _framed(self, text: str, pair: str) -> _Framed:
    """Frames what a classifier reads: of several windows, the first."""
    traced = [self._clean(raw) for raw in ([text, pair] if pair else [text])]
    texts = [trace.text for trace in traced]
    framed = self._framer.frame([(texts[0], texts[1]) if pair else texts[0]])
    ids, first = framed.ids[0], int(framed.seconds[0])
    sizes = [first - 2, len(ids) - first - 1] if pair else [len(ids) - 2]
    cut = int(framed.sizes[0]) - sum(sizes)
    cls, sep = self._tokenizer.cls_id, self._tokenizer.sep_id
    surfaces = self._tokenizer.pieces([cls])
    parts = self._tokenizer.segment(texts)
    for trace, size, prepared in zip(traced, sizes, parts, strict=True):
      stretches = trace.stretches(prepared)
      if cut and not pair and self._framer.long_text == framing.HEAD_TAIL:
        read = framing.both_ends(len(stretches), size)
        stretches = [stretches[i] for i in read]
      surfaces += [*stretches[:size], *self._tokenizer.pieces([sep])]
    segments = np.zeros(len(ids), np.int32)
    segments[first:] = 1
    return _Framed(ids, surfaces, segments, cut, len(framed.ids))

  def _padded(self, framed: _Framed) -> tuple[tf.Tensor, ...]:
    """Returns ids, mask and segments, [1, length], of one of few lengths."""
    known = length_buckets.lengths(self._framer.max_seq_length)
    room = next(size for size in known if size >= len(framed.ids))
    after = (0, room - len(framed.ids))
    return tuple(
      tf.constant(np.pad(row, after, constant_values=filler)[None])
      for row, filler in (
        (framed.ids, self._tokenizer.pad_id),
        (np.ones_like(framed.ids), 0),
        (framed.segments, 0),
      )
    )

  def _words(self, framed: _Framed) -> np.ndarray:
    """Numbers the words; a special piece is one of its own.

    A piece without letters of the text, such as "▁" alone, begins the word of
    the next piece, unless it ends a word.
    """
    special = self._is_frame[framed.ids]
    is_blank = np.array([not surface.strip() for surface in framed.surfaces])
    marked = self._tokenizer.begins_words(framed.ids)
    starts = marked.copy()
    starts[1:] &= ~(is_blank & marked)[:-1]
    starts |= special
    starts[1:] |= special[:-1]
    starts[0] = True
    return np.cumsum(starts) - 1

  def _shown(self, number: int, surface: str) -> str:
    """Returns a piece with the letters that the text has for it."""
    (name,) = self._tokenizer.pieces([number])
    letters = "▁".join(surface.split())
    if not letters or self._is_frame[number]:
      return name
    if number == self._tokenizer.unk_id and surface[0].isspace():
      return "▁" + letters
    return self._tokenizer.mark(number) + letters

  def _looked(
    self, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns [layers, batch, heads, from, to], and logits where there are."""
    output = self._encoder(ids, mask, segments, with_attentions=True)
    logits = self._scored(output, mask) if self._head else tf.zeros([1])
    return tf.stack(output.attentions), logits

  def _scored(
    self, output: encoders.EncoderOutput, mask: tf.Tensor
  ) -> tf.Tensor:
    """Returns the head's logits of what the encoder gave, [batch, labels]."""
    assert self._head, "there is no score without it"
    hidden, pooler = output.sequence_output, self._encoder.pooler
    return self._head(pooling.vector(self._pooled_by, hidden, mask, pooler))

  def _answer(
    self, framed: _Framed, logits: tf.Tensor, voice: "_Voice"
  ) -> Answer:
    assert self._problem, "a head has one"
    logits = logits + voice.added(1.0)
    probabilities = self._problem.probabilities(logits.numpy())[0]
    label = int(tf.argmax(logits[0]))
    kept = self._is_frame[framed.ids]
    masked = np.where(kept, framed.ids, self._tokenizer.mask_id)
    there = self._padded(dataclasses.replace(framed, ids=masked))
    here = self._padded(framed)
    _, baseline_logits = self._look(*there)
    score = self._log_odds(logits, label)
    baseline_score = self._log_odds(baseline_logits + voice.added(0.0), label)
    points = _FEWEST_POINTS
    while True:
      parts, slopes = self._integrated(here, there[0], label, points, voice)
      answer = Answer(
        list(self._problem.names),
        probabilities,
        parts[: len(framed.ids)],
        float(score[0]),
        float(baseline_score[0]),
        points,
        voice.parts(slopes),
      )
      allowed = _MOST_MISSED * max(
        1.0, abs(answer.score - answer.baseline_score)
      )
      if abs(answer.missed) <= allowed or points == _MOST_POINTS:
        return answer
      points *= 2

  def _integrated(
    self,
    here: tuple[tf.Tensor, ...],
    baseline: tf.Tensor,
    label: int,
    points: int,
    voice: "_Voice",
  ) -> tuple[np.ndarray, np.ndarray]:
    """Integrates by Gauss and Legendre.

    Returns:
      float64 [padded length], what each piece adds; and [labels], the mean
      slope of the score in the logits.
    """
    places, weights = np.polynomial.legendre.leggauss(points)
    places, weights = (places + 1) / 2, weights / 2
    total, slopes = np.zeros(here[0].shape[1]), np.zeros(voice.scores.shape)
    for start in range(0, points, _AT_ONCE):
      block = slice(start, start + _AT_ONCE)
      added, slope = self._add(
        *here,
        baseline,
        tf.constant(label),
        tf.constant(places[block], tf.float32),
        tf.constant(weights[block], tf.float32),
        tf.stack([voice.added(place) for place in places[block]]),
      )
      total += added.numpy()
      slopes += slope.numpy()
    return total, slopes

  def _added(
    self,
    ids: tf.Tensor,
    mask: tf.Tensor,
    segments: tf.Tensor,
    baseline: tf.Tensor,
    label: tf.Tensor,
    places: tf.Tensor,
    weights: tf.Tensor,
    beside: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums gradient times way over points of it.

    Args:
      ids, mask, segments: int32 [1, length].
      baseline: int32 [1, length], ids.
      label: whose score.
      places: [points], 0 at the baseline and 1 at the text.
      weights: [points], of each in the integral.
      beside: [points, labels], what is added to the head's logits.

    Returns:
      [length]; and [labels], the sum of the gradients in the logits.
    """
    assert self._head, "there is no score without it"
    table = self._encoder.embedding_table
    start = tf.gather(table, baseline)  # [1, length, embedding_size]
    way = tf.gather(table, ids) - start
    words = start + places[:, None, None] * way  # [points, length, size]
    copies = [places.shape[0], 1]
    with tf.GradientTape() as tape:
      tape.watch(words)
      inputs = [tf.tile(row, copies) for row in (ids, mask, segments)]
      output = self._encoder(*inputs, words=words)
      logits = self._scored(output, inputs[1]) + beside
      score = self._log_odds(logits, label)
    gradient, slope = tape.gradient(score, [words, logits])
    return (
      tf.einsum("p,pls,ls->l", weights, gradient, way[0]),
      tf.linalg.matvec(slope, weights, transpose_a=True),
    )

  def _log_odds(self, logits: tf.Tensor, label: tf.Tensor | int) -> tf.Tensor:
    """Returns log(p / (1 - p)) of a label, [batch], of [batch, labels]."""
    logit = tf.gather(logits, label, axis=1)
    if self._problem and self._problem.TYPE == problems.MULTI_LABEL:
      return logit  # each label stands for itself
    without_own = tf.one_hot(
      label, logits.shape[1], on_value=-np.inf, off_value=0.0
    )
    return logit - tf.reduce_logsumexp(logits + without_own, axis=1)
