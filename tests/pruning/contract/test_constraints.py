from __future__ import annotations

import pytest
from pydantic import ValidationError

from pruning.contract.errors import InvalidSpec
from pruning.contract.errors_from_validation import from_validation
from pruning.contract.spec import Constraints


def test_normalized_axes_are_kept_or_pruned_and_nothing_else_is_accepted() -> None:
    assert Constraints().normalized_axes == "keep"
    assert Constraints.model_validate({"normalized_axes": "prune"}).normalized_axes == "prune"
    with pytest.raises(ValidationError) as caught:
        Constraints.model_validate({"normalized_axes": "fold"})
    error = from_validation(caught.value)
    assert isinstance(error, InvalidSpec)
    assert "normalized_axes" in error.detail
    assert "'keep'" in error.detail
