"""``python -m ordage`` is ``ordage``."""

from .cli import main

if __name__ == "__main__":
    main()
