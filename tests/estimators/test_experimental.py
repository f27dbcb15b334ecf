import inspect
import sys

import pytest

from catimage.estimators.build import BUILDERS
from catimage.estimators.experimental import EXPERIMENTAL
from catimage.params.train import TrainParams


def test_experimental_kinds_can_be_built_and_are_not_in_the_default_list():
    assert set(EXPERIMENTAL) == {"clusters", "finetuned"}
    assert EXPERIMENTAL.items() <= BUILDERS.items()
    assert not {e.resolved_kind for e in TrainParams().estimators} & EXPERIMENTAL.keys()


@pytest.mark.parametrize("kind", EXPERIMENTAL)
def test_experimental_regressors_are_documented_as_experimental(kind):
    module = sys.modules[EXPERIMENTAL[kind].__module__]
    documented = [
        name
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__
        and "Experimental: no significant gain over the best single candidate"
        " on the real data sets in docs/estimators.md."
        in " ".join(cls.__doc__.split())
    ]
    assert len(documented) == 1
