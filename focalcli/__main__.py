"""`python -m focalcli` is `focal`."""

from focalcli.cli import main

if __name__ == "__main__":
    main()
