"""One field of a nested mapping by its dotted name."""

import pytest

from sweeps.dotted_fields import set_field


@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        ({"a": 1, "b": 2}, "a", {"a": 3, "b": 2}),
        ({}, "a", {"a": 3}),
        ({"a": {"b": 1, "c": 2}}, "a.b", {"a": {"b": 3, "c": 2}}),
        ({"a": None}, "a.b.c", {"a": {"b": {"c": 3}}}),
        ({"ladder": {1: "x", 4: "y"}}, "ladder.4", {"ladder": {1: "x", 4: 3}}),
    ],
)
def test_a_field_is_set_in_a_copy(document, field, expected):
    before = repr(document)
    assert set_field(document, field, 3) == expected
    assert repr(document) == before


@pytest.mark.parametrize(
    ("field", "message"),
    [("", "is empty"), ("a.", "is empty"), (".a", "is empty"), ("b..c", "is empty"), ("a.b", "'a' is 1, which has no")],
)
def test_a_name_that_leads_nowhere_is_refused(field, message):
    with pytest.raises(ValueError, match=message):
        set_field({"a": 1, "b": {"c": 2}}, field, 3)
