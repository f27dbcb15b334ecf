"""An estimator that fine-tunes a text encoder on the labels, as CEMS (2024) fine-tunes the text
encoder of CLIP to select a generator for each prompt.
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
from catimage.estimators.features.text import PooledEmbedding
from catimage.estimators.training import (
    CROSS_ENTROPY,
    TrainingLoopSettings,
    label_loss,
    scale_labels,
    train,
)
from catimage.params import EstimatorParams

_PREDICTION_BATCH = 64


class FineTunedRegressor(LabelRegressor):
    """Text encoder with dropout, a linear head with one output per candidate, and a sigmoid.

    Experimental: no significant gain over the best single candidate on the real data sets in
    docs/estimators.md.

    X is a 1-D array of prompts, not a feature matrix. The loss and the scaling of labels are those
    of the CATImage paper, section 5.1. AdamW with early stopping trains the text encoder and, at a
    higher learning rate, the head. The input of the head is the standardised embedding of the
    prompt, and its initial prediction is the mean label of each candidate. The weights are stored
    in half precision; predictions also need the model that ``embedding`` names, for its
    architecture and its tokenizer.

    Args:
        embedding: a :class:`~catimage.estimators.features.text.PooledEmbedding`, which names the
            text encoder.
        learning_rate: learning rate of the text encoder.
        head_learning_rate: learning rate of the head.
        weight_decay: weight decay of AdamW.
        dropout: dropout probability of the embedding.
        batch_size: number of prompts per update.
        max_iter: maximum number of epochs.
        n_iter_no_change: number of epochs without a lower validation loss before training stops.
        validation_fraction: fraction of the prompts held out to compute the validation loss.
        device: torch device of the training, or ``auto``; predictions run on the CPU.
        random_state: seed of dropout, the batches and the validation prompts.

    Attributes:
        weights_: float16 arrays by the names of the parameters of
            :class:`~catimage.estimators.text_tower.TextTowerWithHead`.
        n_iter_: number of epochs run.
        low_, high_: minimum and maximum of the labels.
    """

    def __init__(
        self,
        embedding: Any = None,
        learning_rate: float = 5e-5,
        head_learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.2,
        batch_size: int = 32,
        max_iter: int = 12,
        n_iter_no_change: int = 3,
        validation_fraction: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.embedding = embedding
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on prompts X (n_prompts,) and labels y (n_prompts, n_candidates) or (n_prompts,),
        NaN if missing.

        Raises:
            InputError: X is not an array of prompts, the text encoder cannot be loaded, or a
                candidate has no label.
            ValueError: ``embedding`` is not a PooledEmbedding.
        """
        if not isinstance(self.embedding, PooledEmbedding):
            raise ValueError(
                f"embedding: must be a PooledEmbedding, not {self.embedding!r}. Name the text"
                " encoder in the features."
            )
        prompts = _prompts(X)
        y = self._validate_labels(y)
        check_consistent_length(prompts, y)
        target, self.low_, self.high_ = scale_labels(y)
        self.weights_ = self._train(prompts, target)
        self._loaded = None
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric, (n_prompts, n_candidates), of
        prompts X (n_prompts,).
        """
        import torch

        check_is_fitted(self)
        prompts = _prompts(X)
        net = self._load_network()
        with torch.no_grad():
            outputs = [
                torch.sigmoid(net(prompts[i : i + _PREDICTION_BATCH])).numpy()
                for i in range(0, len(prompts), _PREDICTION_BATCH)
            ]
        scaled = np.concatenate(outputs).astype(np.float64)
        return self._restore_shape(self.low_ + scaled * (self.high_ - self.low_))

    def multiply_adds(self, X: Any) -> int:
        """Return 0, because torch's FLOP counter counts the text encoder and the head."""
        return 0

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the torch module, which is rebuilt from ``weights_``."""
        return {key: value for key, value in super().__getstate__().items() if key != "_loaded"}

    def _train(self, prompts: list[str], target: Floats) -> dict[str, NDArray[np.float16]]:
        """Return the weights of the epoch with the lowest validation loss, by parameter name."""
        import torch

        from catimage.common.devices import device_of

        device = torch.device(device_of(self.device))
        with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
            torch.manual_seed(self.random_state)
            net = self._network(target.shape[1])
            net.initialize(prompts, target)
            net.to(device)
            result = train(
                net,
                self._optimizer(net),
                lambda rows: label_loss(
                    net([prompts[i] for i in rows]), target[rows], CROSS_ENTROPY
                ),
                len(prompts),
                TrainingLoopSettings(
                    self.batch_size, self.max_iter, self.n_iter_no_change, self.validation_fraction
                ),
                np.random.default_rng(self.random_state),
            )
        self.n_iter_ = result.n_iter
        tensors = {**dict(net.named_parameters()), "mean": net.mean, "scale": net.scale}
        return {
            name: tensor.detach().cpu().numpy().astype(np.float16)
            for name, tensor in tensors.items()
        }

    def _optimizer(self, net: Any) -> Any:
        import torch

        groups = [
            {"params": net.text_tower.parameters(), "lr": self.learning_rate},
            {"params": net.head.parameters(), "lr": self.head_learning_rate},
        ]
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)

    def _network(self, n_candidates: int) -> Any:
        from catimage.encoders.loading import load_encoder
        from catimage.estimators.text_tower import TextTowerWithHead

        return TextTowerWithHead(load_encoder(self.embedding.encoder), n_candidates, self.dropout)

    def _load_network(self) -> Any:
        """Return the torch module with the trained weights, built on the first call."""
        import torch

        if getattr(self, "_loaded", None) is None:
            net = self._network(len(self.weights_["head.1.bias"])).eval()
            state = {
                name: torch.from_numpy(array.astype(np.float32))
                for name, array in self.weights_.items()
            }
            net.load_state_dict(state, strict=False)  # the text tower's buffers are not in weights_
            self._loaded = net
        return self._loaded


def _prompts(X: Any) -> list[str]:
    """Return X as a list of prompts; raise InputError if it is not a 1-D array of strings."""
    prompts = np.asarray(X, object)
    if prompts.ndim != 1 or not all(isinstance(p, str) for p in prompts):
        raise InputError(
            "train.estimators: an estimator of kind finetuned reads prompts, not features. Set its"
            " 'features' to [prompts], or remove them."
        )
    return [str(p) for p in prompts]


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return an estimator that fine-tunes the text encoder named in ``spec.features``, or the text
    encoder of the workspace if the features name none.
    """
    encoder = next((f.encoder for f in spec.features if f.encoder), context.encoder)
    return UnfittedEstimator(
        FineTunedRegressor(PooledEmbedding(**encoder.model_dump()), random_state=context.seed),
        features=("prompts",),
    )
