from __future__ import annotations

import http.server
import multiprocessing
import signal
import threading
import time

import pytest

from airflow_mlpipe.cli import child
from airflow_mlpipe.cli.child import Order
from airflow_mlpipe.exceptions import AirflowError


def test_an_order_survives_the_command_line():
    order = Order(
        "/a b/pipeline.py", "2025-01-01T00:00:00+00:00", "2025-01-01", "/e", {"x": 1.5, "y": "ü"}, parallel=True
    )
    assert Order.from_json(order.to_json()) == order


def test_a_signal_is_an_interrupt_that_leaves_no_worker_to_begin_what_is_queued():
    before = signal.getsignal(signal.SIGTERM)
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    worker.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            child._stop(signal.SIGTERM, None)
        worker.join(30)
        assert worker.exitcode == -signal.SIGKILL
    finally:
        worker.kill()
        signal.signal(signal.SIGTERM, before)


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/execution/health/ping" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_steps_wait_for_the_execution_api(monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/execution/"
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", url)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        child._await_api()
        server.shutdown()


def test_an_api_that_never_answers_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://127.0.0.1:9/execution/")
    monkeypatch.setattr(child, "API_SECONDS", 0.2)
    with pytest.raises(AirflowError, match=r"127\.0\.0\.1:9/execution/health/ping"):
        child._await_api()
