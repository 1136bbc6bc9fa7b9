"""`python -m fromnoise`, so that `torchrun -m fromnoise` works too."""

from fromnoise.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
