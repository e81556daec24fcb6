"""The option that records what the error cases say."""


def pytest_addoption(parser):
    """Add ``--write-expected``."""
    parser.addoption(
        "--write-expected",
        action="store_true",
        help="record the texts of tests/errors instead of comparing them",
    )
