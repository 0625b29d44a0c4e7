"""Every notebook runs from clean in a real kernel, and its last cell asserts what it claims."""

import os
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_asserts_what_it_claims(path, tmp_path, monkeypatch):
    # The kernel is started with this environment: its files stay in the test's folder, and it shows no secrets.
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PPL_MODELS_QUICK", "1")  # fewer epochs and rows, where a notebook offers that
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = jupytext.read(path)
    assert "assert " in notebook.cells[-1].source
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    failed = [cell for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert not failed


def test_there_are_notebooks():
    assert NOTEBOOKS
