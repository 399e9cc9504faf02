"""Serves a page that fills [MASK], with a pretrained model, over HTTP.

Guards and limits are those of the server of a classifier.
"""

import asyncio
import concurrent.futures
import contextlib
import json
from collections.abc import Iterator

from absl import logging
from starlette import requests, responses, routing

from albert_mn.inference import filled_lines, mask_filling
from bert_tweet import server
from data_prep.base import options
from data_prep.encoding import masked_texts

_TOP = 8  # words and pieces of an answer
_MOST_MASKS = 8  # of a text: each takes as long as some 10 predictions
_MOST_WAITING = 16  # texts that wait or are being filled
_EXAMPLES = (
  "Монгол улсын нийслэл [MASK] хот.",
  "Хүн бүр эрх [MASK], адилхан эрхтэй.",
  "Тэр өнөөдөр [MASK] явсан.",
  "Монгол[MASK] түүх.",
)


class MaskServer(server.Base):
  """Answers HTTP requests with the candidates for [MASK].

  Args:
    filler: the pretrained model.
    settings: the options of the program; those of labels and batches have no
      meaning here.

  Raises:
    options.InputError: for wrong names of hosts, and for --username, since a
      pretrained model has no labels.
  """

  def __init__(
    self, filler: mask_filling.Filler, settings: server.Options
  ) -> None:
    if settings.username:
      raise options.InputError(
        "a classifier for --username",
        f"a pretrained model at {settings.model_dir}",
        "leave --username out",
      )
    examples = server.examples(settings.examples_file, _EXAMPLES)
    super().__init__(settings, {"examples": examples, "fills": True})
    self._filler = filler
    self._filling = 0

  def warm_up(self) -> None:
    """Traces the model, so that no caller waits for it."""
    self._filler.fill(_EXAMPLES[0], _TOP)

  def _routes(self) -> list[routing.Route]:
    return [
      routing.Route(path, self._post_fill_mask, methods=["POST"])
      for path in ("/fill_mask", "/api/fill_mask")
    ]

  @contextlib.contextmanager
  def _answering(self) -> Iterator[None]:
    self._thread = concurrent.futures.ThreadPoolExecutor(1, "fillings")
    yield
    self._thread.shutdown(cancel_futures=True)

  def _alive(self) -> bool:
    return True  # a ThreadPoolExecutor keeps its thread

  def _waiting(self) -> dict[str, int]:
    return {"queue_texts": self._filling}

  async def _post_fill_mask(
    self, request: requests.Request
  ) -> responses.Response:
    """Answers POST /fill_mask with the candidates for each [MASK] of a text.

    Raises:
      RefusedError: for a wrong request, a text that cannot be filled, or when
        too many texts wait.
    """
    text = self._text(await self._content(request), "text")
    if (masks := text.count(masked_texts.MASK)) > _MOST_MASKS:
      raise server.RefusedError(
        413, f"expected at most {_MOST_MASKS} [MASK] in text; got {masks}"
      )
    if self._filling >= _MOST_WAITING:
      raise server.RefusedError(503, "other texts are waiting: try again", 2)
    if self._settings.log_texts:
      logging.info("text: %s", json.dumps(text, ensure_ascii=False))
    self._filling += 1
    try:
      masks_filled = await asyncio.get_running_loop().run_in_executor(
        self._thread, self._filler.fill, text, _TOP
      )
    except options.InputError as error:
      raise server.RefusedError(
        400, f"expected {error.expected}; got {error.got}"
      ) from error
    finally:
      self._filling -= 1
    self._metrics.add_texts(1)
    return server.json_response({"masks": filled_lines.values(masks_filled)})
