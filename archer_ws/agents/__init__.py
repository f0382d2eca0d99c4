"""What turns a conversation's turn into an answer. Today: straight to the model."""
