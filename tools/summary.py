"""Starts `paddlefcn summary`; see paddlefcn/commands/summary.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from paddlefcn.commands import main

if __name__ == "__main__":
    sys.exit(main(["summary", *sys.argv[1:]]))
