"""Who may come in: hosts and origins, credentials, tickets."""
