"""The router as an MLflow pyfunc model from code.

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
    """Routes prompts: ``model.predict(DataFrame({"prompt": [...]}), params={"budget": 2.0})``.

    ``params`` may have ``budget`` (mean cost) or ``lambda``; without either, the calibrated rule is
    used.
    """

    def load_context(self, context: Any) -> None:
        """Load the router from the model's artifact."""
        self.router = Router.load(Path(context.artifacts["router"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row per prompt: ``prompt, candidate, cost, predicted_quality, lambda``.

        Raises:
            InputError: see :meth:`catimage.router.Router.route`.
        """
        settings = params or {}
        decisions = self.router.route(
            model_input["prompt"].tolist(), settings.get("lambda"), settings.get("budget")
        )
        rows = [(d.prompt, d.candidate, d.cost, d.predicted_quality, d.lam) for d in decisions]
        columns = ["prompt", "candidate", "cost", "predicted_quality", "lambda"]
        return pd.DataFrame(rows, columns=columns)


set_model(RoutingModel())
