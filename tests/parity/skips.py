"""What is skipped for want of a tool."""

import os
import sys


def skip(what, tool):
    """A line for whoever counts what was skipped; the end where the tool is required."""
    print(what)
    if os.environ.get("SKIPPED"):
        with open(os.environ["SKIPPED"], "a") as skipped:
            skipped.write(what + "\n")
    if tool in os.environ.get("REQUIRE", "").split(","):
        sys.exit(1)
