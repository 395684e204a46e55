"""Files of other languages that go into a bundle."""
