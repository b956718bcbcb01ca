"""What the commands tell the user besides their results."""

import sys


def say(line: str) -> None:
    """Tell the user something on standard error, where it does not mix with results."""
    print(f"loopwise: {line}", file=sys.stderr)
