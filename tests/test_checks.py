import dataclasses
import math

import pytest

from ppl_models.diagnostics import Check


def test_prints_one_readable_line():
    text = str(Check("k-hat", 0.83, 0.7, False, "use a richer guide", 0.05, "10,000 draws"))
    assert text == "FAIL k-hat: 0.83 ± 0.05 (limit 0.7); 10,000 draws; use a richer guide"


def test_unmeasured_is_marked_so():
    check = Check("k-hat", math.nan, 0.7, None, "")
    assert check.mark == "?"
    assert "not measured" in str(check)
    assert "\n" not in str(check)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Check("k-hat", 0.1, 0.7, True, "").value = 1.0  # pyright: ignore
