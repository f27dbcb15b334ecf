"""The prompts that the router was trained on, in coordinates for the test of drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Float32, Floats

SHRINKAGE = 0.1
"""Share of the mean variance in the variance of each principal component, so that components with
almost no variance are not amplified without bound."""
NEIGHBORS = 5
"""Number of nearest training prompts whose mean cosine distance is the last coordinate."""
LARGEST = 5000
"""Maximum number of training prompts; of more, a random sample is used."""
MINIMUM = 20
"""Minimum number of training prompts."""
_CHUNK = 1000
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Reference:
    """The training prompts, in coordinates with about unit covariance.

    The last coordinate is the distance to the nearest training prompts, so that prompts that are
    unlike any training prompt differ in the mean, whatever the direction.

    Attributes:
        embeddings: the embeddings, of unit length, (n_prompts, width).
        centre: the mean embedding, (width,).
        transform: the matrix that multiplies centred embeddings, (width, width).
        distances: the distance of each prompt to its nearest other prompts, sorted, (n_prompts,).
        points: the coordinates of the prompts, (n_prompts, width + 1).
    """

    embeddings: Float32
    centre: Float32
    transform: Float32
    distances: Float32
    points: Float32

    @classmethod
    def fit(cls, embeddings: Float32, seed: int = 0) -> Reference:
        """Compute the coordinates from the embeddings of the training prompts.

        Args:
            embeddings: embeddings of unit length, (n_prompts, width), at least two.
            seed: seed of the sample of :data:`LARGEST` prompts.
        """
        if len(embeddings) > LARGEST:
            rows = np.random.default_rng(seed).choice(len(embeddings), LARGEST, replace=False)
            embeddings = embeddings[np.sort(rows)]
        embeddings = np.asarray(embeddings, np.float32)
        centre = embeddings.mean(0)
        centred = (embeddings - centre).astype(float)
        variance, axes = np.linalg.eigh(centred.T @ centred / len(embeddings))
        shrunk = (1 - SHRINKAGE) * np.maximum(variance, 0) + SHRINKAGE * variance.mean()
        transform = (axes / np.sqrt(np.maximum(shrunk, _SMALLEST_VARIANCE))).astype(np.float32)
        distances = _distances(embeddings, embeddings, 1)
        self = cls(embeddings, centre, transform, np.sort(distances), embeddings[:0])
        return cls(
            embeddings, centre, transform, self.distances, self._points(embeddings, distances)
        )

    def coordinates(self, embeddings: Float32) -> Float32:
        """Return the coordinates of new prompts, (n_prompts, width + 1)."""
        embeddings = np.asarray(embeddings, np.float32)
        return self._points(embeddings, _distances(self.embeddings, embeddings, 0))

    def distance_ranks(self, points: Float32) -> Floats:
        """Rank new prompts by their distance to the nearest training prompts.

        Args:
            points: coordinates, (n_prompts, width + 1).

        Returns:
            The share of training prompts that are nearer to other training prompts, (n_prompts,).
        """
        scaled = self._scaled(self.distances)
        ranks: Floats = np.searchsorted(scaled, points[:, -1], side="right") / len(scaled)
        return ranks

    def ranks(self, witness: Float32, points: Float32) -> Floats:
        """Rank points among the training prompts along witnesses.

        Args:
            witness: the witnesses, (n_streams, width + 1).
            points: coordinates of each stream, (n_streams, n_prompts, width + 1).

        Returns:
            The share of training prompts below each point, where equal ones count half,
            (n_streams, n_prompts).
        """
        among = (witness @ self.points.T)[:, None, :]
        values = np.einsum("sd,snd->sn", witness, points)[:, :, None]
        ranks: Floats = ((among < values).mean(-1) + (among <= values).mean(-1)) / 2
        return ranks

    def _points(self, embeddings: Float32, distances: Float32) -> Float32:
        linear = (embeddings - self.centre) @ self.transform
        return np.concatenate([linear, self._scaled(distances)[:, None]], axis=1)

    def _scaled(self, distances: Float32) -> Float32:
        spread = max(float(self.distances.std()), _SMALLEST_VARIANCE)
        scaled: Float32 = (distances - self.distances.mean()) / np.float32(spread)
        return scaled


def _distances(reference: Float32, embeddings: Float32, omitted: int) -> Float32:
    """Return the mean cosine distance of prompts to their nearest reference prompts, (n_prompts,).

    Args:
        reference: the reference prompts, (n_reference, width).
        embeddings: the prompts, (n_prompts, width).
        omitted: the number of nearest reference prompts that do not count: 1 for the reference
            prompts themselves.
    """
    count = min(NEIGHBORS + omitted, len(reference))
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(embeddings), _CHUNK):
        similar = embeddings[start : start + _CHUNK] @ reference.T
        nearest = np.sort(np.partition(similar, -count, axis=1)[:, -count:], axis=1)
        parts.append(1 - nearest[:, : count - omitted].mean(1))
    return np.concatenate(parts)
