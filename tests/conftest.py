"""Settings of every test: one torch thread, no hub, runs and caches in folders of their own."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _runs_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path / "runs"))
