"""`python -m fitter` is `hrn`."""

from fitter.cli.main import main

if __name__ == "__main__":
    main()
