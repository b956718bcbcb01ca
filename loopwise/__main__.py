"""Run the command line: ``python -m loopwise``."""

from loopwise.service.cli import run

if __name__ == "__main__":
    run()
