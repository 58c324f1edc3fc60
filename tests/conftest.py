import gc


def pytest_collection_finish() -> None:
    """Keep modules and tests, which stay to the end, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
