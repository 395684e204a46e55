"""Files that go into a bundle as they are and run without this package."""
