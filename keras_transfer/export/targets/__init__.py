"""Targets: what is made for a runtime, by which rules, and in which runtime it is proven. One file each; light."""
