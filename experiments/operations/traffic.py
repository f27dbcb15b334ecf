"""The traffic: requests for images with prompts whose kind changes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from catimage.scenes.grammar import sample_scene
from catimage.serving.client.client import Client
from catimage.serving.client.errors import ServiceError

CLIENTS = 2
SEED = 1
"""Seed of the prompts; those of the training have another one."""


@dataclass(frozen=True)
class Answer:
    """An answered request.

    Attributes:
        scene_kinds: the kinds of scenes that the prompt was drawn from.
        version: the version of the router that decided.
        candidate: the candidate that made the image.
    """

    scene_kinds: tuple[str, ...]
    version: str
    candidate: str


class Traffic:
    """Clients that send requests at a constant rate until the ``with`` block ends.

    Attributes:
        answers: the answers so far.
        errors: the messages of the requests that have failed.
    """

    def __init__(self, url: str, requests_per_second: float, scene_kinds: tuple[str, ...]) -> None:
        """Prepare the clients.

        Args:
            url: the address of the service.
            requests_per_second: number of requests per second.
            scene_kinds: the kinds of scenes that the prompts are drawn from.
        """
        self._url, self._scene_kinds = url, scene_kinds
        self._interval = CLIENTS / requests_per_second
        self.answers: list[Answer] = []
        self.errors: list[str] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def change(self, scene_kinds: tuple[str, ...]) -> None:
        """Draw the prompts from other kinds of scenes from now on."""
        self._scene_kinds = scene_kinds

    def shares(self, scene_kinds: tuple[str, ...], version: str) -> dict[str, float]:
        """Return the share of each candidate in the answers to prompts of some kinds.

        Args:
            scene_kinds: the kinds of scenes.
            version: the version of the router that decided.
        """
        wanted = (scene_kinds, version)
        found = [a.candidate for a in self.answers if (a.scene_kinds, a.version) == wanted]
        return {name: count / len(found) for name, count in Counter(found).most_common()}

    def _run(self, number: int) -> None:
        rng = np.random.default_rng((SEED, number))
        with Client(self._url, retries=0) as client:
            while not self._stopped.is_set():
                start = time.monotonic()
                self._request(client, rng)
                self._stopped.wait(max(self._interval - (time.monotonic() - start), 0))

    def _request(self, client: Client, rng: np.random.Generator) -> None:
        scene_kinds = self._scene_kinds
        try:
            answer = client.generate(sample_scene(rng, *scene_kinds).caption())
        except ServiceError as error:
            self.errors.append(str(error))
            return
        version = str(answer.document["catimage"]["router_version"])
        self.answers.append(Answer(scene_kinds, version, answer.candidate))
