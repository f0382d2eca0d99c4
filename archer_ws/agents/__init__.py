"""Agents turn a user's turn into completions. Two exist: DirectAgent calls the model once, ToolLoopAgent until no call
is left."""
