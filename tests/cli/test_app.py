"""What the command line adds to what it calls."""

import pytest

from catimage.cli.app import route
from catimage.errors import InputError


@pytest.mark.parametrize("lam", [float("inf"), float("nan")])
def test_a_lambda_that_json_cannot_hold_is_refused(lam):
    with pytest.raises(InputError, match=r"--lambda must be a finite number"):
        route(["a moon"], lam=lam, as_json=True)
