from __future__ import annotations

from airflow_mlpipe import operators


def test_what_is_public_is_listed_and_there():
    assert operators.__all__ == sorted(operators.__all__) == sorted(operators._MODULES)
    assert {getattr(operators, name).__name__ for name in operators.__all__} == set(operators.__all__)
    assert {"EstimatorOperator", "MpiOperator"} < set(operators.__all__)
