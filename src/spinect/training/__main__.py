"""``python -m spinect.training CONFIG --run FOLDER --set a.b=c``: train without the full CLI."""

import argparse
import logging
import sys
from pathlib import Path

from spinect.errors import SpinectError
from spinect.training import check_checkpoint, export, load_config, train


def main() -> int:
    """Parse, call `train` (and `export`), and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinect.training", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="run folder; resumed if it exists")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides")
    parser.add_argument("--export", type=Path, help="bundle folder to write at the end")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="of it")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(asked.config, asked.overrides)
        check_checkpoint(config, asked.checkpoint)
        run = train(config, asked.run)
        if asked.export is not None:
            export(run, asked.export, checkpoint=asked.checkpoint)
    except SpinectError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
