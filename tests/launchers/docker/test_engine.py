from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker.engine import connect
from airflow_mlpipe.resolving.addresses import Address


def test_certificates_that_are_not_there_are_named(tmp_path):
    with pytest.raises(StepError, match=r"no Docker engine can be reached at tcp://127.0.0.1:9"):
        connect(Address("tcp://127.0.0.1:9", {"verify": True, "ca_cert": str(tmp_path / "no.pem")}), None)
