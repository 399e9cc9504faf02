"""Serves a model over HTTP: a page to type into, and a JSON API.

    python -m bert_tweet.serve --model_dir=run/model --port=8000

A classifier answers with labels, and a pretrained model with words for [MASK].

After SIGTERM or Ctrl-C the server finishes the requests that it has begun, in
ten seconds at most.
"""

import uvicorn
from absl import logging

from albert_mn.inference import mask_filling
from albert_mn.models import model_directory
from albert_mn.tasks import classifier
from bert_tweet import connections, mask_server, server
from data_prep.base import options
from data_prep.files import manifest

_GRACE = 10  # seconds


def main(settings: server.Options) -> None:
  """Binds the port, loads the model, and serves until SIGTERM or Ctrl-C."""
  # Bound before the model is loaded: a port that is taken is known at once.
  with connections.bind(settings.host, settings.port) as bound:
    serving = _loaded(settings)
    serving.warm_up()
    host, port = bound.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host

    def started() -> None:
      logging.info(
        "serving %s at http://%s:%d/", settings.model_dir, place, port
      )

    connections.Server(
      uvicorn.Config(
        serving.app(started),
        # uvicorn's own lines would hold the query, and so the text.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        loop="asyncio",
        http="h11",
        ws="none",
      ),
      connections.Limits(settings.max_connections),
    ).run(sockets=[bound])


def _loaded(settings: server.Options) -> server.Base:
  """Returns the server of the classifier or pretrained model in --model_dir."""
  kind = (manifest.find(settings.model_dir) or {}).get("kind")
  if kind == model_directory.PRETRAINED:
    filler = mask_filling.load(settings.model_dir)
    return mask_server.MaskServer(filler, settings)
  predictor = classifier.Predictor.load(settings.model_dir)
  return server.Server(predictor, settings)


if __name__ == "__main__":
  options.run(main, server.Options)
