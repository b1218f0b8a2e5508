"""Registries: order, duplicates, and helpful errors for unknown names. Errors: one readable message."""

from __future__ import annotations

import pytest

from medrecon import errors
from medrecon.registry import Registry


def filled() -> Registry:
    registry: Registry = Registry("fruit")
    registry.register("pear", colour="green")(object())
    registry.register("apple")(dict)
    return registry


def test_names_keep_the_order_of_registration():
    assert filled().names() == ["pear", "apple"]
    assert [entry.name for entry in filled()] == ["pear", "apple"]


def test_the_decorator_returns_what_it_decorates_and_keeps_the_metadata():
    registry: Registry = Registry("fruit")
    value = registry.register("pear", colour="green")(int)
    assert value is int
    assert registry.get("pear") is int
    assert registry.entry("pear").meta == {"colour": "green"}


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match="twice"):
        filled().register("pear")(3)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(errors.UsageError, match=r"unknown fruit 'appel'.*Did you mean apple") as caught:
        filled().get("appel")
    assert caught.value.exit_code == 2


def test_a_name_that_resembles_nothing_lists_all():
    with pytest.raises(errors.UsageError, match="Known: pear, apple"):
        filled().get("zzz")


def test_the_summary_is_the_first_line_of_the_docstring():
    def documented() -> None:
        """First line.

        Second line.
        """

    registry: Registry = Registry("function")
    registry.register("f")(documented)
    assert registry.entry("f").summary == "First line."


def test_a_message_has_all_its_parts_in_order():
    error = errors.InputError("bad shape", where="scan.h5", found=(1, 2), expected=(3,), hint="Transpose it.")
    assert str(error) == "scan.h5: bad shape; found (1, 2); expected (3,). Transpose it."


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.MedreconError, 1),
        (errors.UsageError, 2),
        (errors.InputError, 3),
        (errors.CorruptInput, 3),
        (errors.UnsafeInput, 3),
        (errors.TooLarge, 3),
        (errors.ResumeError, 3),
        (errors.NonFinite, 1),
        (errors.Diverged, 1),
    ],
)
def test_exit_codes(kind: type[errors.MedreconError], code: int):
    assert kind("what").exit_code == code
    assert issubclass(kind, errors.MedreconError)


def test_a_missing_dependency_names_the_extra():
    error = errors.MissingDependency("finufft", "mri", "radial sampling")
    assert error.exit_code == 4
    assert "pip install 'medrecon[mri]'" in str(error)
