"""What turns a conversation's turn into an answer: the one agent there is asks the model straight away."""
