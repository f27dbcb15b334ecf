"""What every section of ``params.yaml`` is: typed, frozen, and with no key that is not known."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of ``params.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
