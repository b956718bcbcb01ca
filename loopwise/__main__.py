"""Run the command line: ``python -m loopwise``."""

from loopwise.service.cli import main

if __name__ == "__main__":
    main()
