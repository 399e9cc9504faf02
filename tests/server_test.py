"""Tests of the server over HTTP: good and bad requests, load, shutdown."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import pathlib
import resource
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import requests
from starlette import requests as starlette_requests

from albert_mn.tasks import classifier
from bert_tweet import batching, server
from data_prep.base import options
from tests import running, serving

TEXT = "хүн бүр эрхтэй"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running_server(
  topics: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[serving.Serving]:
  log = tmp_path_factory.mktemp("server") / "log"
  with serving.serving(topics, log, "--max_text_bytes=2000") as started:
    yield started


@pytest.fixture(scope="module")
def predictor(topics: str) -> classifier.Predictor:
  return classifier.Predictor.load(topics)


def _post(
  started: serving.Serving, content: object, path: str = "predict"
) -> requests.Response:
  raw = content if isinstance(content, bytes) else json.dumps(content)
  return requests.post(
    f"{started.url}/api/{path}", data=raw, headers=JSON, timeout=60
  )


def test_one_text_gets_the_predictors_answer(
  running_server: serving.Serving, predictor: classifier.Predictor
) -> None:
  answer = _post(running_server, {"text": TEXT}).json()
  assert answer["label"] == "эрх"
  (expected,) = predictor.probabilities([TEXT])
  assert list(answer["probabilities"]) == predictor.names
  np.testing.assert_allclose(
    list(answer["probabilities"].values()), expected, atol=1e-5
  )


def test_many_texts_are_answered_in_their_order(
  running_server: serving.Serving, predictor: classifier.Predictor
) -> None:
  texts = [("улс " if i % 3 else "тэгш ") * (1 + i) for i in range(20)]
  answer = _post(running_server, {"texts": texts}).json()["predictions"]
  probabilities = [list(row["probabilities"].values()) for row in answer]
  np.testing.assert_allclose(
    probabilities, predictor.probabilities(texts), atol=1e-5
  )


def test_the_predecessors_address_answers_with_its_keys(
  running_server: serving.Serving,
) -> None:
  def ask() -> dict[str, object]:
    return requests.get(
      f"{running_server.url}/api/to_back_end/predict",
      params={"text": TEXT},
      timeout=60,
    ).json()

  first, second = ask(), ask()
  assert list(first) == ["username", "score", "req_count"]
  assert first["username"] == "эрх"
  assert isinstance(first["score"], str)
  assert 0.5 < float(first["score"]) <= 1
  assert second["req_count"] == first["req_count"] + 1  # type: ignore[operator]


BAD: dict[str, tuple[object, int, str]] = {
  "no JSON": (b"text=a", 400, "expected JSON"),
  "nothing": (b"", 400, "expected JSON"),
  "not UTF-8": ('{"text": "хүн"}'.encode("cp1251", "replace"), 400, "UTF-8"),
  "deep": (b"[" * 10_000, 400, "JSON"),
  "a list": ([TEXT], 400, '{"text"'),
  "no text": ({"texte": TEXT}, 400, "no text"),
  "a number": ({"text": 3}, 400, "text to be a string"),
  "null": ({"text": None}, 400, "text to be a string"),
  "both": ({"text": TEXT, "texts": [TEXT]}, 400, "one of"),
  "no texts": ({"texts": []}, 400, "one of"),
  "null texts": ({"texts": None}, 400, "one of"),
  "texts by name": ({"texts": {"a": TEXT}}, 400, "one of"),
  "a long number": (b'{"text": ' + b"1" * 5000 + b"}", 400, "expected JSON"),
  "a long number beside a text": (
    b'{"text": "a", "n": [-' + b"9" * 9000 + b"]}",
    400,
    "expected JSON",
  ),
  "a long fraction": (b'{"text": 0.' + b"3" * 9000 + b"}", 400, "a string"),
  "a long power": (
    b'{"text": "a", "n": 1e' + b"9" * 9000 + b"}",
    400,
    "finite",
  ),
  "no number": (b'{"text": "a", "n": NaN}', 400, "finite"),
  "empty": ({"text": " \n"}, 400, "got nothing"),
  "half a letter": (b'{"text": "\\ud83d"}', 400, "half"),
  "long": ({"text": "ө" * 1001}, 413, "at most 2000 bytes; got 2002"),
  "too many": ({"texts": ["a"] * 513}, 413, "at most 512 texts"),
  "a long body": (b'{"text": "' + b"a" * 3_000_000, 413, "at most 16000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_told_why(
  running_server: serving.Serving, name: str
) -> None:
  content, status, reason = BAD[name]
  answer = _post(running_server, content)
  assert answer.status_code == status
  assert answer.headers["Content-Type"] == "application/json"
  assert reason in answer.json()["error"]
  assert len(answer.content) < 300
  of_one_text = name not in (
    "both",
    "no texts",
    "null texts",
    "texts by name",
    "too many",
    "a list",
  )
  if of_one_text:
    assert _post(running_server, content, "attention").status_code in (400, 413)


BAD_TEXTS: dict[str, tuple[object, str]] = {
  "empty": ("", "to be a text; got nothing"),
  "spaces": (" \u00a0\u3000\t", "to be a text; got nothing"),
  "a line break": ("\r\n", "to be a text; got nothing"),
  "null": (None, "to be a string"),
  "a number": (3.5, "to be a string"),
  "a pair": ([TEXT, TEXT], "to be a string"),
  "an object": ({"text": TEXT}, "to be a string"),
  "long": ("ө" * 1001, "of at most 2000 bytes; got 2002"),
  "half a letter": ("\ud83d", "got half of one"),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_bad_text_has_its_own_error_beside_the_answers_to_the_others(
  running_server: serving.Serving,
  predictor: classifier.Predictor,
  name: str,
  place: int,
) -> None:
  """In the bug report "Right where it is silently wrong", all three got 400."""
  bad, reason = BAD_TEXTS[name]
  good = ["хүн бүр эрхтэй", "үүрэг " * 150]
  texts: list[object] = list(good)
  texts.insert(place, bad)
  response = _post(running_server, {"texts": texts})
  assert response.status_code == 200
  answers = response.json()["predictions"]
  error = answers.pop(place)
  assert list(error) == ["error"]
  assert f"texts[{place}]" in error["error"]
  assert reason in error["error"]
  probabilities = [list(answer["probabilities"].values()) for answer in answers]
  np.testing.assert_allclose(
    probabilities, predictor.probabilities(good), atol=1e-5
  )


def test_texts_that_are_all_bad_are_answered_one_by_one(
  running_server: serving.Serving,
) -> None:
  texts = [bad for bad, _ in BAD_TEXTS.values()]
  response = _post(running_server, {"texts": texts})
  assert response.status_code == 200
  answers = response.json()["predictions"]
  for place, (_, reason) in enumerate(BAD_TEXTS.values()):
    assert list(answers[place]) == ["error"]
    assert f"texts[{place}]" in answers[place]["error"]
    assert reason in answers[place]["error"]


def test_a_query_that_is_not_utf8_or_empty_is_told_why(
  running_server: serving.Serving,
) -> None:
  address = f"{running_server.url}/api/to_back_end/predict"
  for query, reason in (("text=%D1", "UTF-8"), ("", "got nothing")):
    answer = requests.get(f"{address}?{query}", timeout=60)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
  "media_type",
  [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "text/plain",
    "text/plain;application/json",
    "text/json",
    "",
    "application/jsonp",
  ],
)
def test_a_form_or_plain_text_is_refused(
  running_server: serving.Serving, media_type: str
) -> None:
  """Pages of other sites can send them ("Nothing lost, no one let in")."""
  for path in ("predict", "attention"):
    answer = requests.post(
      f"{running_server.url}/api/{path}",
      data=json.dumps({"text": TEXT}),
      headers={"Content-Type": media_type},
      timeout=60,
    )
    assert answer.status_code == 415
    assert "expected Content-Type: application/json" in answer.json()["error"]


def test_json_may_state_its_charset(running_server: serving.Serving) -> None:
  answer = requests.post(
    f"{running_server.url}/api/predict",
    json.dumps({"text": TEXT}),
    headers={"Content-Type": "Application/JSON; charset=utf-8"},
    timeout=60,
  )
  assert answer.status_code == 200


def test_another_site_and_another_host_are_refused(
  running_server: serving.Serving,
) -> None:
  for headers, status in (
    ({"Host": "evil.example"}, 421),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Origin": "http://evil.example"}, 403),
  ):
    for path in ("", "healthz", "metrics", "nowhere"):
      answer = requests.get(
        f"{running_server.url}/{path}", headers=headers, timeout=60
      )
      assert answer.status_code == status
      assert "expected" in answer.json()["error"]
      assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer = requests.post(
      f"{running_server.url}/api/predict",
      json.dumps({"text": TEXT}),
      headers={**JSON, **headers},
      timeout=60,
    )
    assert answer.status_code == status


def test_no_answer_leads_to_where_a_header_says(
  running_server: serving.Serving,
) -> None:
  for path in ("healthz/", "api/predict/", "/", "/evil.example/", "api"):
    answer = requests.get(
      f"{running_server.url}/{path}",
      headers={"Host": "localhost:1"},
      allow_redirects=False,
      timeout=60,
    )
    assert answer.status_code == 404
    assert "Location" not in answer.headers


def test_the_longest_text_that_is_allowed_is_answered(
  running_server: serving.Serving,
) -> None:
  escaped = b'{"text": "' + b"\\u04e9" * 1000 + b'"}'
  assert _post(running_server, escaped).status_code == 200


def test_a_caller_who_stops_half_way_holds_nobody_up(
  running_server: serving.Serving,
) -> None:
  host, port = urllib.parse.urlsplit(running_server.url).netloc.split(":")
  with socket.create_connection((host, int(port))) as half:
    half.sendall(
      b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    )
    assert _post(running_server, {"text": TEXT}).ok
  assert _post(running_server, {"text": TEXT}).ok


SLOW = (
  b"",
  b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
  b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
  b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{",
  b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


def test_a_body_that_takes_too_long_is_told_so(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  async def dripping() -> dict[str, object]:
    await asyncio.sleep(0.02)
    return {"type": "http.request", "body": b"a", "more_body": True}

  monkeypatch.setattr(server, "_BODY_SECONDS", 0.2)
  scope = {"type": "http", "method": "POST", "headers": []}
  request = starlette_requests.Request(scope, dripping)
  with pytest.raises(
    server.RefusedError, match=r"the body in 0.2 s"
  ) as refused:
    asyncio.run(server._body(request, 1000))
  assert refused.value.status_code == 408


@contextlib.contextmanager
def _slow_callers(started: serving.Serving, count: int) -> Iterator[None]:
  """Holds connections whose callers send no whole request or read nothing."""
  netloc = urllib.parse.urlsplit(started.url)
  with contextlib.ExitStack() as stack:
    for number in range(count):
      address = (netloc.hostname, netloc.port)
      made = stack.enter_context(socket.create_connection(address, timeout=20))
      made.sendall(SLOW[number % len(SLOW)])
    yield


def _usual_seconds(started: serving.Serving) -> float:
  """Returns the median time of 80 requests of 16 clients."""

  def ask(_: int) -> list[float]:
    seconds = []
    with requests.Session() as session:
      for _ in range(5):
        began = time.monotonic()
        answer = session.post(
          f"{started.url}/api/predict", json={"text": TEXT}, timeout=60
        )
        assert answer.status_code == 200
        seconds.append(time.monotonic() - began)
    return seconds

  with concurrent.futures.ThreadPoolExecutor(16) as clients:
    return float(np.median(list(clients.map(ask, range(16)))))


def test_idle_and_slow_callers_hold_nobody_up(
  running_server: serving.Serving,
) -> None:
  """A bug report had 1,000 such callers; here are 200.

  It is "Nothing lost, no one let in".
  """
  before = _usual_seconds(running_server)
  with _slow_callers(running_server, 200):
    beside = _usual_seconds(running_server)
  after = _usual_seconds(running_server)
  # 0.1 s for other work on the machine.
  assert beside < 2 * max(before, after) + 0.1


def test_a_server_without_free_files_answers_and_logs_little(
  running_server: serving.Serving,
) -> None:
  """A bug report had a log of 277 MB in 43 seconds.

  It is "Nothing lost, no one let in".
  """
  pid, files = running_server.process.pid, resource.RLIMIT_NOFILE
  usual = resource.prlimit(pid, files)
  fewer = len(os.listdir(f"/proc/{pid}/fd")) + 20
  size = running_server.log.stat().st_size
  resource.prlimit(pid, files, (fewer, usual[1]))
  try:
    with _slow_callers(running_server, 80):
      for _ in range(3):
        answer = requests.get(f"{running_server.url}/healthz", timeout=20)
        assert answer.status_code == 200
  finally:
    resource.prlimit(pid, files, usual)
  grown = running_server.log.read_bytes()[size:]
  assert grown.count(b"cannot accept a connection") == 1
  assert len(grown) < 4000


def test_every_answer_forbids_what_it_does_not_need(
  running_server: serving.Serving,
) -> None:
  for path in ("", "healthz", "metrics", "nowhere", "api/predict"):
    headers = requests.get(f"{running_server.url}/{path}", timeout=60).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers
    assert "server" not in headers
  page = requests.get(running_server.url, timeout=60).text
  assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
  assert "https://" not in page


def test_an_answer_holds_no_markup(running_server: serving.Serving) -> None:
  text = "</script><img src=x onerror=alert(1)> эрх"
  answer = _post(running_server, {"text": text}, "attention")
  assert "<" not in answer.text
  assert "<" in "".join(answer.json()["pieces"] + answer.json()["wordTexts"])


def test_metrics_count_what_happened(running_server: serving.Serving) -> None:
  def counts() -> dict[str, float]:
    text = requests.get(f"{running_server.url}/metrics", timeout=60).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(v) for name, _, v in (x.rpartition(" ") for x in lines)}

  before = counts()
  _post(running_server, {"texts": [TEXT] * 5})
  requests.get(f"{running_server.url}/a/{TEXT}", timeout=60)
  after = counts()
  grown = {name: after[name] - before.get(name, 0) for name in after}
  route = 'bert_tweet_requests_total{path="%s",status="%d"}'
  assert grown["bert_tweet_texts_total"] == 5
  assert grown[route % ("/api/predict", 200)] == 1
  assert grown[route % ("other", 404)] == 1, "no label for each path that comes"
  assert grown["bert_tweet_batch_size_sum"] == 5
  assert grown["bert_tweet_request_seconds_count"] == 3
  assert after["bert_tweet_queue_texts"] == 0


def test_no_text_is_in_the_log(running_server: serving.Serving) -> None:
  _post(running_server, {"text": "нууц үг"})
  requests.get(
    f"{running_server.url}/api/to_back_end/predict",
    params={"text": "нууц үг"},
    timeout=60,
  )
  log = running_server.log.read_text()
  assert "POST /api/predict 200" in log
  assert "нууц" not in log
  assert urllib.parse.quote("нууц") not in log


def test_200_good_and_bad_requests_at_once_get_what_is_theirs(
  running_server: serving.Serving, predictor: classifier.Predictor
) -> None:
  texts = ["эрх тэгш " * (1 + i % 20) + str(i) for i in range(200)]
  expected = predictor.probabilities(texts)

  def ask(number: int) -> None:
    if number % 4 == 3:
      content, status, _ = list(BAD.values())[number % len(BAD)]
      assert _post(running_server, content).status_code == status
    else:
      answer = _post(running_server, {"text": texts[number]}).json()
      np.testing.assert_allclose(
        list(answer["probabilities"].values()), expected[number], atol=1e-5
      )

  with concurrent.futures.ThreadPoolExecutor(200) as callers:
    for done in [callers.submit(ask, i) for i in range(200)]:
      done.result()
  assert requests.get(f"{running_server.url}/healthz", timeout=60).ok


def test_sigterm_lets_a_request_under_way_end_and_texts_are_logged_on_request(
  topics: str, predictor: classifier.Predictor, tmp_path: pathlib.Path
) -> None:
  # The text waits three seconds for others.
  flags = ("--max_wait_ms=3000", "--log_texts", "--username=Болд, Дулмаа")
  with serving.serving(topics, tmp_path / "log", *flags) as started:
    with concurrent.futures.ThreadPoolExecutor() as callers:
      waiting = callers.submit(_post, started, {"text": "эрх тэгш"})
      while "эрх тэгш" not in started.log.read_text():
        time.sleep(0.02)
      code = started.stop()
      answer = waiting.result()
    named = dict(zip(predictor.names, ["Болд", "Дулмаа"], strict=True))
    assert answer.ok
    assert answer.json()["label"] == named["эрх"]
    assert code == -15
    with pytest.raises(requests.ConnectionError):
      _post(started, {"text": TEXT})


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
  with socket.create_server(("127.0.0.1", 0)) as listener:
    yield listener.getsockname()[1]


@pytest.mark.slow
def test_a_port_that_is_taken_is_known_before_the_model_is_loaded(
  programs: running.Programs, taken: int
) -> None:
  error = programs.refuse(
    "-m", "bert_tweet.serve", "--model_dir=nowhere", f"--port={taken}"
  )
  assert f"port {taken}" in error


@pytest.mark.parametrize(
  "names",
  [
    "Болд",
    "Болд,Болд",
    "Болд, Болд ",
    "Болд,",
    ",Болд",
    ",",
    " , ",
    "а,б,в",
    "а,а,б",
    "а,б,б",
    "а,,б",
    "а,б,",
    "Болд,Бо\u200bлд",
    "Сүхэй,Сүхэи\u0306",
    "Болд Б,Болд\u00a0 Б",
    "Болд,\u200b",
  ],
)
def test_names_that_do_not_fit_the_labels_are_refused(
  predictor: classifier.Predictor, names: str
) -> None:
  settings = server.Options(model_dir="x", username=names)
  with pytest.raises(options.InputError, match="2 different names"):
    server.Server(predictor, settings)


def test_names_for_all_labels_are_answered_in_their_place(
  predictor: classifier.Predictor,
) -> None:
  settings = server.Options(model_dir="x", username="болд, Болд")
  made = server.Server(predictor, settings)
  assert made._prediction(np.array([0.25, 0.75])) == {
    "label": "Болд",
    "probabilities": {"болд": 0.25, "Болд": 0.75},
  }


def test_a_classifier_of_pairs_is_refused(
  predictor: classifier.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
  parameters = {**predictor.manifest["parameters"], "text_pair": True}
  monkeypatch.setitem(predictor.manifest, "parameters", parameters)
  with pytest.raises(options.InputError, match="a classifier of single texts"):
    server.Server(predictor, server.Options(model_dir="x"))


# The queue, with a function in the place of a model.


class _Slow:
  """A model that doubles numbers when `go` is set; it keeps batch sizes."""

  def __init__(self) -> None:
    self.go, self.sizes = threading.Event(), list[int]()

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    self.sizes.append(len(texts))
    assert self.go.wait(30)
    if "bad" in texts:
      raise ValueError("bad")
    return np.array([[2.0 * int(text)] for text in texts])


def test_what_gathers_behind_a_batch_is_the_next_batch() -> None:
  async def run() -> None:
    model = _Slow()
    batcher = batching.Batcher(model, 4, 0.0, 100)
    calls = [asyncio.create_task(batcher.submit(["0"]))]
    while not model.sizes:
      await asyncio.sleep(0.01)
    calls += [
      asyncio.create_task(batcher.submit([str(i), str(i + 1)]))
      for i in range(1, 7)
    ]
    await asyncio.sleep(0.05)
    model.go.set()
    rows = await asyncio.gather(*calls)
    assert [x.tolist() for x in rows[1:]] == [
      [[2.0 * i], [2.0 * i + 2]] for i in range(1, 7)
    ]
    assert model.sizes == [1, 4, 4, 4]
    batcher.close()

  asyncio.run(run())


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() -> (
  None
):
  async def run() -> None:
    model = _Slow()
    batcher = batching.Batcher(model, 1, 0.0, 3)
    first = asyncio.create_task(batcher.submit(["1"]))
    while not model.sizes:  # then it is no longer in the queue
      await asyncio.sleep(0.01)
    rest = asyncio.create_task(batcher.submit(["2", "3"]))
    await asyncio.sleep(0)
    with pytest.raises(batching.QueueFullError):
      await batcher.submit(["4", "5"])
    last = asyncio.create_task(batcher.submit(["6"]))
    await asyncio.sleep(0)
    model.go.set()
    assert [(await x).tolist() for x in (first, rest, last)] == [
      [[2.0]],
      [[4.0], [6.0]],
      [[12.0]],
    ]
    assert (await batcher.submit(["7"])).tolist() == [[14.0]]
    batcher.close()
    with pytest.raises(batching.QueueFullError):
      await batcher.submit(["8"])

  asyncio.run(run())


def test_a_batch_that_fails_is_told_to_its_callers_and_ends_nothing() -> None:
  async def run() -> None:
    model = _Slow()
    model.go.set()
    batcher = batching.Batcher(model, 4, 0.0, 100)
    with pytest.raises(ValueError, match="bad"):
      await batcher.submit(["bad", "1"])
    assert (await batcher.submit(["1"])).tolist() == [[2.0]]
    batcher.close()

  asyncio.run(run())


def test_a_predictor_that_loses_a_text_ends_its_callers_alone() -> None:
  async def run() -> None:
    batcher = batching.Batcher(lambda _: np.zeros((1, 1)), 4, 0.0, 100)
    async with asyncio.timeout(10):
      with pytest.raises(ValueError, match="shorter"):
        await batcher.submit(["1", "2"])
      assert (await batcher.submit(["1"])).tolist() == [[0.0]]
    batcher.close()

  asyncio.run(run())


def test_no_texts_are_answered_at_once_even_while_others_wait() -> None:
  """In a bug report the call never returned.

  It is "Right where it is silently wrong".
  """

  async def run() -> None:
    model = _Slow()
    batcher = batching.Batcher(model, 4, 0.0, 1)
    waiting = asyncio.create_task(batcher.submit(["1"]))
    for _ in range(3):
      async with asyncio.timeout(10):
        assert len(await batcher.submit([])) == 0
    model.go.set()
    assert (await waiting).tolist() == [[2.0]]
    batcher.close()
    assert len(await batcher.submit([])) == 0

  asyncio.run(run())


def test_no_texts_have_no_scores(predictor: classifier.Predictor) -> None:
  predict = batching.of_like_length(predictor.probabilities, 32)
  assert predict([]).shape == (0, 2)


def test_texts_of_like_length_share_a_call_without_an_empty_row() -> None:
  calls = []

  def predict(texts: Sequence[str], size: int) -> np.ndarray:
    calls.append((len(texts), size))
    return np.array([[len(text)] for text in texts])

  lengths = [3, 500, 9, 20, 400, 63, 64, 1]
  rows = batching.of_like_length(predict, 32)(["ө" * n for n in lengths])
  assert rows[:, 0].tolist() == lengths
  assert sorted(calls) == [(1, 1), (2, 2), (5, 5)]


def test_a_full_server_answers_503_and_when_to_come_back(
  predictor: classifier.Predictor,
) -> None:
  settings = server.Options(
    model_dir="x", max_queue=2, max_batch_size=2, max_wait_ms=60_000
  )
  app = server.Server(predictor, settings).app()

  async def run() -> None:
    async with _Asgi(app) as asgi:
      waiting = asyncio.create_task(asgi.post({"text": TEXT}))
      await asyncio.sleep(0.05)
      status, headers, body = await asgi.post({"texts": [TEXT, TEXT]})
      assert status == 503
      assert headers[b"retry-after"] == b"1"
      assert "queue is full" in body["error"]
      # The second text of a batch of two: both are answered.
      assert (await asgi.post({"text": TEXT}))[0] == 200
      assert (await waiting)[0] == 200

  asyncio.run(run())


class _Asgi:
  """Calls an application as a server does, without a socket."""

  def __init__(self, app: object) -> None:
    self._app = app
    self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()

  async def __aenter__(self) -> "_Asgi":
    self._started = asyncio.Event()
    self._events.put_nowait({"type": "lifespan.startup"})

    async def send(message: dict[str, str]) -> None:
      assert "failed" not in message["type"], message
      self._started.set()

    self._life = asyncio.create_task(
      self._app(
        {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}},
        self._events.get,
        send,
      )  # type: ignore[operator]
    )
    await self._started.wait()
    return self

  async def __aexit__(self, *_: object) -> None:
    self._events.put_nowait({"type": "lifespan.shutdown"})
    await self._life

  async def post(
    self, content: object
  ) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    scope = {
      "type": "http",
      "method": "POST",
      "path": "/api/predict",
      "headers": [(b"content-type", b"application/json")],
      "query_string": b"",
      "root_path": "",
    }
    body = {"type": "http.request", "body": json.dumps(content).encode()}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
      return body

    async def send(message: dict[str, Any]) -> None:
      sent.append(message)

    await self._app(scope, receive, send)  # type: ignore[operator]
    raw = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(raw)
