import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "server" / "bench"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("bench_stablehlo", BENCH / "stablehlo.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCH))


def test_packages_are_weighed_as_an_image_has_them(bench):
    found = bench.package_bytes()

    assert {kind: one["packages_not_installed"] for kind, one in found.items()} == {"saved_model": 0, "stablehlo": 0}
    # TensorFlow alone is larger than all that the other has.
    assert 3e8 < found["stablehlo"]["bytes"] < found["saved_model"]["bytes"] / 2


def test_what_was_found_is_told_side_by_side(bench):
    def spread(value):
        return {"median": value, "min": value / 2, "max": value * 2}

    start = {key: spread(3.0) for key in ("ready_s", "cpu_s", "rss_mb")}
    cell = {"per_s": spread(1000.0), "cpu_us": spread(40.0)}
    model = {
        "saved_model_bytes": 2e6, "stablehlo_bytes": 1e6, "starts": dict.fromkeys(bench.KINDS, start),
        "cells": {f"grpc, {kind}": cell for kind in bench.KINDS},
        "rss_after_load_mb": {"saved_model": 700.0, "stablehlo": 250.0},
        "ratios": {
            name: spread(0.5)
            for name in ("start, ready_s", "start, cpu_s", "start, rss_mb", "grpc, per_s", "grpc, cpu_us")
        },
        "parity": {"max_abs": 1e-7, "largest": 2.0},
    }  # fmt: skip
    packages = {"saved_model": {"bytes": 1.6e9}, "stablehlo": {"bytes": 4.7e8}}
    results = {
        "cpus": 2,
        "load_1m_at_start": 0.1,
        "rounds": 5,
        "seconds": 2.0,
        "packages": packages,
        "models": {"m": model},
    }

    told = bench.markdown(results)

    assert "unpacked: saved_model 1,600 MB, stablehlo 470 MB." in told
    assert "| grpc, CPU µs/request | 40 (20 to 80) | 40 (20 to 80) | 0.5 (0.25 to 1) |" in told
    assert "| files, MB | 2.00 | 1.00 | 0.50 |" in told
    assert "Answers differ by 1e-07 at most; the largest is 2." in told
