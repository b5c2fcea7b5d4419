"""`python -m lightmatch` is `lightmatch`."""

from lightmatch.cli import main

if __name__ == "__main__":
    main()
