"""`python -m selectllm` is the command line."""

import sys

from selectllm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
