"""``python -m keras_transfer``."""

from keras_transfer.cli import main

main()
