"""Which requests are allowed: hosts and origins, credentials, tickets."""
