"""What stands behind a verdict, a run or a value; and what differs between two of them."""
