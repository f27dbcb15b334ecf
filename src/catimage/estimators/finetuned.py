"""A text encoder trained on the labels, end to end, as CEMS trains CLIP's to choose between
generators.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from catimage.common.arrays import Floats
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.features.steps import PooledEmbedding
from catimage.estimators.training import CROSS_ENTROPY, Schedule, label_loss, scaled, train
from catimage.params import EstimatorParams

_PROMPTS = 64
"""Predicted at once."""


class FineTunedRegressor(LabelRegressor):
    """The text tower, then dropout and a linear head of an output a candidate, a sigmoid, and
    CATImage 5.1's loss and scaling.

    It reads prompts (n,), not features. AdamW trains the tower at a low rate, the head at a higher
    one, and stops early; labels that are missing add nothing to the loss. The head starts at the
    candidates' mean labels, and reads embeddings standardised by what the tower said before
    training. Weights are rounded to half precision when training is done, kept as arrays and put
    into the tower again where it predicts; the model that the encoder names is needed there for its
    architecture and tokenizer.

    Args:
        text: a :class:`~catimage.estimators.features.steps.PooledEmbedding`, which names the
            encoder.
        rate: of the tower; ``head_rate``: of the head.
        device: torch's name for training, or ``auto``; prediction is on the CPU.
    """

    def __init__(
        self,
        text: Any = None,
        rate: float = 5e-5,
        head_rate: float = 1e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.2,
        batch: int = 32,
        epochs: int = 12,
        patience: int = 3,
        validation_fraction: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.text = text
        self.rate = rate
        self.head_rate = head_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from prompts X (n,) and labels y (n, n_candidates) or (n,), NaN where missing.

        Raises:
            InputError: X has features in place of prompts, the encoder cannot be loaded, or a
                candidate has no label.
        """
        if not isinstance(self.text, PooledEmbedding):
            raise ValueError(
                f"text must be a PooledEmbedding, not {self.text!r}; name the encoder in the"
                " features"
            )
        prompts = _prompts(X)
        y = self._labels(y)
        check_consistent_length(prompts, y)
        target, self.low_, self.high_ = scaled(y)
        self.weights_ = self._train(prompts, target)
        self._loaded = None
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        import torch

        check_is_fitted(self)
        prompts = _prompts(X)
        net = self._trained()
        with torch.no_grad():
            parts = [
                torch.sigmoid(net(prompts[i : i + _PROMPTS])).numpy()
                for i in range(0, len(prompts), _PROMPTS)
            ]
        return self._shaped(
            self.low_ + np.concatenate(parts).astype(np.float64) * (self.high_ - self.low_)
        )

    def multiply_adds(self, X: Any) -> int:
        """None: tower and head are torch's, which counts them itself."""
        return 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is made of the weights again."""
        return {key: value for key, value in super().__getstate__().items() if key != "_loaded"}

    def _train(self, prompts: list[str], target: Floats) -> dict[str, NDArray[np.float16]]:
        import torch

        from catimage.common.devices import device_of

        where = torch.device(device_of(self.device))
        with torch.random.fork_rng(devices=[where.index or 0] if where.type == "cuda" else []):
            torch.manual_seed(self.random_state)
            net = self._network(target.shape[1])
            net.start(prompts, target)
            net.to(where)
            groups = [
                {"params": net.tower.parameters(), "lr": self.rate},
                {"params": net.head.parameters(), "lr": self.head_rate},
            ]
            train(
                net,
                torch.optim.AdamW(groups, weight_decay=self.weight_decay),
                lambda rows: label_loss(
                    net([prompts[i] for i in rows]), target[rows], CROSS_ENTROPY
                ),
                len(prompts),
                Schedule(self.batch, self.epochs, self.patience, self.validation_fraction),
                np.random.default_rng(self.random_state),
            )
        kept = {**dict(net.named_parameters()), "mean": net.mean, "scale": net.scale}
        return {key: value.detach().cpu().numpy().astype(np.float16) for key, value in kept.items()}

    def _network(self, heads: int) -> Any:
        from catimage.encoders.loading import load_encoder
        from catimage.estimators.text_tower import Tower

        return Tower(load_encoder(self.text.encoder), heads, self.dropout)

    def _trained(self) -> Any:
        """The network with the weights that were learned, made once a process."""
        import torch

        if getattr(self, "_loaded", None) is None:
            net = self._network(len(self.weights_["head.1.bias"])).eval()
            state = {
                key: torch.from_numpy(value.astype(np.float32))
                for key, value in self.weights_.items()
            }
            net.load_state_dict(
                state, strict=False
            )  # buffers of the tower are as the model has them
            self._loaded = net
        return self._loaded


def _prompts(X: Any) -> list[str]:
    prompts = np.asarray(X, object)
    if prompts.ndim != 1 or not all(isinstance(p, str) for p in prompts):
        raise InputError(
            "train.estimators: a fine-tuned encoder reads prompts, not features: set its features"
            " to [prompts] or leave them out."
        )
    return [str(p) for p in prompts]


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """A fine-tuned text tower: of the encoder that its features name, or the workspace's."""
    encoder = next((f.encoder for f in spec.features if f.encoder), context.encoder)
    return UnfittedEstimator(
        FineTunedRegressor(PooledEmbedding(**encoder.model_dump()), random_state=context.seed),
        features=("prompts",),
    )
