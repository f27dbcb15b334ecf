"""The router as an MLflow pyfunc model that is loaded from code.

MLflow stores this file and the folder ``models/router`` with the model, and runs the file when the
model is loaded. No pickle is used, and no other module imports this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from catimage.router import Router


class RoutingModel(PythonModel):
    """A model that selects a candidate for each prompt.

    Example:
        >>> prompts = pd.DataFrame({"prompt": ["a red circle"]})  # doctest: +SKIP
        >>> model.predict(prompts, params={"budget": 2.0})  # doctest: +SKIP
    """

    def load_context(self, context: Any) -> None:
        """Load the router from the artifact ``router`` of the model."""
        self.router = Router.load(Path(context.artifacts["router"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Route prompts.

        Args:
            context: the context of MLflow, which is not used.
            model_input: a table with the column ``prompt``.
            params: ``budget``, a mean cost, or ``lambda``; without either, the calibrated rule is
                used. ``seed``, a whole number, makes the decisions repeatable.

        Returns:
            One row per prompt with the columns ``prompt``, ``candidate``, ``cost``,
            ``predicted_quality`` and ``lambda``.

        Raises:
            InputError: see :meth:`catimage.router.Router.route`.
        """
        settings = params or {}
        decisions = self.router.route(
            model_input["prompt"].tolist(),
            settings.get("lambda"),
            settings.get("budget"),
            settings.get("seed"),
        )
        rows = [(d.prompt, d.candidate, d.cost, d.predicted_quality, d.lam) for d in decisions]
        columns = ["prompt", "candidate", "cost", "predicted_quality", "lambda"]
        return pd.DataFrame(rows, columns=columns)


set_model(RoutingModel())
