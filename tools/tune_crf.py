"""Starts `paddlefcn tune-crf`; see paddlefcn/commands/tune_crf.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from paddlefcn.commands import main

if __name__ == "__main__":
    sys.exit(main(["tune-crf", *sys.argv[1:]]))
