"""Explanations of a model's answer: attention weights and attributions.

The attention weights are the model's own, after softmax. The attributions are
integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365): the
contribution of each piece to the difference of the score between the text and a
baseline, which is the same text with each piece but [CLS] and [SEP] replaced by
[MASK]. Gradients are taken at points on the path from the baseline to the text,
and the contributions sum to about the difference. If a blend adds the scores of
a TF-IDF classifier to the network's, the n-grams of the text contribute too: at
each point their scores count with the share of the path behind it, from 0 to 1.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from albert_mn.models import encoders, pooling
from albert_mn.tasks import blend, classifier, ensembles, problems
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.text import alignment

# If the sum differs from the difference of the scores by more than this share,
# the number of points is doubled.
_MOST_MISSED = 0.01
_FEWEST_POINTS, _MOST_POINTS = 32, 256
# Function from [batch, hidden_size] to logits [batch, labels].
_Head = Callable[[tf.Tensor], tf.Tensor]

_AT_ONCE = 8  # points in a batch: the memory of a training step of 8 texts


@dataclasses.dataclass(frozen=True)
class Answer:
  """A classifier's answer, with the contribution of each piece to it.

  Attributes:
    names: the labels.
    probabilities: float [labels].
    attribution: float64 [length], the contribution of each piece to the score;
      0 for special pieces, which are in the baseline too.
    score: the log-odds of the most probable label, log(p / (1 - p)).
    baseline_score: the log-odds of the same label for the baseline text.
    points: number of points on the path at which gradients were taken.
    grams: n-gram of the text that the TF-IDF classifier knows → its
      contribution, sorted by absolute value, largest first; {} if the network
      answers alone.
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
    """The most probable label."""
    return self.names[int(self.probabilities.argmax())]

  @property
  def missed(self) -> float:
    """The error: all contributions minus the difference of the two scores."""
    parts = self.attribution.sum() + sum(self.grams.values())
    return float(parts - (self.score - self.baseline_score))


@dataclasses.dataclass(frozen=True)
class Explanation:
  """Attention and contributions for a text, or for a pair of texts.

  Attributes:
    pieces: [length], with [CLS] and [SEP]. Each piece has its letters as in the
      given text, behind the tokenizer's mark ("▁" before a word, "##" inside a
      word). A piece that shares its letter with the next piece, such as a byte
      of an emoji, has its vocabulary name.
    words: [length], the number of each piece's word.
    word_texts: the letters of each word in the given text; "▁" for white space
      only.
    segments: [length], 1 in the second text of a pair.
    cut: number of pieces that are not shown, because the model does not read
      them, or reads them in later windows.
    windows: number of windows in which a classifier reads the text; only the
      first window is shown, but a prediction is the mean over all.
    attention: float32 [layers, heads, from, to]; rows sum to 1.
    answer: the answer with the contributions of the pieces; None if the model
      is no classifier.
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
  """A text as ids: `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.

  Attributes:
    ids: int32 [length], the ids of the pieces.
    surfaces: [length], the part of the given text that each piece covers; the
      name of a special piece.
    segments: int32 [length], 1 in the second text of a pair.
    cut: number of the text's pieces that are not among `ids`.
    windows: number of windows in which a classifier reads the text.
  """

  ids: np.ndarray
  surfaces: list[str]
  segments: np.ndarray
  cut: int
  windows: int


@dataclasses.dataclass(frozen=True)
class _TfidfScores:
  """A TF-IDF classifier's scores of one text, which are added to the logits.

  The scores are multiplied by the baseline's factor in the blend already.

  Attributes:
    scores: float64 [labels], the sum of `weights` over the text's n-grams.
    shift: float64 [labels], constant scores, the same for every text.
    names: the n-grams of the text that the TF-IDF classifier knows.
    weights: float64 [labels, n-grams], the score of each n-gram.
  """

  scores: np.ndarray
  shift: np.ndarray
  names: list[str]
  weights: np.ndarray

  @classmethod
  def none(cls, labels: int) -> "_TfidfScores":
    """Returns an object whose scores are all 0, for a model without a blend.

    Args:
      labels: number of labels.
    """
    return cls(np.zeros(labels), np.zeros(labels), [], np.zeros((labels, 0)))

  @classmethod
  def of(cls, tfidf_blend: blend.Blend, text: str) -> "_TfidfScores":
    """Computes the TF-IDF scores of a text, times their factor in the blend.

    Args:
      tfidf_blend: the blend with the TF-IDF classifier.
      text: the text, cleaned; for a pair, both texts with a space between them.
    """
    linear, factor = tfidf_blend.linear, tfidf_blend.factors.baseline
    row = linear.grams.matrix([text])
    weights = factor * row.data * linear.weights[:, row.indices]
    return cls(
      weights.sum(axis=1),
      factor * linear.shift.astype(np.float64),
      [linear.grams.name(number) for number in row.indices],
      weights,
    )

  def added(self, place: float) -> tf.Tensor:
    """Returns the TF-IDF scores at one point of the integration path, [labels].

    They are `shift` + place · `scores`.

    Args:
      place: the point, from 0 (the constant `shift`) to 1 (with all n-grams).
    """
    return tf.constant(self.shift + place * self.scores, tf.float32)

  def parts(self, slopes: np.ndarray) -> dict[str, float]:
    """Returns n-gram → contribution to the score that is explained.

    The n-grams are sorted by absolute contribution, largest first. A word and a
    letter n-gram of the same name share an entry, the sum of both.

    Args:
      slopes: [labels], the gradient of the score with respect to the logits.
    """
    added = slopes @ self.weights
    order = np.argsort(-np.abs(added), kind="stable").tolist()
    parts: dict[str, float] = {}
    for place in order:  # a word and a letter n-gram may have one name
      name = self.names[place]
      parts[name] = parts.get(name, 0.0) + float(added[place])
    return parts


class Explainer:
  """Computes explanations of a model's answers.

    explainer = explainers.load("runs/topics/model")
    explainer.explain("Бөхийн барилдаан").answer.label  # "sports"

  Args:
    encoder: the model's encoder.
    tokenizer: the model's tokenizer.
    max_seq_length: largest number of ids of an input, with special pieces.
    head: function from [batch, hidden_size] to logits [batch, labels]; None for
      a pretrained model or a regression, whose explanations have no answer.
    problem: the meaning of the head's outputs; required with a head.
    clean: cleans a text before the tokenizer.
    long_text: the part of a long text to read, one of framing.LONG_TEXTS.
    tfidf_blend: the blend with a TF-IDF classifier; None if the network answers
      alone.
    pooled_by: the kind of pooling, one of `pooling.KINDS`.
    further: (encoder, head) of each further network of an ensemble. The answer
      is the mean of all networks' logits, and contributions are sums over the
      networks; but only `encoder`'s attention weights are shown.
  """

  def __init__(
    self,
    encoder: encoders.AlbertEncoder,
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int,
    head: _Head | None = None,
    problem: problems.Problem | None = None,
    clean: Callable[[str], alignment.Traced] = alignment.Traced.of,
    long_text: str = framing.HEAD,
    tfidf_blend: blend.Blend | None = None,
    pooled_by: str = pooling.CLS,
    further: Sequence[tuple[encoders.AlbertEncoder, _Head]] = (),
  ) -> None:
    self._networks = [(encoder, head), *further] if head else []
    self._pooled_by = pooled_by
    self._encoder, self._tokenizer, self._tfidf_blend = (
      encoder,
      tokenizer,
      tfidf_blend,
    )
    self._framer = framing.Framer(tokenizer, max_seq_length, long_text)
    self._is_frame = tokenizer.special.copy()  # [CLS] and the like
    self._is_frame[tokenizer.unk_id] = False
    self._head, self._problem, self._clean = head, problem, clean
    self._look = tf.function(self._looked)
    self._add = tf.function(self._added)

  @classmethod
  def of(cls, predictor: classifier.Predictor) -> "Explainer":
    """Returns an explainer of a predictor's answers.

    For a regression the explanations have attention weights, but no answer.
    """
    model, problem = predictor.model, predictor.problem
    tfidf_blend = predictor.blend
    factor = (
      tfidf_blend.factors.network if tfidf_blend else 1 / predictor.temperature
    )

    def scaled(head: _Head) -> _Head:
      return lambda pooled: head(pooled) * factor

    first, *further = [
      (member.encoder, scaled(member.head))
      for member in ensembles.members(model)
    ]
    return cls(
      model.encoder,
      predictor.tokenizer,
      predictor.max_seq_length,
      None if problem.TYPE == problems.REGRESSION else first[1],
      problem,
      predictor.traced,
      predictor.framer.long_text,
      tfidf_blend,
      model.pooled_by,
      further,
    )

  def explain(self, text: str, pair: str = "") -> Explanation:
    """Returns the explanation of the model's answer to a text or a pair.

    Args:
      text: such as `Бөхийн барилдаан эхэллээ.`
      pair: the second text of a pair; "" for a single text.
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
      answer=self._answer(framed, logits, self._tfidf_scores(text, pair))
      if self._head
      else None,
    )

  def _tfidf_scores(self, text: str, pair: str) -> "_TfidfScores":
    """Returns the TF-IDF scores of a text or pair; zeros without a blend.

    The model must have a head.
    """
    assert self._problem, "a head has one"
    if not self._tfidf_blend:
      return _TfidfScores.none(len(self._problem.names))
    texts = [self._clean(part).text for part in filter(None, (text, pair))]
    return _TfidfScores.of(self._tfidf_blend, " ".join(texts))

  def _framed(self, text: str, pair: str) -> _Framed:
    """Returns the pieces of a text or pair, and the letters that each covers.

    A text that is too long for the model is cut. For a text in several windows,
    the result is the first window.
    """
    traced = [self._clean(raw) for raw in ([text, pair] if pair else [text])]
    texts = [trace.text for trace in traced]
    framed = self._framer.frame([(texts[0], texts[1]) if pair else texts[0]])
    ids, first = framed.ids[0], int(framed.second_starts[0])
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
    """Returns ids, mask and segments with padding, each int32 [1, length].

    The padded length is one of `length_buckets.lengths`, so that TensorFlow
    traces few graphs.
    """
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
    """Returns the word number of each piece, [length], from 0 upward.

    A special piece is a word by itself. A piece without letters, such as "▁"
    alone, starts the word of the next piece, unless it ends a word.
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
    """Returns the text to display for a piece, with the input's letters.

    For a special piece, or a piece without letters, it is the vocabulary name.

    Args:
      number: the piece's id.
      surface: the part of the given text that the piece covers.
    """
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
    """Computes the model; returns its attention weights and its logits.

    Args:
      ids, mask, segments: int32 [batch, length].

    Returns:
      the weights of the first network, [layers, batch, heads, from, to]; and
        the mean logits of all networks, [batch, labels], or a single 0 if the
        model has no head.
    """
    output = self._encoder(ids, mask, segments, with_attentions=True)
    outputs = [output] if self._networks else []
    outputs += [
      encoder(ids, mask, segments) for encoder, _ in self._networks[1:]
    ]
    logits = self._scored(outputs, mask) if outputs else tf.zeros([1])
    return tf.stack(output.attentions), logits

  def _scored(
    self, outputs: Sequence[encoders.EncoderOutput], mask: tf.Tensor
  ) -> tf.Tensor:
    """Returns the mean logits of the networks, [batch, labels].

    Args:
      outputs: the output of each network's encoder.
      mask: int32 [batch, length].
    """
    logits = []
    for output, (encoder, head) in zip(outputs, self._networks, strict=True):
      hidden, pooler = output.sequence_output, encoder.pooler
      logits.append(head(pooling.vector(self._pooled_by, hidden, mask, pooler)))
    return ensembles.mean(logits)

  def _answer(
    self, framed: _Framed, logits: tf.Tensor, tfidf: "_TfidfScores"
  ) -> Answer:
    """Returns the model's answer to a text, and the contribution of each piece.

    The contributions are integrals, computed at 32 points. The number of points
    is doubled, up to 256, until the error is at most 1 % of the difference of
    the scores, or 0.01 if the difference is below 1.

    Args:
      framed: the text.
      logits: [1, labels], the logits of the network.
      tfidf: the TF-IDF scores of the text, which are added to the logits.
    """
    assert self._problem, "a head has one"
    logits = logits + tfidf.added(1.0)
    probabilities = self._problem.probabilities(logits.numpy())[0]
    label = int(tf.argmax(logits[0]))
    kept = self._is_frame[framed.ids]
    masked = np.where(kept, framed.ids, self._tokenizer.mask_id)
    there = self._padded(dataclasses.replace(framed, ids=masked))
    here = self._padded(framed)
    _, baseline_logits = self._look(*there)
    score = self._log_odds(logits, label)
    baseline_score = self._log_odds(baseline_logits + tfidf.added(0.0), label)
    points = _FEWEST_POINTS
    while True:
      parts, slopes = self._integrated(here, there[0], label, points, tfidf)
      answer = Answer(
        list(self._problem.names),
        probabilities,
        parts[: len(framed.ids)],
        float(score[0]),
        float(baseline_score[0]),
        points,
        tfidf.parts(slopes),
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
    tfidf: "_TfidfScores",
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the contributions of pieces: gradients integrated over a path.

    The path leads from the baseline text to the text. The integral is computed
    by Gauss-Legendre quadrature.

    Args:
      here: ids, mask and segments of the text, as `_padded` returns them.
      baseline: int32 [1, padded length], the ids of the baseline text.
      label: the number of the label whose score is explained.
      points: number of points of the quadrature.
      tfidf: the TF-IDF scores of the text.

    Returns:
      the contribution of each piece, float64 [padded length]; and the mean
        gradient of the score with respect to the logits, [labels].
    """
    places, weights = np.polynomial.legendre.leggauss(points)
    places, weights = (places + 1) / 2, weights / 2
    total, slopes = np.zeros(here[0].shape[1]), np.zeros(tfidf.scores.shape)
    for start in range(0, points, _AT_ONCE):
      block = slice(start, start + _AT_ONCE)
      added, slope = self._add(
        *here,
        baseline,
        tf.constant(label),
        tf.constant(places[block], tf.float32),
        tf.constant(weights[block], tf.float32),
        tf.stack([tfidf.added(place) for place in places[block]]),
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
    tfidf_scores: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the integral's sum over a block of points of the path.

    Args:
      ids, mask, segments: int32 [1, length].
      baseline: int32 [1, length], the ids of the baseline text.
      label: the label whose score is explained.
      places: [points], 0 at the baseline and 1 at the text.
      weights: [points], the quadrature weights.
      tfidf_scores: [points, labels], the TF-IDF scores, added to the head's
        logits.

    Returns:
      the sum for each piece, [length], of weight times gradient times the
        difference between text and baseline; and the weighted sum of the
        gradients with respect to the logits, [labels].
    """
    ways, words = [], []
    for encoder, _ in self._networks:
      table = encoder.embedding_table
      start = tf.gather(table, baseline)  # [1, length, embedding_size]
      ways.append(tf.gather(table, ids) - start)
      # [points, length, size]
      words.append(start + places[:, None, None] * ways[-1])
    copies = [places.shape[0], 1]
    with tf.GradientTape() as tape:
      tape.watch(words)
      inputs = [tf.tile(row, copies) for row in (ids, mask, segments)]
      outputs = [
        encoder(*inputs, words=rows)
        for (encoder, _), rows in zip(self._networks, words, strict=True)
      ]
      logits = self._scored(outputs, inputs[1]) + tfidf_scores
      score = self._log_odds(logits, label)
    gradients, slope = tape.gradient(score, [words, logits])
    added = [
      tf.einsum("p,pls,ls->l", weights, gradient, way[0])
      for gradient, way in zip(gradients, ways, strict=True)
    ]
    return tf.add_n(added), tf.linalg.matvec(slope, weights, transpose_a=True)

  def _log_odds(self, logits: tf.Tensor, label: tf.Tensor | int) -> tf.Tensor:
    """Returns log(p / (1 - p)), with p the probability of a label: [batch].

    Args:
      logits: [batch, labels].
      label: the number of the label.
    """
    logit = tf.gather(logits, label, axis=1)
    if self._problem and self._problem.TYPE == problems.MULTI_LABEL:
      return logit  # the logit of a sigmoid is the log-odds
    without_own = tf.one_hot(
      label, logits.shape[1], on_value=-np.inf, off_value=0.0
    )
    return logit - tf.reduce_logsumexp(logits + without_own, axis=1)
