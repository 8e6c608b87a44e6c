"""``python -m deadtokens`` is the command ``deadtokens``."""

from deadtokens.cli import run

if __name__ == "__main__":
    run()
