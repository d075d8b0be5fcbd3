"""``python -m ccverify`` is the command line."""

from ccverify.cli import main

if __name__ == "__main__":
    main()
