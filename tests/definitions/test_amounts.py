from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions.amounts import amount_of, cpu_count, memory_bytes
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    ("amount", "size"),
    [
        ("1", 1),
        ("1k", 1000),
        ("512Mi", 512 * 1024**2),
        ("4Gi", 4 * 1024**3),
        ("4G", 4 * 1000**3),
        ("1.5Gi", 1536 * 1024**2),
        ("1Ti", 1024**4),
    ],
)
def test_amounts_of_memory_are_those_of_kubernetes(amount, size):
    assert memory_bytes(amount) == size


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("512m", 'Did you mean "512Mi"?'),
        ("4g", 'Did you mean "4Gi"?'),
        ("4GB", 'Did you mean "4G"?'),
        ("4GiB", 'Did you mean "4Gi"?'),
        ("1KB", 'Did you mean "1k"?'),
        ("4 Gi", 'Write a number and a unit: "512Mi"'),
        ("-1Gi", "is no amount of memory"),
        ("Gi", "is no amount of memory"),
        ("", "is no amount of memory"),
        ("0Gi", "must be more than 0"),
        ("4Gi\n", "is no amount of memory"),
        ("4X", "is no amount of memory"),
    ],
)
def test_what_is_no_amount_of_memory_is_refused_with_what_was_meant(amount, words):
    with refused(words):
        memory_bytes(amount)


@pytest.mark.parametrize(("amount", "count"), [(2, 2.0), ("2", 2.0), (0.5, 0.5), ("500m", 0.5), ("1.25", 1.25)])
def test_processors_are_counted_in_whole_in_parts_and_in_thousandths(amount, count):
    assert cpu_count(amount) == count


@pytest.mark.parametrize(
    ("amount", "words"),
    [(True, "is no number"), ("two", "is no number"), (0, "more than 0"), (-1, "is no number"), ("1Gi", '"500m"')],
)
def test_what_is_no_number_of_processors_is_refused(amount, words):
    with refused(words):
        cpu_count(amount)


@pytest.mark.parametrize(("quantity", "value"), [("2", "2"), ("500m", "0.5"), ("1Ki", "1024"), ("100n", "1e-7")])
def test_a_quantity_is_a_number(quantity, value):
    assert amount_of(quantity) == Decimal(value)


@pytest.mark.parametrize("quantity", ["", "two", "1KB", "1 Gi", "--1"])
def test_what_is_no_quantity_is_refused(quantity):
    with refused("is no quantity"):
        amount_of(quantity)


@given(st.integers(1, 10**6), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_memory_and_quantities_agree(number, unit):
    assert memory_bytes(f"{number}{unit}") == amount_of(f"{number}{unit}")
