"""The router as an MLflow pyfunc, stored as this code and the folder ``models/router``
(models-from-code: no pickle).

MLflow copies this file into the model and runs it on loading; nothing else imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from catimage.router import Router


class RoutingModel(PythonModel):
    """``predict(DataFrame(prompt), params={"budget": B} or {"lambda": L})``: a row a prompt;
    neither means the calibrated lambda.
    """

    def load_context(self, context: Any) -> None:
        """Loads the router from the model's artifact."""
        self.router = Router.load(Path(context.artifacts["router"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Columns ``prompt, candidate, cost, predicted_quality, lambda``.

        Raises:
            InputError: as :meth:`catimage.router.Router.route`.
        """
        given = params or {}
        decisions = self.router.route(
            model_input["prompt"].tolist(), given.get("lambda"), given.get("budget")
        )
        rows = [(d.prompt, d.candidate, d.cost, d.predicted_quality, d.lam) for d in decisions]
        return pd.DataFrame(
            rows, columns=["prompt", "candidate", "cost", "predicted_quality", "lambda"]
        )


set_model(RoutingModel())
