import pytest


@pytest.fixture(autouse=True)
def no_width_of_somebody_elses_terminal(monkeypatch):
    """Tables go to files and pipes here; parallel test runners hand on the width of their own terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
