"""The base class of the sections of ``params.yaml``, and the type of names of folders."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from catimage.common.names import name_problem


class Section(BaseModel):
    """A section: an immutable mapping with typed keys. An unknown key is an error.

    A section without keys (``sample:`` in YAML) has the defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, section: Any) -> Any:
        return {} if section is None else section


def _valid_name(name: str) -> str:
    problem = name_problem(name)
    if problem:
        raise ValueError(f"the name {problem}")
    return name


FolderName = Annotated[str, AfterValidator(_valid_name)]
"""A name that becomes the name of a folder, such as that of a metric."""
