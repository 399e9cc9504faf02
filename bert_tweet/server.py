"""Serves a page, predictions and attention of a classifier over HTTP.

`Base` has what the server of a pretrained model (mask_server) needs too.

The server is for one machine, or for use behind a proxy: it has no login, no
TLS, and no limit for a single caller. It keeps no text, and logs none without
--log_texts.
"""

import abc
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import time
import urllib.parse
from collections.abc import (
  AsyncIterator,
  Callable,
  Collection,
  Iterator,
  Sequence,
)
from typing import Any

import numpy as np
from absl import logging
from starlette import applications, exceptions, requests, responses, routing

from albert_mn.inference import explanation
from albert_mn.tasks import classifier, problems
from bert_tweet import (
  attention,
  batching,
  callers,
  metrics,
  predictions,
  web_pages,
)
from data_prep.base import options
from data_prep.classification import label_names
from data_prep.files import json_files, storage

_JSON = "application/json"
# Cyrillic escaped as \u0441 is three times as long as in UTF-8, and a request
# may hold several texts.
_BODY_FACTOR = 8
# A body that is too long is read up to this size and discarded: a caller that
# is still sending would not read the reason of the refusal.
_MOST_DISCARDED = 8 << 20
_BODY_SECONDS = 15
_MOST_REASON = 80  # letters; a reason may hold a number of the request
_MOST_EXPLANATIONS = 8  # waiting or running; each takes about a second
_ATTENTION_LIMIT = 1 << 20  # bytes of attention in an answer
_HEADERS = {
  "Cache-Control": "no-store",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
}
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"
_NO_FRAMES = "; frame-ancestors 'none'"
_EXAMPLES = (
  "Залуу бөх барилдаанд түрүүлж, мөрөөдлөө биелүүлэв.",
  "Засгийн газар шинэ хуулийн төслийг өргөн барилаа.",
  "Эрдэмтэд хүний тархины ажиллагааг судалж байна.",
  "Далайн эргийн зочид буудалд хоёр хоног амарлаа.",
)


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options of the server: model, address and limits."""

  model_dir: str = options.option(
    "",
    "Model directory of a classifier, or of a pretrained model, which fills "
    "[MASK] in texts. Required.",
  )
  host: str = options.option(
    "127.0.0.1",
    "Address to listen on. With the default only this machine can "
    "connect. The server has no login: for any other address put a proxy "
    "with a login in front of the server.",
  )
  port: int = options.option(
    8000,
    "Port to listen on. 0 takes a free port.",
    minimum=0,
    maximum=65535,
  )
  allowed_hosts: str = options.option(
    "",
    "Further names under which browsers reach the server, such as a proxy's "
    "tweets.example.org, separated by commas, without ports. Requests for "
    "other names than these, --host, localhost and the address that was "
    "reached are refused, and so are those of other sites' pages.",
  )
  username: str = options.option(
    "",
    "Names that the page shows for the labels, separated by commas, in "
    "the order of the labels, such as Болд,Дулмаа for the labels 0 and 1. "
    "By default the page shows the labels.",
  )
  examples_file: str = options.option(
    "",
    "Text file with an example text in each line, for the page. By "
    "default the page has examples of this project.",
  )
  max_batch_size: int = options.option(
    32,
    "Number of texts that the model reads at once.",
    minimum=1,
    maximum=4096,
  )
  max_wait_ms: float = options.option(
    2.0,
    "Number of milliseconds that a text waits for further texts, so that "
    "the model reads several at once.",
    minimum=0,
    maximum=60_000,
  )
  max_queue: int = options.option(
    512,
    "Number of texts that may wait. Further requests are refused with the "
    "advice to try again.",
    minimum=1,
  )
  max_connections: int = options.option(
    2000,
    "Number of connections that callers may hold at once. A further one "
    "closes the connection that has waited for a caller for the longest time. "
    "Fewer are allowed where the system allows fewer open files.",
    minimum=1,
    maximum=100_000,
  )
  max_text_bytes: int = options.option(
    20_000,
    "Length of the longest text that the server accepts, in bytes of UTF-8.",
    minimum=1,
  )
  log_texts: bool = options.option(
    False,
    "Write the texts of the requests to the log. By default the log "
    "contains no texts.",
  )

  def check(self) -> None:
    options.require(self, "model_dir", "host")


class RefusedError(exceptions.HTTPException):
  """Raised for a request that is refused with a reason.

  Args:
    status: the HTTP status.
    reason: the reason in words, for the caller.
    retry_after: seconds after which a retry may succeed; 0 for never.
  """

  def __init__(self, status: int, reason: str, retry_after: int = 0) -> None:
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    super().__init__(status, reason, headers)


class Base(abc.ABC):
  """A server with a page: its guards, its limits, its counts.

  A subclass adds the paths that a model answers.

  Args:
    settings: the options of the program.
    data: the values that the page's script gets.

  Raises:
    options.InputError: for wrong names of hosts.
  """

  def __init__(self, settings: Options, data: dict[str, Any]) -> None:
    self._settings = settings
    self._guard = callers.Guard(settings.host, settings.allowed_hosts)
    self._metrics = metrics.Metrics()
    self._page = web_pages.document(
      "page.html",
      scripts=["texts.js", "view.js", "page.js"],
      data=json.dumps(data, ensure_ascii=False),
      connect="'self'",
    )
    self._page_policy = web_pages.policy_of(self._page) + _NO_FRAMES

  @abc.abstractmethod
  def warm_up(self) -> None:
    """Traces the model, so that no caller waits for it."""

  @abc.abstractmethod
  def _routes(self) -> list[routing.Route]:
    """Returns the paths that the model answers."""

  @abc.abstractmethod
  def _answering(self) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which the model's threads run."""

  @abc.abstractmethod
  def _alive(self) -> bool:
    """Returns whether the model's thread runs."""

  @abc.abstractmethod
  def _waiting(self) -> dict[str, int]:
    """Returns name → number of texts that wait, for the metrics."""

  def app(self, started: Callable[[], None] = lambda: None) -> Any:
    """Returns the ASGI application.

    Args:
      started: called without arguments when the application can answer.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: applications.Starlette) -> AsyncIterator[None]:
      with self._answering():
        started()
        yield

    routes = [
      routing.Route("/", self._get_page),
      *self._routes(),
      routing.Route("/healthz", self._get_health),
      routing.Route("/metrics", self._get_metrics),
    ]
    inner = applications.Starlette(
      routes=routes,
      exception_handlers={
        exceptions.HTTPException: _refusal,
        Exception: _crash,
      },
      lifespan=lifespan,
    )
    # A redirect of /healthz/ to /healthz would lead to where Host says.
    inner.router.redirect_slashes = False
    paths = {route.path for route in routes}
    return _Watched(inner, self._guard, paths, self._metrics)

  async def _get_page(self, _request: requests.Request) -> responses.Response:
    """Answers GET / with the HTML page of the server."""
    return responses.HTMLResponse(
      self._page, headers={"Content-Security-Policy": self._page_policy}
    )

  async def _get_health(self, _request: requests.Request) -> responses.Response:
    """Answers GET /healthz, for health checks.

    The status is 200 while the model's thread runs, and otherwise 503.
    """
    alive = self._alive()
    return json_response(
      {"status": "ok" if alive else "the model's thread has ended"},
      200 if alive else 503,
    )

  async def _get_metrics(
    self, _request: requests.Request
  ) -> responses.Response:
    """Answers GET /metrics in Prometheus's text format."""
    text = self._metrics.text(self._waiting())
    return responses.Response(
      text, media_type="text/plain; version=0.0.4; charset=utf-8"
    )

  async def _content(self, request: requests.Request) -> dict[str, Any]:
    """Returns the JSON object in a request's body.

    Raises:
      RefusedError: for a body that is not a JSON object, or a Content-Type that
        is not JSON.
    """
    # A page of another site may send a form or plain text without asking.
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != _JSON:
      raise RefusedError(
        415,
        "expected Content-Type: application/json; got "
        f"{media_type[:_MOST_REASON] or 'none'}",
      )
    raw = await _body(request, _BODY_FACTOR * self._settings.max_text_bytes)
    try:
      content = json_files.parsed(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
      raise RefusedError(400, _not_utf8(error)) from error
    # Invalid JSON, or a number that is too long or too large for Python.
    except ValueError as error:
      reason = str(error)[:_MOST_REASON]
      raise RefusedError(400, f"expected JSON; got {reason}") from error
    if not isinstance(content, dict):
      raise RefusedError(400, 'expected {"text": "…"} or {"texts": ["…"]}')
    return content

  def _text(self, content: dict[str, Any], name: str) -> str:
    """Returns the text that a request contains, after checks.

    Args:
      content: the JSON object of the request.
      name: the key of the text.

    Raises:
      RefusedError: when the text is missing or not accepted.
    """
    if name not in content:
      raise RefusedError(400, 'expected {"text": "…"}; got no text')
    return self._checked(content[name], name)

  def _checked(self, text: Any, name: str) -> str:
    """Returns a value of a request if it is a text that the server accepts.

    Args:
      text: the value in the request.
      name: the name of the value in the request, for the reason.

    Raises:
      RefusedError: for a value that is no string, is blank, too long, or
        contains half of a character.
    """
    if not isinstance(text, str):
      raise RefusedError(400, f"expected {name} to be a string")
    try:
      size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
      raise RefusedError(
        400, f"expected whole characters; got half of one in {name}"
      ) from error
    if size > self._settings.max_text_bytes:
      raise RefusedError(
        413,
        f"expected {name} of at most {self._settings.max_text_bytes} "
        f"bytes; got {size}",
      )
    if not text.strip():
      raise RefusedError(400, f"expected {name} to be a text; got nothing")
    return text


class Server(Base):
  """Answers HTTP requests with a classifier.

  Args:
    predictor: the predictor of the classifier.
    settings: the options of the program.

  Raises:
    options.InputError: for a regression or a classifier of pairs, and for wrong
      names of labels or hosts.
  """

  def __init__(
    self, predictor: classifier.Predictor, settings: Options
  ) -> None:
    predictions.require_single_texts(predictor)
    super().__init__(
      settings, {"examples": examples(settings.examples_file, _EXAMPLES)}
    )
    self._problem = _named(predictor.problem, settings.username)
    self._explainer = explanation.Explainer.of(predictor)
    self._explaining = 0
    self._asked = 0  # the predecessor's req_count
    self._predict = batching.of_like_length(
      predictor.probabilities, settings.max_batch_size
    )

  def warm_up(self) -> None:
    """Predicts short texts once, so that no caller waits for TensorFlow.

    TensorFlow traces a graph for each new shape. The batches have 1, 2, 4, …
    texts, up to max_batch_size.
    """
    size = 1
    while size < self._settings.max_batch_size:
      self._predict(["сайн байна уу"] * size)
      size *= 2
    self._predict(["сайн байна уу"] * self._settings.max_batch_size)

  def _routes(self) -> list[routing.Route]:
    return [
      routing.Route("/api/predict", self._post_predict, methods=["POST"]),
      routing.Route("/api/attention", self._post_attention, methods=["POST"]),
      routing.Route("/api/to_back_end/predict", self._get_to_back_end),
    ]

  @contextlib.contextmanager
  def _answering(self) -> Iterator[None]:
    settings = self._settings
    self._batcher = batching.Batcher(
      self._predict,
      settings.max_batch_size,
      settings.max_wait_ms / 1000,
      settings.max_queue,
      self._metrics.add_batch,
    )
    # A thread of its own: a request for a label does not wait for it.
    self._thread = concurrent.futures.ThreadPoolExecutor(1, "explanations")
    # The first explanation traces the model: no caller should wait for it.
    self._thread.submit(self._view, "сайн байна уу")
    yield
    self._batcher.close()
    self._thread.shutdown(cancel_futures=True)

  def _alive(self) -> bool:
    return self._batcher.alive

  def _waiting(self) -> dict[str, int]:
    return {
      "queue_texts": self._batcher.waiting,
      "explanations_waiting": self._explaining,
    }

  async def _post_predict(
    self, request: requests.Request
  ) -> responses.Response:
    """Answers POST /api/predict with the prediction of one or several texts.

    The answer to a body with "text" is one prediction. The answer to a body
    with "texts" is {"predictions": […]}, in which {"error": reason} stands in
    place of the prediction of a bad text.

    Raises:
      RefusedError: for a wrong request, too many texts or a full queue.
    """
    content = await self._content(request)
    if "texts" not in content:
      (scores,) = await self._scores([self._text(content, "text")])
      return json_response(self._prediction(scores))
    texts = content["texts"]
    if not isinstance(texts, list) or not texts or "text" in content:
      raise RefusedError(
        400, "expected one of text and texts, a list of at least one text"
      )
    if len(texts) > self._settings.max_queue:
      raise RefusedError(
        413,
        f"expected at most {self._settings.max_queue} texts at once; "
        f"got {len(texts)}",
      )
    return json_response({"predictions": await self._answers(texts)})

  async def _answers(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns the prediction of each text, or {"error": reason} for a bad text.

    Args:
      texts: the values in the request, which should be strings.

    Raises:
      RefusedError: when the queue is full.
    """
    good: list[str] = []
    errors: dict[int, str] = {}
    for place, text in enumerate(texts):
      try:
        good.append(self._checked(text, f"texts[{place}]"))
      except RefusedError as error:
        errors[place] = error.detail
    rows = iter(await self._scores(good))
    return [
      {"error": errors[place]}
      if place in errors
      else self._prediction(next(rows))
      for place in range(len(texts))
    ]

  async def _post_attention(
    self, request: requests.Request
  ) -> responses.Response:
    """Answers POST /api/attention with the explanation of a text, as JSON.

    Raises:
      RefusedError: for a wrong request, or when too many explanations wait.
    """
    content = await self._content(request)
    text = self._text(content, "text")
    if self._explaining >= _MOST_EXPLANATIONS:
      raise RefusedError(503, "other texts are waiting: try again", 2)
    self._explaining += 1
    try:
      view = await asyncio.get_running_loop().run_in_executor(
        self._thread, self._view, text
      )
    finally:
      self._explaining -= 1
    return responses.Response(view, media_type=_JSON)

  def _view(self, text: str) -> bytes:
    """Returns the explanation of a text as JSON in UTF-8, for web/view.js.

    The label of the answer has its name of --username, if that flag is given.
    """
    explained = self._explainer.explain(text)
    view = attention.view(explained, _ATTENTION_LIMIT)
    if explained.answer:
      place = int(explained.answer.probabilities.argmax())
      view["answer"]["label"] = self._problem.names[place]
    return _escaped(view)

  async def _get_to_back_end(
    self, request: requests.Request
  ) -> responses.Response:
    """Answers GET /api/to_back_end/predict?text=… as mn-tweet-bert did.

    The JSON has username (the label), score (a string) and req_count.
    """
    query = request.scope["query_string"].decode("latin-1")
    try:
      parameters = urllib.parse.parse_qs(query, errors="strict")
    except UnicodeDecodeError as error:
      raise RefusedError(400, _not_utf8(error)) from error
    text = self._checked(parameters.get("text", [""])[0], "text")
    (scores,) = await self._scores([text])
    self._asked += 1
    best = int(scores.argmax())
    return json_response(
      {
        "username": self._problem.names[best],
        "score": str(round(float(scores[best]), 6)),
        "req_count": self._asked,
      }
    )

  async def _scores(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the scores of texts, [texts, labels], and counts the texts.

    With --log_texts the texts are logged.

    Raises:
      RefusedError: when the queue is full.
    """
    if self._settings.log_texts:
      for text in texts:
        logging.info("text: %s", json.dumps(text, ensure_ascii=False))
    try:
      scores = await self._batcher.submit(texts)
    except batching.QueueFullError as error:
      raise RefusedError(503, "the queue is full: try again", 1) from error
    self._metrics.add_texts(len(texts))
    return scores

  def _prediction(self, scores: np.ndarray) -> dict[str, Any]:
    """Returns the prediction of a text, as values for JSON.

    Args:
      scores: [labels], the probabilities.
    """
    return predictions.answer_of(self._problem, scores)


def _named(problem: problems.Problem, username: str) -> problems.Problem:
  """Returns a problem whose labels have the names of --username.

  Args:
    problem: the model's problem.
    username: the names separated by commas; "" keeps the labels.

  Raises:
    options.InputError: for a regression, which has no labels; for more or fewer
      names than labels; for an empty name, or two that look the same.
  """
  if problem.TYPE == problems.REGRESSION:
    raise options.InputError(
      "a classifier, with labels",
      "a regression",
      "ask it with python -m bert_tweet.predict",
    )
  if not username:
    return problem
  names = tuple(name.strip() for name in username.split(","))
  looks = set(map(label_names.look, names))
  if (
    len(names) != len(problem.names) or len(looks) != len(names) or "" in looks
  ):
    raise options.InputError(
      f"{len(problem.names)} different names in --username, for "
      f"{problems.known(problem.names)}",
      f"{len(names)}: {', '.join(map(label_names.shown, names))}",
      "give one for each label, with commas between them",
    )
  return dataclasses.replace(problem, names=names)


def examples(path: str, ours: Sequence[str]) -> list[str]:
  """Returns the example texts of the page: the file's lines that are not blank.

  Args:
    path: the file; "" for none.
    ours: the examples of this project, for a page without a file.
  """
  if not path:
    return list(ours)
  return [line for line in storage.lines(path) if line.strip()]


async def _body(request: requests.Request, most: int) -> bytes:
  """Reads the body of a request; never holds more than `most` bytes.

  Raises:
    RefusedError: for a body that is longer than `most`, not whole after 15 s,
      or broken off.
  """
  raw, size = bytearray(), 0
  try:
    async with asyncio.timeout(_BODY_SECONDS):
      async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
          raw += chunk
        elif size > _MOST_DISCARDED:
          break
  except TimeoutError as error:
    raise RefusedError(
      408, f"expected the body in {_BODY_SECONDS} s"
    ) from error
  except requests.ClientDisconnect as error:
    raise RefusedError(400, "expected a whole body") from error
  if size > most:
    raise RefusedError(413, f"expected a body of at most {most} bytes")
  return bytes(raw)


def _not_utf8(error: UnicodeDecodeError) -> str:
  """Returns the reason that a caller is told for bytes that are not UTF-8.

  Args:
    error: the error of the decoder.
  """
  byte = error.object[error.start]
  return f"expected UTF-8; got byte 0x{byte:02x} at {error.start}"


def _escaped(content: Any) -> bytes:
  """Returns JSON in UTF-8 that is safe inside an HTML page too.

  The characters <, > and &, and two line separators, are escaped.
  """
  text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
  for letter in "<>&\u2028\u2029":
    text = text.replace(letter, f"\\u{ord(letter):04x}")
  return text.encode("utf-8")


def json_response(content: Any, status: int = 200) -> responses.Response:
  """Returns a response with a value as JSON.

  Args:
    content: the value.
    status: the HTTP status.
  """
  return responses.Response(_escaped(content), status, media_type=_JSON)


def _refusal(
  _request: requests.Request, error: Exception
) -> responses.Response:
  """Returns the response to a refused request, with its reason as JSON.

  Args:
    _request: not used.
    error: the HTTPException with status and reason.
  """
  assert isinstance(error, exceptions.HTTPException), "it is mapped to these"
  response = json_response({"error": error.detail}, error.status_code)
  response.headers.update(error.headers or {})
  return response


def _crash(_request: requests.Request, _error: Exception) -> responses.Response:
  """Returns the response to a request that failed by an error of this program.

  Its status is 500, and its JSON refers to the log.
  """
  return json_response({"error": "something went wrong here: see the log"}, 500)


class _Watched:
  """An ASGI application around another: guards, adds headers, counts, logs.

  Args:
    inner: the application inside.
    guard: refuses requests before the inner application gets them.
    paths: the routes of the inner application.
    counts: the metrics that count the answers.
  """

  def __init__(
    self,
    inner: applications.Starlette,
    guard: callers.Guard,
    paths: Collection[str],
    counts: metrics.Metrics,
  ) -> None:
    self._inner, self._guard = inner, guard
    self._paths, self._counts = paths, counts

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
      await self._inner(scope, receive, send)
      return
    began, status = time.monotonic(), 500

    async def sent(message: Any) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
        message["headers"] = _with_headers(message["headers"])
      await send(message)

    try:
      await self._app_for(requests.Request(scope))(scope, receive, sent)
    finally:
      seconds = time.monotonic() - began
      path = scope["path"] if scope["path"] in self._paths else "other"
      self._counts.add_request(path, status, seconds)
      # The query is never logged: it holds the text.
      logging.info(
        "%s %s %d, %.1f ms", scope["method"], path, status, 1000 * seconds
      )

  def _app_for(self, request: requests.Request) -> Any:
    """Returns the ASGI application that is to answer a request.

    It is the inner application; for a request that the guard refuses, it is the
    response with the refusal.
    """
    try:
      self._guard.check(request)
    except exceptions.HTTPException as error:
      return _refusal(request, error)
    return self._inner


def _with_headers(
  headers: list[tuple[bytes, bytes]],
) -> list[tuple[bytes, bytes]]:
  """Returns the headers of an answer, with security headers added.

  A security header that the answer has already is not changed.
  """
  there = {name.lower() for name, _ in headers}
  ours = {**_HEADERS, "Content-Security-Policy": _POLICY + _NO_FRAMES}
  return [
    *headers,
    *(
      (name.lower().encode("ascii"), value.encode("ascii"))
      for name, value in ours.items()
      if name.lower().encode("ascii") not in there
    ),
  ]
