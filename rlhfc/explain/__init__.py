"""What stands behind a verdict, a run or a value; and what differs between two of them."""

FORMAT_VERSION = "1.0"
"""Of every JSON document of this package. Within format 1 fields are only ever added."""
