"""What a user asks for in one sentence: train, evaluate, predict, export. One file each, used by the command line."""
