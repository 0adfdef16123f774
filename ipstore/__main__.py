"""``python -m ipstore``: the command line."""

from ipstore.cli.app import main

if __name__ == "__main__":
    main()
