"""`python -m recorder` is `drift-recorder`."""

from recorder.cli import main

if __name__ == "__main__":
    main()
